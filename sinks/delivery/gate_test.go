package delivery

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// gated gives the world's lane a gate.
func (w *world) gated() *fakeGate {
	g := newGate()
	w.cfg.Gates = append(w.cfg.Gates, Gate{Name: "visible", Wait: g.Wait})
	return g
}

func TestNoPurgeBeforeTheGateOpens(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		inner, outer := w.gated(), w.gated()
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(5 * time.Second)
		require.Equal(t, Gated, w.lane.Status().State)
		inner.open(1)
		after(5 * time.Second)
		require.Empty(t, w.sink.values(), "both must be open")
		require.Zero(t, w.purged())
		outer.open(1)
		after(0)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.Equal(t, cdc.LSN(2), w.purged())
		require.Equal(t, OK, w.lane.Status().State)
		require.InDelta(t, 0, w.metric("gate_timeouts_total", "visible"), 0)
	})
}

func TestAGateThatStaysClosedPurgesEarlyAndAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.gated()
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(29 * time.Second)
		require.Empty(t, w.sink.values())
		after(time.Second)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.InDelta(t, 1, w.metric("gate_timeouts_total", "visible"), 0)
		after(time.Hour)
		require.Len(t, w.sink.values(), 1)
		require.Empty(t, w.src.acked(), "the repeat is due: a crash must bring it back")
		require.Zero(t, w.purged())
		g.open(1)
		after(0)
		require.Equal(t, [][]string{{"a"}, {"a"}}, w.sink.values())
		require.Equal(t, uint64(2), w.src.newest())
		require.Equal(t, cdc.LSN(2), w.purged())
	})
}

// A backlog behind a closed gate waits once, not once for each message.
func TestPatienceIsCountedFromTheClosingOfTheGate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.gated()
		w.run()
		defer w.halt()
		for seq := uint64(1); seq <= 100; seq++ {
			w.src.push(batch(seq, keys(100)[seq-1]))
		}
		after(30*time.Second + 100*shortWait)
		early := 0
		for _, v := range w.sink.values() {
			early += len(v)
		}
		require.Equal(t, 100, early)
		g.open(100)
		after(0)
		require.Equal(t, uint64(100), w.src.acked()[len(w.src.acked())-1])

		// Once it has opened, the patience is whole again.
		calls := len(w.sink.values())
		w.src.push(batch(101, "x"))
		after(29 * time.Second)
		require.Len(t, w.sink.values(), calls)
		after(time.Second)
		require.Len(t, w.sink.values(), calls+1)
		g.open(101)
		after(0)
	})
}

func TestASlowGateDoesNotReorderAcks(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := newGate()
		// Only the first message's transaction is slow to be seen.
		w.cfg.Gates = []Gate{{Name: "visible", Wait: func(ctx context.Context, m invalidation.Message) error {
			if m.Seq == 1 {
				return g.Wait(ctx, m)
			}
			return nil
		}}}
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), batch(2, "b"), claim(3, 1))
		after(time.Minute)
		require.Equal(t, []string{"a", "b"}, slices.Concat(w.sink.values()...))
		require.Empty(t, w.src.acked())
		require.Zero(t, w.purged())
		g.open(1)
		after(0)
		require.Equal(t, uint64(3), w.src.newest())
		require.Equal(t, cdc.LSN(3), w.purged())
	})
}

func TestPurgesByHandPassTheGates(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.gated()
		w.run()
		defer w.halt()
		m := batch(1, "a")
		m.Batch.Origin = invalidation.FromHand
		w.src.push(m)
		after(0)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.InDelta(t, 0, w.metric("purge_latency_seconds", "cache"), 0, "and stay out of the latency")
	})
}

func TestEarlyPurgesAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.gated()
		w.run()
		defer w.halt()
		for seq := uint64(1); seq <= maxEarly+10; seq++ {
			w.src.push(batch(seq, "a"))
		}
		after(time.Hour)
		w.src.mu.Lock()
		read := w.src.read
		w.src.mu.Unlock()
		require.Equal(t, maxEarly+1, read, "the lane reads no further")
		g.open(maxEarly + 10)
		after(time.Second)
		require.Equal(t, uint64(maxEarly+10), w.src.acked()[len(w.src.acked())-1])
	})
}

func TestStopWhileAGateIsClosed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.gated()
		w.run()
		w.src.push(batch(1, "a"), batch(2, "b"))
		after(time.Hour)
		w.halt()
		require.Empty(t, w.src.acked())
	})
}

func TestASlowGateDoesNotHideAFailingSink(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.gated()
		g.open(1)
		w.sink.answers(func([]invalidation.Invalidation) error { return errDown })
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), batch(2, "b"))
		after(20 * time.Second)
		require.Equal(t, Blocked, w.lane.Status().State)
		require.Equal(t, errDown.Error(), w.lane.Status().Err)
	})
}
