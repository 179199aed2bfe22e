package delivery

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// twice gives a world's lane a second purge.
func (w *world) twice() { w.cfg.SecondPurge = 2 * time.Second }

func (w *world) settled() cdc.LSN {
	return w.board.Get(watermark.Mark{Stage: watermark.Settled, Target: "cache"}).LSN
}

func (s *source) newest() uint64 {
	if acks := s.acked(); len(acks) > 0 {
		return slices.Max(acks)
	}
	return 0
}

func TestEverythingIsPurgedTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a", "b"), claim(2, 1))
		after(time.Second)
		w.src.push(batch(3, "a"), claim(4, 1))
		after(900 * time.Millisecond)
		require.Equal(t, [][]string{{"a", "b"}, {"a"}}, w.sink.values())
		require.Equal(t, cdc.LSN(4), w.purged(), "the first purge counts")
		require.Zero(t, w.settled())
		require.Empty(t, w.src.acked(), "a crash must bring both back")
		_, some := w.lane.Oldest()
		require.False(t, some, "nothing is unpurged")
		after(300 * time.Millisecond)
		require.Equal(t, [][]string{{"a", "b"}, {"a"}, {"a", "b"}}, w.sink.values())
		require.Equal(t, uint64(2), w.src.newest())
		require.Equal(t, cdc.LSN(2), w.settled())
		after(time.Hour)
		require.Equal(t, [][]string{{"a", "b"}, {"a"}, {"a", "b"}, {"a"}}, w.sink.values(), "and not a third time")
		require.Equal(t, uint64(4), w.src.newest())
		require.Equal(t, cdc.LSN(4), w.settled())
		require.Equal(t, []uint64{1, 3}, w.src.heard(), "listeners hear of it once")
		require.InDelta(t, 2, w.metric("purge_latency_seconds", "cache"), 0, "and latency is that of the first")
	})
}

// What came due together goes together, and what is purged anyway is not purged
// for that.
func TestSecondPurgesCoalesce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.run()
		defer w.halt()
		for seq := uint64(1); seq <= 1000; seq++ {
			w.src.push(batch(seq, "hot"))
			after(10 * time.Millisecond)
		}
		after(time.Minute)
		seconds := len(w.sink.values()) - 1000
		require.Greater(t, seconds, 0)
		require.Less(t, seconds, 130)
		require.Equal(t, uint64(1000), w.src.newest())
	})
}

// Who waits until all is settled waits for the second purge of what lies before, and for no later one.
func TestSettledWaitsForTheSecondPurge(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		began := time.Now()
		past := func(until Until) time.Duration {
			never := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }
			require.NoError(t, w.lane.Past(t.Context(), invalidation.Message{Seq: 2, Batch: batch(2, "x").Batch}, until, never))
			return time.Since(began)
		}
		require.Zero(t, past(Purged))
		require.Len(t, w.sink.values(), 1)
		after(time.Second)
		w.src.push(batch(3, "b"), claim(4, 1))
		require.Less(t, past(Settled), 2200*time.Millisecond)
		require.Equal(t, [][]string{{"a"}, {"b"}, {"a"}}, w.sink.values())
	})
}

func TestAStopDoesNotWaitForSecondPurges(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.run()
		w.src.push(batch(1, "a"))
		after(time.Second)
		began := time.Now()
		w.halt()
		require.Zero(t, time.Since(began))
		require.Empty(t, w.src.acked())
		w.src.mu.Lock()
		w.src.read = 0 // from the floor
		w.src.mu.Unlock()
		w.cfg.Metrics = newWorld(t).cfg.Metrics
		w.run()
		defer w.halt()
		after(time.Minute)
		require.Equal(t, [][]string{{"a"}, {"a"}, {"a"}}, w.sink.values())
		require.Equal(t, uint64(1), w.src.newest())
	})
}

// What was purged is what is purged again: a value that was deferred when its
// period was over, coarser values in place of those they replace.
func TestSecondPurgesOfWhatWasPurged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.run()
		defer w.halt()
		w.src.push(every(batch(1, "hot"), halfMinute))
		after(10 * time.Second)
		w.src.push(every(batch(2, "hot", "cold"), halfMinute), covered(batch(3, "x", "y", "z"), 2), claim(4, 1))
		after(10 * time.Second)
		require.Equal(t, uint64(1), w.src.newest(), "the value that is deferred holds its message")
		after(time.Hour)
		require.Equal(t, []int{0, 2, 30, 32}, w.sink.at("hot"))
		require.Equal(t, []int{10, 12}, w.sink.at("cold"))
		require.Equal(t, []int{10, 12}, w.sink.at("past-2"))
		require.Empty(t, w.sink.at("x"))
		require.Equal(t, uint64(4), w.src.newest())
	})
}

func TestARefusedValueIsNotRefusedTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.sink.answers(refuses("k1"))
		w.run()
		defer w.halt()
		w.lane.Pause() // so that both go together
		w.src.push(batch(1, keys(3)...), covered(batch(2, "k1"), 50))
		after(time.Second)
		w.lane.Resume()
		after(time.Hour)
		require.Empty(t, w.parked, "the other rule's collapse was tried")
		w.src.push(batch(3, "k1"))
		after(time.Hour)
		require.Len(t, w.parked, 1)
		require.Len(t, w.sink.at("past-50"), 2)
		require.Equal(t, uint64(3), w.src.newest())
	})
}

func TestAFlushIsNotRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		hand := withHand(w)
		w.run()
		defer w.halt()
		flush := batch(1)
		flush.Batch.Flush, flush.Batch.Reason = true, "gap"
		all := byHand(7, 0, "x")
		all.Batch.Flush = true
		w.src.push(flush, claim(2, 1))
		after(0)
		require.Equal(t, uint64(2), w.src.newest(), "nothing to wait for")
		hand.push(all)
		after(time.Hour)
		require.Equal(t, [][]string{{"*"}, {"x", "*"}, {"x"}}, w.sink.values())
		require.Equal(t, []uint64{7}, hand.acked())
	})
}

func TestAPurgeByHandIsRepeated(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		hand := withHand(w)
		w.run()
		defer w.halt()
		hand.push(byHand(7, 0, "x"))
		after(time.Second)
		require.Empty(t, hand.acked())
		hand.push(byHand(8, 2, "all"))
		after(0)
		w.src.push(batch(1, "a"), batch(2, "b"))
		after(time.Minute)
		require.Equal(t, []int{0, 2}, w.sink.at("x"))
		require.Equal(t, []uint64{7, 8}, hand.acked())
		require.Equal(t, uint64(2), w.src.newest())
		all := w.sink.at("all")
		require.Subset(t, []int{1, 3}, all, "by hand, behind the gates of what it replaces, and again")
		require.Equal(t, []int{1, 1, 3}, append(all[:2:2], all[len(all)-1]), "%v", all)
	})
}

// Purged early, with its gate closed: the second purge is that of the one behind
// the gate.
func TestSecondPurgesAreBehindTheGate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		g := w.gated()
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(time.Hour)
		require.Len(t, w.sink.at("a"), 1)
		g.open(1)
		after(time.Second)
		require.Empty(t, w.src.acked())
		after(time.Minute)
		require.Len(t, w.sink.at("a"), 3)
		require.Equal(t, []uint64{1}, w.src.acked())
	})
}

// Past the bound the lane reads no further; nothing is repeated before its time.
func TestWhatWaitsForItsSecondPurgeIsBounded(t *testing.T) {
	for name, fill := range map[string]func(w *world){
		"values":   func(*world) {},
		"messages": func(*world) {},
		"room":     func(w *world) { w.cfg.MaxPutOff = 50_000 },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.twice()
				fill(w)
				n, values := uint64(200), keys(2000)
				if name == "messages" {
					n, values = machine.MaxLate+2*machine.MaxGroup+2000, []string{"a"}
				}
				for seq := uint64(1); seq <= n; seq++ {
					w.src.push(batch(seq, values...))
				}
				w.run()
				defer w.halt()
				after(1900 * time.Millisecond)
				w.src.mu.Lock()
				read := uint64(w.src.read)
				w.src.mu.Unlock()
				require.Less(t, read, n)
				after(time.Hour)
				require.Equal(t, n, w.src.newest())
			})
		})
	}
}

// An outer sink waits for the first purge of an inner one, not for its second.
func TestPastGoesByTheFirstPurge(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.twice()
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(3, 1))
		after(0)
		require.Zero(t, w.src.newest())
		require.NoError(t, w.lane.Past(t.Context(), invalidation.Message{Seq: 2, Batch: batch(2, "x").Batch}, Purged, func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }))
		require.Zero(t, w.src.newest())
	})
}
