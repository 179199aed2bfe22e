package visible

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestParseSnapshot(t *testing.T) {
	s, err := parseSnapshot("10:20:14,12,18")
	require.NoError(t, err)
	require.Equal(t, snapshot{xmin: 10, xmax: 20, running: []uint64{12, 14, 18}}, s)
	for _, bad := range []string{"", "1:2", "x:2:", "1:y:", "1:5:2,z", "1:5:2,"} {
		_, err := parseSnapshot(bad)
		require.Error(t, err, "%q", bad)
	}
}

func TestSees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		xmin := rapid.Uint64Range(1, 50).Draw(t, "xmin")
		xmax := rapid.Uint64Range(xmin, 60).Draw(t, "xmax")
		var running []uint64
		for x := xmin; x < xmax; x++ {
			if rapid.Bool().Draw(t, "running") {
				running = append(running, x)
			}
		}
		s := snapshot{xmin: xmin, xmax: xmax, running: running}
		xids := rapid.SliceOfN(rapid.Uint64Range(1, 70), 0, 5).Draw(t, "xids")
		want := true
		for _, x := range xids {
			want = want && x < xmax && !slices.Contains(running, x)
		}
		require.Equal(t, want, s.sees(xids))
	})
}
