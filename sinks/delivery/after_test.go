package delivery

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// What came while a flush ran may be of a row that the cache was filled with
// after the flush had passed its key.
func TestAFlushAbsorbsNothingThatCameLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		flush := batch(1)
		flush.Batch.Flush, flush.Batch.Origin = true, invalidation.FromGap
		w.src.push(flush)
		after(500 * time.Millisecond)
		w.src.push(batch(2, "a"), claim(3, 1))
		after(time.Minute)
		require.Equal(t, [][]string{{"*"}, {"a"}}, w.sink.values())
		require.Equal(t, []uint64{1, 3}, w.src.acked())
	})
}

func TestAnOuterLaneWaitsForTheInner(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		inner := newGate()
		w.cfg.Gates = append(w.cfg.Gates, Gate{Name: "cache", Wait: inner.Wait})
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(5 * time.Second)
		require.Empty(t, w.sink.values(), "the inner cache may still hold the old row")
		inner.open(2)
		after(0)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.Equal(t, uint64(2), w.src.newest())
	})
}

// A flush that replaces an outer lane's backlog replaces changes of transactions that it does not name,
// so it depends on all that the inner lane has not purged: values that are deferred, and those that
// the sink refuses. It goes early beside them, and again behind them.
func TestAFlushInPlaceOfABacklogWaitsForTheInner(t *testing.T) {
	for name, test := range map[string]struct {
		inner func(w *world) (messages []invalidation.Message, purge func())
		early int // the flushes before the inner lane has purged
	}{
		"deferred": {func(w *world) ([]invalidation.Message, func()) {
			return []invalidation.Message{every(batch(1, "hot"), time.Hour), every(batch(2, "hot"), time.Hour)}, func() { after(time.Hour) }
		}, 1},
		"passed on": {func(w *world) ([]invalidation.Message, func()) {
			return []invalidation.Message{every(batch(1, "hot"), time.Hour), every(batch(2, "hot"), time.Hour), every(batch(3, "hot"), time.Hour)}, func() { after(time.Hour) }
		}, 1},
		"refused": {func(w *world) ([]invalidation.Message, func()) {
			r := &refusal{err: errPlan}
			r.set(invalidation.Tag)
			w.sink.answers(r.answer)
			return []invalidation.Message{of(batch(1, "a"), invalidation.Tag, "t1"), batch(2, "b")}, func() { r.set(); after(machine.MaxPause) }
		}, 1},
		"a flush of a refused kind": {func(w *world) ([]invalidation.Message, func()) {
			r := &refusal{err: errPlan}
			r.set(invalidation.Tag)
			w.sink.answers(r.answer)
			w.cfg.Flush = func() []invalidation.Invalidation {
				return []invalidation.Invalidation{{Kind: invalidation.Tag, Value: "all"}, {Kind: invalidation.KeyPattern, Value: "*"}}
			}
			w.cfg.Limits.OneKind = true
			return []invalidation.Message{flush(1, string(invalidation.FlushHole)), batch(2, "b")}, func() { r.set(); after(machine.MaxPause) }
		}, 1},
		"a flush that is held back": {func(w *world) ([]invalidation.Message, func()) {
			w.cfg.FlushPace = time.Hour
			w.plan("f0", "f1")
			return []invalidation.Message{every(batch(1, "hot"), 2*time.Minute), every(batch(2, "hot"), 2*time.Minute), flush(3, string(invalidation.FlushHole))}, func() { after(time.Hour) }
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				messages, purge := test.inner(w)
				outer := newWorld(t)
				outer.cfg.Name, outer.cfg.Gates = "edge", []Gate{w.inner()}
				outer.cfg.Overflow.PendingFlush = 21
				w.run()
				defer w.halt()
				outer.run()
				defer outer.halt()
				for _, m := range messages {
					w.src.push(m)
					after(time.Second)
				}
				w.src.push(claim(30, 1))
				outer.src.push(batch(11, "page"), batch(12, "page"), flush(21, string(invalidation.FlushOverflow)), claim(30, 1))
				after(time.Minute)
				early := len(outer.sink.at("*"))
				require.Equal(t, test.early, early)
				require.Less(t, outer.src.newest(), uint64(21), "the inner lane lacks purges that what was replaced depends on")
				purge()
				after(time.Second)
				require.Equal(t, uint64(30), outer.src.newest())
				require.Len(t, outer.sink.at("*"), early+1, "behind the inner lane")
			})
		})
	}
}

// Before a restart a value of transaction 2 was deferred, and its message acknowledged because that of
// transaction 3 holds the value, too. The outer message of transaction 2 depends on it all the same.
func TestAnOuterLaneWaitsForWhatAnEarlierRunDeferred(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		var up atomic.Bool
		w.sink.answers(func([]invalidation.Invalidation) error {
			if !up.Load() {
				return sinks.LaneError(errDown)
			}
			return nil
		})
		w.cfg.Inherited = Inherited{Acked: 4, Newest: 6}
		floor := newGate()
		floor.open(4)
		past := func(until Until) func(context.Context, invalidation.Message) error {
			return func(ctx context.Context, m invalidation.Message) error {
				return w.lane.Past(ctx, m, until, func(ctx context.Context, seq uint64) error {
					return floor.Wait(ctx, invalidation.Message{Seq: seq})
				})
			}
		}
		outer := newWorld(t)
		outer.cfg.Name = "edge"
		outer.cfg.Gates = []Gate{{Name: "cache", Wait: past(Purged), Brief: past(PurgedOrDeferred), Early: past(PurgedOnce), Ordered: true}}
		w.run()
		defer w.halt()
		outer.run()
		defer outer.halt()
		w.src.push(every(batch(5, "hot"), time.Minute), claim(7, 1))
		outer.src.push(batch(4, "page"), batch(6, "other"), claim(7, 1))
		after(time.Minute)
		require.Empty(t, outer.src.acked())
		up.Store(true)
		after(time.Minute)
		require.Equal(t, uint64(7), outer.src.newest())
		floor.open(7)

		// Nothing is left of it, so another message below does not wait for the stream's end.
		require.NoError(t, w.lane.Past(t.Context(), batch(3, "x"), Purged, func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }))
	})
}

// A transaction that was published again is in the stream twice, and both messages may be acknowledged because a
// third holds the value that is deferred.
func TestAnOuterLaneWaitsForATransactionThatWasPublishedTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		for _, seq := range []uint64{1, 2, 4, 6} {
			m := every(batch(seq, "hot"), time.Minute)
			m.Batch.Stamp.XIDs = []uint64{max(2, seq/4*2)}
			w.src.push(m)
			after(time.Second)
		}
		require.Equal(t, uint64(4), w.src.newest(), "the last message holds the value")
		never := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }
		outer := batch(3, "page")
		outer.Batch.Stamp.XIDs = []uint64{2}
		require.ErrorIs(t, w.lane.Past(t.Context(), outer, PurgedOrDeferred, never), ErrPutOff)
	})
}

// What an earlier run deferred for a message that is acknowledged is not purged when the first claim is read again.
func TestClaimsWaitForWhatAnEarlierRunDeferred(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		visible := w.gated()
		w.cfg.Inherited = Inherited{Acked: 4, Newest: 8}
		w.run()
		defer w.halt()
		w.src.push(claim(5, 1), every(batch(7, "hot"), time.Minute), claim(9, 2))
		after(time.Minute)
		require.Zero(t, w.purged())
		visible.open(7)
		after(2 * time.Minute)
		require.Equal(t, cdc.LSN(9), w.purged())
	})
}
