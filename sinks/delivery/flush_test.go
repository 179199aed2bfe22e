package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// flush is a message that flushes, for a reason.
func flush(seq uint64, reason string) invalidation.Message {
	m := batch(seq)
	m.Batch.Flush, m.Batch.Origin, m.Batch.Reason, m.Batch.Stamp.XIDs = true, invalidation.FromGap, reason, nil
	return m
}

// plan makes the world's flush one of some values.
func (w *world) plan(values ...string) {
	w.cfg.Flush = func() []invalidation.Invalidation {
		var out []invalidation.Invalidation
		for _, v := range values {
			out = append(out, invalidation.Invalidation{Kind: invalidation.Tag, Value: v, Rule: "flush"})
		}
		return out
	}
}

func TestAPacedFlushHoldsOnlyTheWatermark(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.FlushPace = time.Minute
		w.plan("f0", "f1", "f2", "f3")
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1), flush(3, "gap"), batch(4, "b"), claim(5, 1))
		after(10 * time.Second)
		w.src.push(batch(6, "c"), claim(7, 1))
		after(10 * time.Second)
		require.Equal(t, []int{0}, w.sink.at("f0"))
		require.Equal(t, []int{15}, w.sink.at("f1"))
		require.Empty(t, w.sink.at("f2"))
		require.Equal(t, []int{0}, w.sink.at("b"))
		require.Equal(t, []int{10}, w.sink.at("c"), "beside the flush")
		require.Equal(t, cdc.LSN(2), w.purged(), "the flush waits")
		require.Equal(t, uint64(2), w.src.newest(), "a crash must bring it back")
		require.Equal(t, Flushing, w.lane.Status().State)
		after(time.Minute)
		require.Equal(t, []int{45}, w.sink.at("f3"))
		require.Equal(t, cdc.LSN(7), w.purged())
		require.Equal(t, uint64(7), w.src.newest())
		require.Equal(t, OK, w.lane.Status().State)
		require.InDelta(t, 1, w.metric("flushes_total", "gap"), 0)
		require.Contains(t, w.src.heard(), uint64(3))
	})
}

func TestFlushesAreHeldApartAndJoined(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.FlushAtMost = 5 * time.Minute
		w.run()
		w.src.push(flush(1, "gap"), claim(2, 1))
		after(time.Second)
		require.Equal(t, []int{0}, w.sink.at("*"), "the first one at once")
		for seq := uint64(3); seq < 23; seq += 2 {
			w.src.push(flush(seq, "gap"), claim(seq+1, 1))
			after(time.Second)
		}
		require.Equal(t, uint64(2), w.src.newest())
		w.src.push(batch(30, "a"), claim(31, 1))
		after(10 * time.Minute)
		require.Equal(t, []int{0, 300}, w.sink.at("*"), "the others as one")
		require.Equal(t, []int{11}, w.sink.at("a"))
		require.Equal(t, cdc.LSN(31), w.purged())
		w.src.push(flush(32, "gap"))
		after(time.Second)
		require.Len(t, w.sink.at("*"), 3, "at once, after a pause")
		w.src.push(flush(33, "gap"))
		after(time.Second)
		w.halt()
		require.Equal(t, uint64(32), w.src.newest(), "a stop does not wait, and forgets nothing")
	})
}

// What comes while a flush runs needs one that begins later.
func TestAFlushThatRunsIsNotJoined(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.FlushPace = time.Minute
		w.plan("f0", "f1")
		w.run()
		defer w.halt()
		w.src.push(flush(1, "gap"))
		after(20 * time.Second)
		w.src.push(flush(2, "gap"))
		after(time.Hour)
		require.Equal(t, []int{0, 30}, w.sink.at("f0"))
		require.Equal(t, []int{30, 60}, w.sink.at("f1"))
		require.Equal(t, uint64(2), w.src.newest())
	})
}

func TestWhatAFlushHoldsIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.FlushPace, w.cfg.MaxPutOff = time.Hour, 10_000
		w.plan("f0", "f1", "f2")
		w.run()
		defer w.halt()
		w.src.push(flush(1, "gap"))
		after(time.Second)
		w.src.push(batch(2, keys(3000)...))
		after(time.Second)
		require.Equal(t, []int{1}, w.sink.at("f2"))
		require.Equal(t, uint64(2), w.src.newest())
	})
}

func TestAFlushThatFailsIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.FlushPace = time.Minute
		w.plan("f0", "f1")
		w.sink.answers(failing(3, errDown))
		w.run()
		defer w.halt()
		w.src.push(flush(1, "gap"))
		after(time.Hour)
		require.Len(t, w.sink.at("f0"), 4)
		require.Len(t, w.sink.at("f1"), 1)
		require.Equal(t, []uint64{1}, w.src.acked())
	})
}

// An outer sink's flush waits for an inner one that is held back, its other purges do
// not.
func TestAnOuterFlushWaitsForAnOwedOne(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.FlushPace = time.Minute
		w.plan("f0", "f1")
		w.run()
		defer w.halt()
		w.src.push(flush(1, "gap"), claim(9, 1))
		after(time.Second)
		never := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }
		require.NoError(t, w.lane.Past(t.Context(), batch(5, "x"), PurgedOrDeferred, never))
		require.ErrorIs(t, w.lane.Past(t.Context(), flush(5, "gap"), PurgedOrDeferred, never), ErrPutOff)

		outer := newWorld(t)
		outer.cfg.Gates = []Gate{{
			Name: "cache",
			Wait: func(ctx context.Context, m invalidation.Message) error { return w.lane.Past(ctx, m, Purged, never) },
			Brief: func(ctx context.Context, m invalidation.Message) error {
				return w.lane.Past(ctx, m, PurgedOrDeferred, never)
			},
		}}
		outer.run()
		defer outer.halt()
		outer.src.push(flush(5, "gap"), batch(6, "x"))
		after(time.Second)
		require.Equal(t, [][]string{{"x"}}, outer.sink.values())
		after(time.Minute)
		require.Equal(t, [][]string{{"x"}, {"*"}}, outer.sink.values(), "once, behind the inner one")
		synctest.Wait()
		require.Equal(t, uint64(6), outer.src.newest())
	})
}
