package delivery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func TestAFlushCarriesOutItsPlan(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		plan := "old:*"
		w.cfg.Flush = func() []invalidation.Invalidation {
			return []invalidation.Invalidation{{Kind: invalidation.KeyPattern, Value: plan, Rule: "flush"}}
		}
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		m := batch(1, "a")
		m.Batch.Flush, m.Batch.Reason = true, "stream_behind"
		plan = "new:*" // a reload between start and flush
		w.src.push(m, claim(2, 1))
		after(500 * time.Millisecond)
		require.Equal(t, Flushing, w.lane.Status().State)
		require.Zero(t, w.purged())
		after(time.Second)
		require.Equal(t, [][]string{{"a", "new:*"}}, w.sink.values())
		require.NotZero(t, w.purged())
		require.Equal(t, OK, w.lane.Status().State)
		require.InDelta(t, 1, w.metric("flushes_total", "stream_behind"), 0)
	})
}

// A claim that brings a flush counts only once that is done.
func TestAClaimWithAFlush(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		m := claim(1, 1)
		m.Batch = &invalidation.Batch{Sink: "cache", Origin: invalidation.FromGap, Flush: true, Reason: "expired"}
		w.src.push(m)
		after(999 * time.Millisecond)
		require.Zero(t, w.purged())
		after(time.Millisecond)
		require.Equal(t, [][]string{{"*"}}, w.sink.values())
		require.NotZero(t, w.purged())
	})
}

func TestLanesOfOneAccountShareABucket(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		buckets, budget := NewBuckets(), sinks.Budget{Share: "main", PerSecond: 1, Burst: 2}
		other := newWorld(t)
		w.cfg.Pace, other.cfg.Pace = buckets.Pace(budget), buckets.Pace(budget)
		w.cfg.Limits.Items, other.cfg.Limits.Items = 1, 1
		w.run()
		defer w.halt()
		other.run()
		defer other.halt()
		w.src.push(batch(1, keys(4)...))
		other.src.push(batch(1, keys(4)...))
		after(0)
		total := func() int { return len(w.sink.values()) + len(other.sink.values()) }
		require.Equal(t, 2, total(), "the burst")
		after(3 * time.Second)
		require.Equal(t, 5, total())
		after(3 * time.Second)
		require.Equal(t, 8, total())
	})
}

func TestWaitingForTheBucketEndsWithTheIntake(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Pace = NewBuckets().Pace(sinks.Budget{PerSecond: 1.0 / 3600, Burst: 1})
		require.NoError(t, w.cfg.Pace.Wait(t.Context(), nil))
		w.run()
		w.src.push(batch(1, "a"))
		after(time.Minute)
		w.halt()
		require.Empty(t, w.sink.values())
		require.Empty(t, w.src.acked())
	})
}
