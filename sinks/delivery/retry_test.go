package delivery

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

func TestTransientFailuresBackOff(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(failing(30, errDown))
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(time.Second)
		require.Equal(t, Blocked, w.lane.Status().State)
		require.Equal(t, errDown.Error(), w.lane.Status().Err)
		require.InDelta(t, 1, w.metric("sink_state", "blocked"), 0)
		after(10 * time.Minute)
		pauses := w.sink.pauses()
		require.Len(t, pauses, 30)
		full, same := machine.MinPause, 0
		for i, p := range pauses {
			require.GreaterOrEqual(t, p, full/2, "pause %d", i)
			require.Less(t, p, full, "pause %d", i)
			if i > 0 && p == pauses[i-1] {
				same++
			}
			full = min(2*full, machine.MaxPause)
		}
		require.Less(t, same, 3, "pauses have jitter")
		require.Equal(t, uint64(1), w.src.newest())
		require.Equal(t, OK, w.lane.Status().State)
		require.Empty(t, w.lane.Status().Err)
		require.Empty(t, w.parked)
		require.InDelta(t, 30, w.metric("sink_requests_total", "transient"), 0)
	})
}

// An operator who knows better than Retry-After ends the wait.
func TestOperatorEndsALongWait(t *testing.T) {
	for name, end := range map[string]func(*Lane){"resume": (*Lane).Resume, "reload": (*Lane).Hasten} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, w *world) {
				w.sink.answers(failing(2, sinks.ThrottledError(errors.New("429"), time.Hour)))
				w.run()
				defer w.halt()
				w.src.push(batch(1, "a"))
				after(time.Minute)
				require.Len(t, w.sink.values(), 1)
				end(w.lane)
				after(time.Second)
				require.Len(t, w.sink.values(), 2, "asked again, and refused again")
				require.Equal(t, Throttled, w.lane.Status().State)
				after(59 * time.Minute)
				require.Len(t, w.sink.values(), 2)
				end(w.lane)
				after(time.Second)
				require.Equal(t, uint64(1), w.src.newest())
				require.Equal(t, OK, w.lane.Status().State)
			})
		})
	}
}

func TestThrottledWaitsAsLongAsItWasAsked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(failing(1, sinks.ThrottledError(errors.New("429"), 90*time.Second)))
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(89 * time.Second)
		require.Len(t, w.sink.values(), 1)
		require.Equal(t, Throttled, w.lane.Status().State)
		after(time.Second)
		require.Len(t, w.sink.values(), 2)
		require.Equal(t, uint64(1), w.src.newest())
	})
}

func TestLaneErrorsParkNothing(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func([]invalidation.Invalidation) error { return sinks.LaneError(errors.New("403")) })
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a", "b"))
		after(time.Hour)
		require.Empty(t, w.parked)
		require.Empty(t, w.src.acked())
		require.Equal(t, Blocked, w.lane.Status().State)
		require.Greater(t, len(w.sink.values()), 300, "it goes on trying")
		for _, v := range w.sink.values() {
			require.Equal(t, []string{"a", "b"}, v, "and splits nothing")
		}
		w.sink.answers(nil)
		after(machine.MaxPause)
		require.Equal(t, uint64(1), w.src.newest())
	})
}

// refuses fails every call that holds a value, without saying which.
func refuses(bad string) func([]invalidation.Invalidation) error {
	return func(invs []invalidation.Invalidation) error {
		for _, inv := range invs {
			if inv.Value == bad {
				return sinks.ItemError(errors.New("value too long"))
			}
		}
		return nil
	}
}

func TestARefusedInvalidationIsParked(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(refuses("a"))
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(0)
		require.Len(t, w.parked, 1)
		b := w.parked[0]
		require.Equal(t, "cache", b.Sink)
		require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.Key, Value: "a", Rule: "r"}}, b.Invalidations(nil))
		require.Equal(t, cdc.LSN(1), b.Stamp.Position.LSN)
		require.Equal(t, uint64(2), w.src.newest())
		require.Equal(t, cdc.LSN(2), w.purged())
		require.InDelta(t, 1, w.metric("parked_total", "cache"), 0)
		require.Equal(t, OK, w.lane.Status().State)
	})
}

