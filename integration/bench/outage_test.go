package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A hundred commits a second: the backlog ends after one second, the latency falls
// under the bound half a second later, and one straggler in ten does not count.
func TestBack(t *testing.T) {
	start := time.Unix(1_800_000_000, 0)
	var all []commit
	var took []time.Duration
	for i := range 400 {
		all = append(all, commit{at: start.Add(time.Duration(i) * 10 * time.Millisecond)})
		switch {
		case i < 150:
			took = append(took, time.Second)
		case i%20 == 0:
			took = append(took, 50*time.Millisecond)
		default:
			took = append(took, time.Millisecond)
		}
	}
	later, p50, err := back(all, took, start.Add(time.Second))
	require.NoError(t, err)
	require.Equal(t, 600*time.Millisecond, later, "windows of 200 ms: the one that begins at 400 ms holds slow ones yet")
	require.Equal(t, time.Millisecond, p50)

	for i := range took {
		took[i] = time.Second
	}
	_, _, err = back(all, took, start.Add(time.Second))
	require.ErrorContains(t, err, "did not come back")
}

func TestShare(t *testing.T) {
	require.Zero(t, share(nil, 0.5))
	all := []time.Duration{3, 1, 2, 5, 4}
	require.Equal(t, time.Duration(3), share(all, 0.5))
	require.Equal(t, time.Duration(5), share(all, 1))
	require.Equal(t, []time.Duration{3, 1, 2, 5, 4}, all, "the order of the commits stays")
}
