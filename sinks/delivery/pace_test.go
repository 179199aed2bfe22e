package delivery

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

func invs(kind invalidation.Kind, n int) []invalidation.Invalidation {
	out := make([]invalidation.Invalidation, n)
	for i := range out {
		out[i].Kind = kind
	}
	return out
}

// took is how long a pace holds a call back.
func took(t *testing.T, p Pace, batch []invalidation.Invalidation) time.Duration {
	t.Helper()
	began := time.Now()
	require.NoError(t, p.Wait(t.Context(), batch))
	return time.Since(began).Round(time.Millisecond)
}

func TestPaceChargesEveryBudgetWhatACallCosts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewBuckets().Pace(
			sinks.Budget{PerSecond: 1, Burst: 4, Cost: func(b []invalidation.Invalidation) int {
				if b[0].Kind == invalidation.URL {
					return 0
				}
				return 2
			}},
			sinks.Budget{PerSecond: 10, Burst: 10, Cost: func(b []invalidation.Invalidation) int { return len(b) }},
		)
		require.Zero(t, took(t, p, invs(invalidation.Tag, 5)))
		require.Zero(t, took(t, p, invs(invalidation.Tag, 5)))
		require.Equal(t, 2*time.Second, took(t, p, invs(invalidation.Tag, 5)), "two requests at one a second")
		require.Zero(t, took(t, p, invs(invalidation.URL, 5)))
		require.Equal(t, 3*time.Second, took(t, p, invs(invalidation.URL, 30)), "more than the bucket ever holds")
	})
}

func TestBudgetsOfOneNameAreOneBucketWithTheSmallerNumbers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBuckets()
		one := b.Pace(sinks.Budget{Share: "main", PerSecond: 50, Burst: 50})
		two := b.Pace(sinks.Budget{Share: "main", PerSecond: 100, Burst: 2}, sinks.Budget{PerSecond: 100, Burst: 100})
		b.Pace(sinks.Budget{Share: "main", PerSecond: 5, Burst: 50})
		alone := b.Pace(sinks.Budget{PerSecond: 1, Burst: 1}, sinks.Budget{Share: "none"})
		require.Zero(t, took(t, one, nil))
		require.Zero(t, took(t, two, nil))
		require.Equal(t, 200*time.Millisecond, took(t, two, nil))
		require.Equal(t, 200*time.Millisecond, took(t, one, nil))
		require.Zero(t, took(t, alone, nil))
		require.Equal(t, time.Second, took(t, alone, nil))
	})
}

func TestPaceWithoutLimits(t *testing.T) {
	require.NoError(t, Pace{}.Wait(t.Context(), nil))
	require.NoError(t, NewBuckets().Pace(sinks.Budget{}).Wait(t.Context(), nil))
	p := NewBuckets().Pace(sinks.Budget{PerSecond: 5.0 / 60})
	require.NoError(t, p.Wait(t.Context(), nil), "a bucket of nothing would never let a call through")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, p.Wait(ctx, nil), context.Canceled)
}

// How long a purge is held back is computed from the buckets as they are, and is true.
func TestDurationIsWhatCallsTake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		byItem := func(batch []invalidation.Invalidation) int { return len(batch) }
		b := NewBuckets()
		p := b.Pace(sinks.Budget{Share: "main", PerSecond: 2, Burst: 4}, sinks.Budget{PerSecond: 10, Burst: 10, Cost: byItem})
		calls := machine.Split(invs(invalidation.Tag, 100), sinks.Limits{Items: 25})
		all := func() (d time.Duration) {
			for _, call := range calls {
				d += took(t, p, call)
			}
			return d
		}
		require.Equal(t, 9*time.Second, p.Duration(calls), "100 items, of which the bucket holds 10")
		require.Equal(t, p.Duration(calls), all())
		require.Equal(t, 10*time.Second, p.Duration(calls), "the bucket is empty now")
		require.Equal(t, p.Duration(calls), all())
		time.Sleep(time.Minute)
		require.Equal(t, 9*time.Second, p.Duration(calls))

		many := machine.Split(invs(invalidation.Tag, 30), sinks.Limits{Items: 1})
		require.Equal(t, 13*time.Second, p.Duration(many), "30 calls, of which the bucket holds 4")
		require.Zero(t, b.Pace(sinks.Budget{PerSecond: 1, Cost: func([]invalidation.Invalidation) int { return 0 }}).Duration(many), "they cost nothing")
		require.Zero(t, Pace{}.Duration(many))
		require.Zero(t, p.Duration(nil))
	})
}
