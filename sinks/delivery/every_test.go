package delivery

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// every gives a message's items a period.
func every(m invalidation.Message, period time.Duration) invalidation.Message {
	for i := range m.Batch.Items {
		m.Batch.Items[i].Every = period
	}
	return m
}

// at lists when, in seconds since the first call, a value was purged.
func (s *fakeSink) at(v string) []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []int
	for _, c := range s.calls {
		if slices.Contains(c.values, v) {
			out = append(out, int(c.at.Sub(s.calls[0].at).Seconds()))
		}
	}
	return out
}

// heard lists what listeners were told.
func (s *source) heard() []uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.announced)
}

const halfMinute = 30 * time.Second

func TestAValueIsPurgedAtOnceAndThenOncePerPeriod(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		seq := uint64(0)
		for range 70 {
			seq++
			w.src.push(every(batch(seq, "hot"), halfMinute))
			after(time.Second)
		}
		after(time.Hour)
		require.Equal(t, []int{0, 30, 60, 90}, w.sink.at("hot"), "the last one is not forgotten")
		require.Equal(t, uint64(70), w.src.acked()[len(w.src.acked())-1])
		seq++
		w.src.push(every(batch(seq, "hot"), halfMinute))
		after(0)
		require.Len(t, w.sink.at("hot"), 5, "at once, after a pause")
	})
}

func TestAMessageWithAValuePutOffStaysUnacknowledged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(every(batch(1, "hot"), halfMinute), claim(2, 1))
		after(time.Second)
		w.src.push(every(batch(3, "hot", "cold"), halfMinute), claim(4, 1), batch(5, "other"))
		after(time.Second)
		require.Equal(t, []int{1}, w.sink.at("cold"), "what is not deferred is purged at once")
		require.Equal(t, []int{1}, w.sink.at("other"), "and so is what comes behind")
		require.Equal(t, uint64(2), w.src.acked()[len(w.src.acked())-1], "a crash must bring the value back")
		require.Equal(t, cdc.LSN(2), w.purged(), "the lag that is shown is real")
		oldest, some := w.lane.Oldest()
		require.True(t, some)
		require.Equal(t, time.Second, time.Since(oldest))
		require.Equal(t, []uint64{1, 3, 5}, w.src.heard(), "listeners need not wait for one value")
		after(29 * time.Second)
		require.Equal(t, []int{0, 30}, w.sink.at("hot"))
		require.Equal(t, uint64(5), w.src.acked()[len(w.src.acked())-1])
		require.Equal(t, cdc.LSN(4), w.purged())
		require.Equal(t, []uint64{1, 3, 5, 3}, w.src.heard())
	})
}

func TestRestartForgetsPeriods(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		w.src.push(every(batch(1, "hot"), halfMinute))
		after(time.Second)
		w.src.push(every(batch(2, "hot"), halfMinute))
		after(time.Second)
		w.halt()
		require.Equal(t, []uint64{1}, w.src.acked())
		w.src.mu.Lock()
		w.src.read = 1 // from the floor
		w.src.mu.Unlock()
		w.cfg.Metrics = newWorld(t).cfg.Metrics
		w.run()
		defer w.halt()
		after(0)
		require.Equal(t, []int{0, 2}, w.sink.at("hot"))
		require.Equal(t, []uint64{1, 2}, w.src.acked())
	})
}

func TestAFlushSupersedesWhatIsPutOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(every(batch(1, "hot"), halfMinute))
		after(time.Second)
		flush := batch(3)
		flush.Batch.Flush = true
		w.src.push(every(batch(2, "hot"), halfMinute))
		after(time.Second)
		require.Equal(t, []uint64{1}, w.src.acked())
		w.src.push(flush)
		after(0)
		require.Equal(t, uint64(3), w.src.acked()[len(w.src.acked())-1])
		after(time.Hour)
		require.Len(t, w.sink.at("hot"), 2, "with the flush, and not again")
	})
}

