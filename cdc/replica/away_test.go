package replica

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// world is a gate with one replica, whose connection cannot be made, and which is
// therefore moved by hand.
type world struct {
	gate  *Gate
	board *watermark.Board
	mu    sync.Mutex
	calls []string
	away  bool
	fails int
}

func (w *world) Left(context.Context, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails--; w.fails >= 0 {
		return errors.New("no room")
	}
	w.calls = append(w.calls, "left")
	return nil
}

func (w *world) Away(context.Context, string) (bool, error) { return w.away, nil }

func (w *world) Returned(context.Context, string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, "returned")
	return nil
}

func (w *world) called() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.calls)
}

func at(lsn cdc.LSN) cdc.Position { return cdc.Position{SystemID: "s", Timeline: 1, LSN: lsn} }

func (w *world) published(lsn cdc.LSN) {
	w.board.Advance(watermark.Mark{Stage: watermark.Published}, at(lsn))
}

// replayed is what an answer of the replica comes to.
func (w *world) replayed(lsn cdc.LSN) {
	w.gate.mu.Lock()
	defer w.gate.mu.Unlock()
	w.gate.members[0].replayed, w.gate.members[0].err = at(lsn), nil
	w.gate.settle()
}

// opens says after how long a position is let pass, or -1 if it is not.
func (w *world) opens(lsn cdc.LSN, within time.Duration) time.Duration {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	began := time.Now()
	if w.gate.Wait(ctx, at(lsn)) != nil {
		return -1
	}
	return time.Since(began)
}

func inBubble(t *testing.T, away bool, f func(t *testing.T, w *world)) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{board: watermark.NewBoard(), away: away}
		ctx, stop := context.WithCancel(t.Context())
		w.gate = New(Config{
			Replicas: []Replica{{Name: "r", Connect: func(context.Context) (*pgx.Conn, error) { <-ctx.Done(); return nil, ctx.Err() }}},
			Ledger:   w, Board: w.board, Leave: time.Minute, Logger: slog.New(slog.DiscardHandler),
		})
		ended := make(chan error)
		go func() { ended <- w.gate.Run(ctx) }()
		defer func() {
			stop()
			require.NoError(t, <-ended)
		}()
		f(t, w)
	})
}

func TestAReplicaLeavesAndComesBack(t *testing.T) {
	inBubble(t, false, func(t *testing.T, w *world) {
		w.replayed(10)
		w.published(10)
		require.Zero(t, w.opens(10, time.Second))
		require.Equal(t, time.Duration(-1), w.opens(20, 59*time.Second))
		w.mu.Lock()
		w.fails = 2 // it is let go only once that is written down
		w.mu.Unlock()
		took := w.opens(20, time.Hour)
		require.Greater(t, took, 62*time.Second)
		require.Less(t, took, 65*time.Second)
		require.Equal(t, []string{"left"}, w.called())
		require.Zero(t, w.opens(1000, time.Second), "nobody waits for it any more")
		require.True(t, w.gate.States()[0].Away)

		w.published(1000)
		time.Sleep(20 * time.Second)
		w.replayed(500)
		time.Sleep(time.Minute)
		require.Equal(t, []string{"left"}, w.called(), "not while it is far behind")
		w.replayed(1000)
		time.Sleep(time.Second)
		require.Equal(t, []string{"left", "returned"}, w.called(), "then every sink is flushed")
		require.Equal(t, time.Duration(-1), w.opens(1001, time.Second), "and it is waited for again")
		w.replayed(1001)
		require.Zero(t, w.opens(1001, time.Second))
	})
}

func TestAReplicaThatWasAwayAtTheEndOfAnEarlierRun(t *testing.T) {
	inBubble(t, true, func(t *testing.T, w *world) {
		w.published(100)
		require.Less(t, w.opens(50, time.Minute), time.Second, "it is not waited for")
		w.replayed(100)
		time.Sleep(time.Second)
		require.Equal(t, []string{"returned"}, w.called())
	})
}

func TestPositionsOfOtherLines(t *testing.T) {
	m := &member{}
	require.False(t, m.has(at(0)), "nothing is known yet")
	m.replayed = cdc.Position{SystemID: "s", Timeline: 2, LSN: 50}
	require.True(t, m.has(cdc.Position{SystemID: "s", Timeline: 1, LSN: 40}), "before a promotion")
	require.False(t, m.has(cdc.Position{SystemID: "s", Timeline: 2, LSN: 51}))
	require.True(t, m.has(cdc.Position{SystemID: "old", Timeline: 1, LSN: 99}), "of another cluster: that is a gap, and is flushed")
}

// A wait for one replica is not a wait for another that is down.
func TestWaitForOneReplica(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(Config{Replicas: []Replica{{Name: "up"}, {Name: "down"}}, Logger: slog.New(slog.DiscardHandler)})
		g.members[0].replayed = at(10)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.NoError(t, g.WaitFor(ctx, "up", at(10)))
		require.ErrorIs(t, g.WaitFor(ctx, "down", at(10)), context.DeadlineExceeded)
		require.ErrorIs(t, g.Wait(ctx, at(10)), context.DeadlineExceeded, "all are waited for")
	})
}
