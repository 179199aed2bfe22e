package visible

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/cdc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// gate returns one whose last snapshot was taken on timeline 2 of a cluster:
// transaction 15 still runs there, and 20 has not begun.
func gate() *Gate {
	g := New(Config{Logger: slog.New(slog.DiscardHandler)})
	g.server = server{systemID: "a", timeline: 2}
	g.last = snapshot{xmin: 15, xmax: 20, running: []uint64{15}}
	return g
}

func stamp(system string, timeline uint32, xids ...uint64) cdc.Stamp {
	return cdc.Stamp{Position: cdc.Position{SystemID: system, Timeline: timeline, LSN: 1}, XIDs: xids}
}

func TestOpen(t *testing.T) {
	for _, c := range []struct {
		name  string
		stamp cdc.Stamp
		open  bool
	}{
		{"ended", stamp("a", 2, 14, 16), true},
		{"running", stamp("a", 2, 14, 15, 16), false},
		{"not begun", stamp("a", 2, 20), false},
		{"an older timeline: what survived became visible with the promotion", stamp("a", 1, 15), true},
		{"a newer timeline than was seen", stamp("a", 3, 14), false},
		{"another cluster: a gap, and its flush covers the stamp", stamp("b", 2, 15), true},
		{"another cluster on a newer timeline", stamp("b", 3, 15), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.Equal(t, c.open, gate().open(&waiter{stamp: c.stamp}))
		})
	}
	require.False(t, New(Config{}).open(&waiter{stamp: stamp("a", 1, 1)}), "closed until a server was seen")
}

func TestWaitReturnsAtOnceWhereItCan(t *testing.T) {
	g := gate()
	require.NoError(t, g.Wait(t.Context(), stamp("a", 2, 14)))
	require.NoError(t, New(Config{}).Wait(t.Context(), stamp("a", 2)), "no transaction, nothing to see")
	require.Zero(t, g.count())
	require.Empty(t, g.wake, "nobody need look")
}

// A lazy gate leaves the server alone until somebody waits.
func TestLazyGate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var connects atomic.Int64
		g := New(Config{Lazy: true, Logger: slog.New(slog.DiscardHandler), Connect: func(context.Context) (*pgx.Conn, error) {
			connects.Add(1)
			return nil, errors.New("no server here")
		}})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		time.Sleep(time.Hour)
		require.Zero(t, connects.Load())
		waiting, giveUp := context.WithTimeout(t.Context(), time.Minute)
		defer giveUp()
		require.Error(t, g.Wait(waiting, stamp("a", 2, 15)))
		require.Positive(t, connects.Load())
		cancel()
		require.NoError(t, <-done)

		idle := New(Config{Lazy: true, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(t, idle.Run(ctx), "it ends without ever having been asked")
	})
}

func TestACancelledWaitLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate()
		why := errors.New("the lane stops")
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Wait(ctx, stamp("a", 2, 15)) }()
		synctest.Wait()
		require.Equal(t, 1, g.count())
		require.Len(t, g.wake, 1, "somebody must look")
		cancel(why)
		require.ErrorIs(t, <-done, why)
		require.Zero(t, g.count())
	})
}

// A wait that ends while a look lets it go must not block either.
func TestWaitersAreLetGoOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := gate()
		const waiters = 100
		done := make(chan error, waiters)
		for i := range waiters {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i%2)*time.Second+time.Second)
			defer cancel()
			go func() { done <- g.Wait(ctx, stamp("a", 2, 15, uint64(i))) }()
		}
		synctest.Wait()
		require.Equal(t, waiters, g.count())
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, waiters/2, g.count())
		g.mu.Lock()
		g.last = snapshot{xmin: 100, xmax: 100}
		for w := range g.waiting {
			if g.open(w) {
				delete(g.waiting, w)
				close(w.done)
			}
		}
		g.mu.Unlock()
		gone := 0
		for range waiters {
			if err := <-done; err == nil {
				gone++
			} else {
				require.ErrorIs(t, err, context.DeadlineExceeded)
			}
		}
		require.Equal(t, waiters/2, gone)
		require.Zero(t, g.count())
	})
}

// While the primary cannot be reached the gate tries again and again, with
// growing pauses, and stops when it is told to.
func TestRunTriesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries []time.Time
		g := New(Config{Logger: slog.New(slog.DiscardHandler), Connect: func(context.Context) (*pgx.Conn, error) {
			tries = append(tries, time.Now())
			return nil, errors.New("connection refused")
		}})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		require.NoError(t, g.Run(ctx))
		require.Greater(t, len(tries), 10)
		for i := 1; i < len(tries); i++ {
			pause := tries[i].Sub(tries[i-1])
			require.LessOrEqual(t, pause, 5*time.Second)
			if i > 1 {
				require.GreaterOrEqual(t, pause, tries[i-1].Sub(tries[i-2]))
			}
		}
	})
}
