package machine

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestStepsHoldAllOfAFlush(t *testing.T) {
	for _, n := range []int{1, 2, maxSteps, maxSteps + 1, 1000} {
		f := &flusher{pace: time.Hour}
		plan := make([]invalidation.Invalidation, n)
		for i := range plan {
			plan[i].Value = keys(n)[i]
		}
		f.begin(plan, time.Unix(0, 0))
		require.LessOrEqual(t, len(f.left), maxSteps)
		require.Equal(t, plan, slices.Concat(f.left...))
	}
}
