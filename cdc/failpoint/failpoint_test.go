//go:build failpoints

package failpoint

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "now")
	points := parse("bug,at:3,later:2@" + file)
	require.Len(t, points, 3)
	require.True(t, points["bug"].last())
	require.False(t, points["bug"].last(), "once")
	require.False(t, points["at"].last())
	require.False(t, points["at"].last())
	require.True(t, points["at"].last())
	for range 3 {
		require.False(t, points["later"].last(), "what passes before the file is there does not count")
	}
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.False(t, points["later"].last())
	require.True(t, points["later"].last())
}

func TestNothingIsArmedByItself(t *testing.T) {
	require.False(t, On("bug"))
	Crash("place")
	Copy("place", t.TempDir())
}
