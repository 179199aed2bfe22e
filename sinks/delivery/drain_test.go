package delivery

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func TestDrainIsToldFromTheLatestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s speed
		_, known := s.estimate(10, Pace{}, time.Now())
		require.False(t, known)
		d, known := s.estimate(0, Pace{}, time.Now())
		require.True(t, known)
		require.Zero(t, d.Time)

		for range 2 * turns { // 5 messages a second, 2 calls for 10 of them
			s.begin()
			s.request()
			s.request()
			time.Sleep(2 * time.Second)
			s.end(10)
		}
		d, known = s.estimate(100, Pace{}, time.Now())
		require.True(t, known)
		require.Equal(t, Drain{Requests: 20, PerSecond: 1, Time: 20 * time.Second}, d)

		s.begin()
		time.Sleep(32 * time.Second)
		d, _ = s.estimate(100, Pace{}, time.Now())
		require.Equal(t, 40*time.Second, d.Time, "a turn that does not end counts")
		s.end(0)
		d, _ = s.estimate(100, Pace{}, time.Now())
		require.Equal(t, 20*time.Second, d.Time, "one that came to nothing does not")
	})
}

func TestDrainKnowsTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewBuckets().Pace(sinks.Budget{PerSecond: 4, Burst: 8}, sinks.Budget{PerSecond: 100, Burst: 100})
		var s speed
		d, known := s.estimate(48, p, time.Now())
		require.True(t, known)
		require.Equal(t, Drain{Requests: 48, PerSecond: 4, Time: 10 * time.Second}, d, "8 calls at once, 40 at 4 a second")
		s.begin()
		s.request()
		time.Sleep(time.Millisecond)
		s.end(10)
		d, _ = s.estimate(480, p, time.Now())
		require.Equal(t, Drain{Requests: 48, PerSecond: 4, Time: 10 * time.Second}, d, "the burst does not last")
	})
}

func TestThrottledAndBudgetOfALane(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.cfg.Pace = NewBuckets().Pace(sinks.Budget{PerSecond: 0.001, Burst: 5})
		tries := 0
		w.sink.answers(func([]invalidation.Invalidation) error {
			if tries++; tries == 1 {
				return sinks.ThrottledError(errors.New("too many requests"), 20*time.Second)
			}
			return nil
		})
		w.run()
		require.Zero(t, w.lane.Throttled())
		w.src.push(batch(1, "a"))
		time.Sleep(5 * time.Second)
		require.Equal(t, 5*time.Second, w.lane.Throttled(), "up to now")
		d, known := w.lane.Drain(1)
		require.True(t, known)
		require.Equal(t, 15*time.Second, d.Time, "what is left of the pause")
		time.Sleep(time.Minute)
		require.Equal(t, 20*time.Second, w.lane.Throttled())
		tokens, limited := w.lane.Budget()
		require.True(t, limited)
		require.InDelta(t, 3, tokens, 0.1)
		d, known = w.lane.Drain(1)
		require.True(t, known)
		require.Equal(t, 20*time.Second, d.Time)
		w.halt()
		_, limited = New(newWorld(t).cfg).Budget()
		require.False(t, limited)
	})
}
