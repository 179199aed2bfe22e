package delivery

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// byHand is a message that somebody asked for.
func byHand(seq, supersedes uint64, keys ...string) invalidation.Message {
	m := batch(seq, keys...)
	m.Batch.Origin, m.Batch.Supersedes = invalidation.FromHand, supersedes
	return m
}

// withHand gives a world a second source.
func withHand(w *world) *source {
	hand := &source{grown: make(chan struct{})}
	w.cfg.Hand = hand
	return hand
}

func TestAPurgeByHandGoesAheadOfTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		w.cfg.Limits.Items = 1
		w.sink.takes = time.Second
		w.src.push(batch(1, keys(100)...), claim(2, 1))
		w.run()
		after(10500 * time.Millisecond)
		hand.push(byHand(3, 0, "urgent"))
		after(2 * time.Second)
		require.Equal(t, "urgent", w.sink.values()[11][0], "after the request in flight")
		require.Equal(t, []uint64{3}, hand.acked())
		require.Equal(t, []uint64{3}, hand.announced)
		after(200 * time.Second)
		require.Len(t, w.sink.values(), 101)
		require.EqualValues(t, 2, w.purged())
		require.InDelta(t, 1, w.metric("purge_latency_seconds", "cache"), 0, "it has no latency")
		w.halt()
	})
}

func TestAPurgeByHandWaitsForNoGate(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		gate := newGate()
		w.cfg.Gates = []Gate{{Name: "visible", Wait: gate.Wait}}
		w.src.push(batch(1, "a"))
		w.run()
		after(time.Second)
		hand.push(byHand(2, 0, "urgent"))
		after(time.Millisecond)
		require.Equal(t, [][]string{{"urgent"}}, w.sink.values())
		gate.open(9)
		after(time.Second)
		require.Equal(t, [][]string{{"urgent"}, {"a"}}, w.sink.values())
		w.halt()
	})
}

// A manual purge that fails does not hold the queue, and is tried until the
// sink takes it.
func TestAFailingPurgeByHandIsTriedBesideTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		fails := 3
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			if invs[0].Value == "urgent" && fails > 0 {
				fails--
				return errDown
			}
			return nil
		})
		w.run()
		hand.push(byHand(1, 0, "urgent"))
		after(time.Nanosecond)
		w.src.push(batch(2, "a"))
		after(time.Minute)
		require.Equal(t, [][]string{{"urgent"}, {"a"}, {"urgent"}, {"urgent"}, {"urgent"}}, w.sink.values())
		require.Equal(t, []uint64{1}, hand.acked())
		w.halt()
	})
}

func TestAPurgeByHandThatIsRefusedIsParked(t *testing.T) {
	for _, err := range []error{sinks.LaneError(errDown), sinks.ItemError(errDown), &sinks.BatchError{Failed: map[int]error{0: sinks.ItemError(errDown)}}} {
		inBubble(t, func(t *testing.T, w *world) {
			hand := withHand(w)
			once := failing(1, err)
			w.sink.answers(func(invs []invalidation.Invalidation) error {
				if invs[0].Value != "urgent" {
					return nil
				}
				return once(invs)
			})
			w.run()
			hand.push(byHand(1, 0, "urgent"))
			w.src.push(batch(2, "a"))
			after(time.Minute)
			require.Len(t, w.parked, 1)
			require.Equal(t, []string{"urgent"}, w.parked[0].Items[0].Values[invalidation.Key])
			require.Equal(t, []uint64{1}, hand.acked())
			require.ElementsMatch(t, [][]string{{"urgent"}, {"a"}}, w.sink.values())
			w.halt()
		})
	}
}

// A purge that supersedes replaces what lay before it in the lane: purged
// once more for what had not been read, since only then its gates are open.
func TestSupersedingDropsTheBacklog(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		gate := newGate()
		gate.open(50)
		w.cfg.Gates = []Gate{{Name: "visible", Wait: gate.Wait}}
		w.cfg.Limits.Items = 1
		w.sink.takes = time.Second
		for n := range 98 {
			w.src.push(batch(uint64(n+1), fmt.Sprintf("k%d", n)))
		}
		w.src.push(claim(99, 1))
		w.run()
		after(10500 * time.Millisecond)
		before := len(w.sink.values())
		hand.push(byHand(7, 99, "all"))
		w.src.push(batch(101, "new"), claim(102, 1))
		after(10 * time.Second)
		for _, c := range w.sink.values()[before:] {
			require.Equal(t, []string{"all"}, c, "what is ready is covered; the rest waits for its gate")
		}
		require.Empty(t, hand.acked(), "until the lane has come past it")
		gate.open(200)
		after(20 * time.Second)
		tail := w.sink.values()[before:]
		require.Contains(t, tail, []string{"new"})
		for _, c := range tail {
			require.Contains(t, []string{"all", "new"}, c[0], "nothing of the backlog goes one by one")
		}
		require.Equal(t, []uint64{7}, hand.acked())
		require.EqualValues(t, 102, w.purged())
		w.halt()
	})
}