// A rule without a period does not wait for one with, and that goes along.
func TestAnEqualValueWithoutAPeriodGoesAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(every(batch(1, "hot"), halfMinute))
		after(time.Second)
		w.src.push(every(batch(2, "hot"), halfMinute))
		after(time.Second)
		w.src.push(batch(3, "hot"))
		after(time.Second)
		require.Equal(t, []int{0, 2}, w.sink.at("hot"))
		require.Equal(t, uint64(3), w.src.acked()[len(w.src.acked())-1])
		w.src.push(every(batch(4, "hot"), halfMinute))
		after(time.Hour)
		require.Equal(t, []int{0, 2, 32}, w.sink.at("hot"))
	})
}

func TestThePeriodHoldsForEarlyPurgesToo(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := w.gated()
		w.run()
		defer w.halt()
		g.open(1)
		w.src.push(every(batch(1, "hot"), time.Minute))
		after(time.Second)
		w.src.push(every(batch(2, "hot"), time.Minute))
		after(time.Hour)
		require.Equal(t, []int{0, 60}, w.sink.at("hot"), "deferred as the gate's patience ended, then purged")
		require.Equal(t, []uint64{1}, w.src.acked())
		g.open(2)
		after(time.Minute)
		require.Len(t, w.sink.at("hot"), 3, "and once more behind the gate")
		require.Equal(t, []uint64{1, 2}, w.src.acked())
	})
}

// Past the bound the oldest value goes before its time, and only that.
func TestWhatIsPutOffIsBounded(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(every(batch(1, "hot", "warm"), time.Hour))
		after(time.Second)
		w.src.push(every(batch(2, "hot"), time.Hour), every(batch(3, "warm"), time.Hour))
		after(time.Second)
		seq := uint64(3)
		for range machine.MaxDeferred - 2 {
			seq++
			w.src.push(batch(seq, "other"))
		}
		after(time.Second)
		require.Equal(t, uint64(1), w.src.acked()[len(w.src.acked())-1])
		seq++
		w.src.push(batch(seq, "other"))
		after(time.Second)
		require.Len(t, w.sink.at("hot"), 2)
		require.Len(t, w.sink.at("warm"), 1)
		require.Equal(t, uint64(2), w.src.acked()[len(w.src.acked())-1])
	})
}

func TestWhatIsPutOffLeavesRoomInTheStream(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.MaxPutOff = 10_000
		w.run()
		defer w.halt()
		w.src.push(every(batch(1, "hot"), time.Hour))
		after(time.Second)
		w.src.push(every(batch(2, "hot"), time.Hour))
		after(time.Second)
		w.src.push(batch(3, keys(1000)...))
		after(time.Second)
		w.src.push(batch(4, keys(1000)...))
		after(time.Second)
		require.Len(t, w.sink.at("hot"), 2)
		require.Equal(t, uint64(4), w.src.acked()[len(w.src.acked())-1])
	})
}

// What is due together is counted together.
func TestValuesPutOffAreCollapsed(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		first, second := every(covered(batch(1, "a", "b"), 2), halfMinute), every(covered(batch(2, "c", "d"), 2), halfMinute)
		w.src.push(first)
		after(0)
		w.src.push(second)
		after(0)
		w.src.push(every(covered(batch(3, "a", "b", "c", "d"), 2), halfMinute))
		after(time.Hour)
		require.Equal(t, [][]string{{"a", "b"}, {"c", "d"}, {"past-2"}}, w.sink.values())
		require.Equal(t, uint64(3), w.src.acked()[len(w.src.acked())-1])
	})
}