func TestTheCulpritOfABatchIsFound(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(refuses("k5"))
		w.run()
		defer w.halt()
		w.src.push(batch(1, keys(100)...))
		after(0)
		require.Len(t, w.parked, 1)
		require.Equal(t, "k5", w.parked[0].Items[0].Values[invalidation.Key][0])
		require.Less(t, len(w.sink.values()), 20, "by halves")
		done := map[string]bool{}
		for _, v := range w.sink.values() {
			if refuses("k5")(toInvs(v)) == nil {
				for _, k := range v {
					done[k] = true
				}
			}
		}
		require.Len(t, done, 99, "all others were carried out")
		require.Equal(t, uint64(1), w.src.newest())
	})
}

func toInvs(values []string) []invalidation.Invalidation {
	out := make([]invalidation.Invalidation, len(values))
	for i := range values {
		out[i].Value = values[i]
	}
	return out
}

func TestBatchErrorsAreSortedOut(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func(invs []invalidation.Invalidation) error {
			if len(invs) == 4 {
				return &sinks.BatchError{Failed: map[int]error{
					1: sinks.ItemError(errors.New("bad")), 2: errDown, 3: sinks.ThrottledError(errors.New("429"), time.Minute),
				}}
			}
			return nil
		})
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a", "b", "c", "d"))
		after(time.Second)
		require.Equal(t, Throttled, w.lane.Status().State, "the most patient of the classes")
		require.Len(t, w.parked, 1)
		require.Empty(t, w.src.acked())
		after(time.Minute)
		require.Equal(t, [][]string{{"a", "b", "c", "d"}, {"c", "d"}}, w.sink.values())
		require.Equal(t, uint64(1), w.src.newest())
		require.Equal(t, "b", w.parked[0].Items[0].Values[invalidation.Key][0])
		require.InDelta(t, 1, w.metric("sink_requests_total", "partial"), 0)
		require.InDelta(t, 3, w.metric("purges_total", "failed"), 0)
		require.InDelta(t, 3, w.metric("purges_total", "ok"), 0)
	})
}

func TestParkingIsRepeatedAndNothingAckedBefore(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.parkErr = []error{errDown, errDown, errDown}
		w.sink.answers(refuses("a"))
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(2 * machine.MinPause)
		require.Empty(t, w.src.acked())
		require.Equal(t, Blocked, w.lane.Status().State)
		after(time.Minute)
		require.Len(t, w.parked, 1)
		require.Equal(t, uint64(1), w.src.newest())
	})
}

func TestStopWhileParkingFails(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		for range 10000 {
			w.parkErr = append(w.parkErr, errDown)
		}
		w.sink.answers(refuses("a"))
		w.run()
		w.src.push(batch(1, "a"))
		after(time.Hour)
		w.halt()
		require.Empty(t, w.src.acked())
		require.Empty(t, w.parked)
	})
}

func TestStopInTheMiddleOfRetries(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func([]invalidation.Invalidation) error { return errDown })
		w.run()
		w.src.push(batch(1, "a"))
		after(time.Minute)
		began := time.Now()
		w.halt()
		require.Less(t, time.Since(began), time.Millisecond, "at once")
		require.Empty(t, w.src.acked())
	})
}

func TestStopFinishesThePurgeInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = 5 * time.Second
		w.run()
		w.src.push(batch(1, "a"))
		after(time.Second)
		w.src.push(batch(2, "b"))
		after(time.Second)
		began := time.Now()
		w.halt()
		require.Equal(t, 3*time.Second, time.Since(began))
		require.Equal(t, [][]string{{"a"}}, w.sink.values(), "the backlog is for the next start")
		require.Equal(t, uint64(1), w.src.newest())
	})
}

func TestTheEndOfWorkCutsThePurgeInFlight(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Hour
		w.run()
		w.src.push(batch(1, "a"))
		after(time.Second)
		time.AfterFunc(20*time.Second, w.cut)
		began := time.Now()
		w.halt()
		require.Equal(t, 20*time.Second, time.Since(began))
		require.Empty(t, w.src.acked())
	})
}