// A purge that the sink refuses replaces nothing, whether it comes between two requests or while the lane waits.
func TestSupersedingIsRefused(t *testing.T) {
	for name, class := range map[string]func(error) error{"lane": sinks.LaneError, "item": sinks.ItemError} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				hand := withHand(w)
				w.cfg.Limits.Items = 1
				w.sink.takes = time.Second
				w.sink.answers(func(invs []invalidation.Invalidation) error {
					if invs[0].Value == "all" {
						return class(errPlan)
					}
					return nil
				})
				for n := range 20 {
					w.src.push(batch(uint64(n+1), fmt.Sprintf("k%d", n)))
				}
				w.src.push(claim(21, 1))
				w.run()
				after(5500 * time.Millisecond)
				hand.push(byHand(7, 21, "all"))
				after(time.Minute)
				require.Equal(t, []string{"all"}, w.parkedValues())
				require.Len(t, w.sink.values(), 21, "the refused one and each of the backlog")
				require.Equal(t, []uint64{7}, hand.acked())
				require.Equal(t, uint64(21), w.src.newest())
				w.halt()
			})
		})
	}
}

// A purge of which the sink took one value before the gates of a message opened, and the other after that, does not
// replace the message.
func TestSupersedingThatIsTriedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		gate := newGate()
		w.cfg.Gates = []Gate{{Name: "visible", Wait: gate.Wait}}
		w.cfg.Limits.Items = 1
		w.sink.takes = time.Second
		failed := 0
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			if invs[0].Value == "second" && failed < 2 {
				failed++
				return errDown
			}
			return nil
		})
		for n := range 9 {
			w.src.push(batch(uint64(n+1), fmt.Sprintf("k%d", n)))
		}
		w.src.push(claim(10, 1))
		w.run()
		hand.push(byHand(7, 10, "first", "second"))
		after(1500 * time.Millisecond)
		opened := time.Now().Add(-1)
		gate.open(10)
		after(time.Minute)
		require.Equal(t, uint64(10), w.src.newest())
		w.halt()
		w.sink.mu.Lock()
		defer w.sink.mu.Unlock()
		last := map[string]time.Time{}
		for _, c := range w.sink.calls {
			last[c.values[0]] = c.at
		}
		for n := range 9 {
			require.True(t, last[fmt.Sprintf("k%d", n)].After(opened) || last["first"].After(opened), "k%d is dropped, and the first value was purged before readers saw the commit", n)
		}
	})
}

func TestSupersedingKeepsAnOwedFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		w.sink.answers(failing(2, errDown))
		flush := batch(2)
		flush.Batch.Flush, flush.Batch.Reason = true, "gap"
		w.src.push(batch(1, "a"), flush)
		hand.push(byHand(3, 2, "all"))
		w.run()
		after(time.Minute)
		var all []string
		for _, c := range w.sink.values() {
			all = append(all, c...)
		}
		require.Contains(t, all, "*")
		w.halt()
	})
}

func TestPauseHoldsALane(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := withHand(w)
		w.run()
		w.lane.Pause()
		after(time.Second)
		w.src.push(batch(1, "a"))
		hand.push(byHand(2, 0, "urgent"))
		after(time.Hour)
		require.Equal(t, [][]string{{"urgent"}}, w.sink.values())
		require.Equal(t, Paused, w.lane.Status().State)
		w.lane.Resume()
		after(time.Second)
		require.Equal(t, [][]string{{"urgent"}, {"a"}}, w.sink.values())
		require.Equal(t, OK, w.lane.Status().State)
		w.halt()
	})
}

// A lane that fails is held between two attempts.
func TestPauseHoldsALaneThatFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func([]invalidation.Invalidation) error { return errDown })
		w.src.push(batch(1, "a"))
		w.run()
		after(time.Minute)
		w.lane.Pause()
		after(time.Minute)
		n := len(w.sink.values())
		after(time.Hour)
		require.Len(t, w.sink.values(), n)
		w.lane.Resume()
		w.sink.answers(nil)
		after(time.Minute)
		require.Equal(t, []uint64{1}, w.src.acked())
		w.halt()
	})
}

// A manual purge may replace a flush in place of a backlog that is carried out beside the queue. What that flush
// was to replace, and what was not open when the manual purge began, is purged then.
func TestAManualPurgeReplacesAFlushBesideTheQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		visible, hand := newGate(), &source{grown: make(chan struct{})}
		w.cfg.Hand, w.cfg.FlushPace, w.cfg.MaxWait = hand, time.Minute, time.Second
		w.cfg.Gates = []Gate{{Name: "visible", Wait: func(ctx context.Context, m invalidation.Message) error {
			if m.Seq > 1 {
				return nil
			}
			return visible.Wait(ctx, m)
		}}}
		w.run()
		defer w.halt()
		w.lane.Pause()
		w.lane.trade(2)
		w.src.push(batch(1, "a"), flush(2, string(invalidation.FlushOverflow)), batch(3, "b"))
		after(time.Minute)
		m := flush(1, "manual")
		m.Batch.Origin, m.Batch.Supersedes = invalidation.FromHand, 3
		hand.push(m)
		after(time.Minute)
		w.lane.Resume()
		after(time.Minute)
		visible.open(1)
		w.src.push(claim(4, 1))
		after(time.Hour)
		require.Equal(t, cdc.LSN(4), w.purged())
		calls := w.sink.values()
		require.Contains(t, slices.Concat(calls[1:]...), "a", "its gate opened after the manual purge: %v", calls)
	})
}