// A lane that waits for another one is held up by what that has deferred only for
// the same transactions, and goes on meanwhile.
func TestPast(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(nil)
		w.run()
		defer w.halt()
		never := func(ctx context.Context, _ uint64) error { <-ctx.Done(); return context.Cause(ctx) }
		past := func(m invalidation.Message, until Until) <-chan error {
			out := make(chan error, 1)
			go func() { out <- w.lane.Past(t.Context(), m, until, never) }()
			return out
		}
		answer := func(c <-chan error) any {
			synctest.Wait()
			select {
			case err := <-c:
				return err
			default:
				return "waits"
			}
		}
		unknown := past(batch(3, "x"), PurgedOrDeferred)
		require.Equal(t, "waits", answer(unknown), "what lies before is not known yet")
		w.src.push(every(batch(1, "hot"), halfMinute))
		after(0)
		w.src.push(every(batch(2, "hot"), halfMinute), claim(10, 1))
		after(0)
		require.NoError(t, <-unknown)
		same := batch(9, "x")
		same.Batch.Stamp.XIDs = []uint64{7, 2}
		require.NoError(t, <-past(batch(9, "x"), Purged), "of another transaction")
		require.ErrorIs(t, <-past(same, PurgedOrDeferred), ErrPutOff)
		patient := past(same, Purged)
		require.Equal(t, "waits", answer(patient))
		after(halfMinute)
		require.NoError(t, <-patient)

		w.sink.takes = time.Second
		w.src.push(batch(11, "slow"), claim(12, 1))
		slow := past(batch(12, "x"), PurgedOrDeferred)
		require.Equal(t, "waits", answer(slow), "in flight is not deferred")
		after(time.Second)
		require.NoError(t, <-slow)
		require.NoError(t, w.lane.Past(t.Context(), batch(99, "x"), PurgedOrDeferred, func(context.Context, uint64) error { return nil }), "by the floor")
	})
}

func TestAGateThatIsPutOffPurgesAtOnceAndAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		g := newGate()
		w.cfg.Gates = []Gate{{Name: "cache", Wait: g.Wait, Brief: func(context.Context, invalidation.Message) error { return ErrPutOff }}}
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), batch(2, "b"))
		after(0)
		require.Equal(t, []string{"a", "b"}, slices.Concat(w.sink.values()...))
		require.Empty(t, w.src.acked())
		require.InDelta(t, 0, w.metric("gate_timeouts_total", "cache"), 0)
		g.open(2)
		after(0)
		require.ElementsMatch(t, []string{"a", "b", "a", "b"}, slices.Concat(w.sink.values()...))
		require.Equal(t, uint64(2), w.src.acked()[len(w.src.acked())-1])
	})
}

// Whatever comes when and whatever the sink answers: every message is
// acknowledged only when each of its values was purged after it came, or
// something that replaces it; and between two purges of one value lies its
// period, unless the bound ends it.
func TestPropertyPeriodsLoseNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(100) {
			rnd := rand.New(rand.NewPCG(seed, 7))
			w := newWorld(t)
			w.sink.takes = time.Duration(rnd.IntN(3)) * time.Second
			fate := rand.New(rand.NewPCG(seed, 8)) // the lane's goroutine draws from it
			w.sink.answers(func([]invalidation.Invalidation) error {
				if fate.IntN(4) == 0 {
					return sinks.ThrottledError(errDown, time.Second)
				}
				return nil
			})
			w.run()
			came := map[uint64]time.Time{}
			var sent []invalidation.Message
			for seq := uint64(1); seq <= 60; seq++ {
				var kk []string
				for _, k := range []string{"a", "b", "c", "d"} {
					if rnd.IntN(2) == 0 {
						kk = append(kk, k)
					}
				}
				m := every(batch(seq, kk...), halfMinute)
				if len(kk) > 0 && rnd.IntN(2) == 0 {
					covered(m, 3)
				}
				came[seq] = time.Now()
				sent = append(sent, m)
				w.src.push(m)
				after(time.Duration(rnd.IntN(9000)) * time.Millisecond)
			}
			after(10 * time.Minute)
			w.halt()
			require.Equal(t, uint64(60), w.src.acked()[len(w.src.acked())-1], "seed %d", seed)
			for _, m := range sent {
				for _, inv := range m.Batch.Invalidations(nil) {
					require.True(t, slices.ContainsFunc(w.sink.calls, func(c call) bool {
						stands := len(m.Batch.Items[0].Coarser) > 0 && slices.Contains(c.values, "past-3")
						return !c.at.Before(came[m.Seq]) && (stands || slices.Contains(c.values, inv.Value))
					}), "seed %d: %s of %d", seed, inv.Value, m.Seq)
				}
			}
		}
	})
}
