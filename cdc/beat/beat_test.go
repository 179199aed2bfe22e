package beat

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Whoever starts when, all wake at the same moments.
func TestTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const d = time.Second
		var woken [3][]time.Time
		for i := range woken {
			time.Sleep(170 * time.Millisecond)
			go func() {
				for range 4 {
					<-After(d)
					woken[i] = append(woken[i], time.Now())
				}
			}()
		}
		time.Sleep(10 * d)
		synctest.Wait()
		require.Len(t, woken[0], 4)
		for i, at := range woken[0] {
			require.Zero(t, at.UnixNano()%int64(d))
			if i > 0 {
				require.Equal(t, d, at.Sub(woken[0][i-1]))
			}
		}
		require.Equal(t, woken[0], woken[1])
		require.Equal(t, woken[0], woken[2])
	})
}

// A beat falls on a moment just past it only after a whole period, so a loop does
// not spin.
func TestNeverAtOnce(t *testing.T) {
	at := time.Unix(1_800_000_000, 0)
	require.Equal(t, time.Second, until(at, time.Second))
	require.Equal(t, time.Nanosecond, until(at.Add(-1), time.Second))
	require.Equal(t, 5*time.Second-1, until(at.Add(1), 5*time.Second))
}
