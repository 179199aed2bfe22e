package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// newFiles returns a store on a small tree whose files are an hour old, and
// what was synced since the last call of the function.
func newFiles(t *testing.T) (s *store, synced func() []string) {
	t.Helper()
	s = newStore(t.TempDir())
	require.NoError(t, os.MkdirAll(filepath.Join(s.root, "msgs"), 0o750))
	require.NoError(t, os.MkdirAll(filepath.Join(s.root, "obs"), 0o750))
	for _, f := range []string{"meta.inf", "msgs/1.blk", "msgs/2.blk", "obs/floor"} {
		require.NoError(t, os.WriteFile(filepath.Join(s.root, f), []byte("x"), 0o600))
	}
	age(t, s.root)
	var paths []string
	s.fsync = func(path string) error {
		name, err := filepath.Rel(s.root, path)
		require.NoError(t, err)
		paths = append(paths, name)
		return nil
	}
	return s, func() []string {
		out := paths
		paths = nil
		slices.Sort(out)
		return out
	}
}

// age makes everything look changed an hour ago.
func age(t *testing.T, root string) {
	t.Helper()
	old := time.Now().Add(-time.Hour)
	require.NoError(t, filepath.WalkDir(root, func(path string, _ os.DirEntry, err error) error {
		require.NoError(t, err)
		return os.Chtimes(path, old, old)
	}))
}

func TestOnlyWhatChangedIsSynced(t *testing.T) {
	s, synced := newFiles(t)
	require.NoError(t, s.sync())
	require.Equal(t, []string{".", "meta.inf", "msgs", "msgs/1.blk", "msgs/2.blk"}, synced(), "all but the consumers' floors")
	require.NoError(t, s.sync())
	require.Empty(t, synced())

	f, err := os.OpenFile(filepath.Join(s.root, "msgs/2.blk"), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("more")
	require.NoError(t, err)
	require.NoError(t, f.Close())
	require.NoError(t, s.sync())
	require.Equal(t, []string{"msgs/2.blk"}, synced())

	require.NoError(t, os.WriteFile(filepath.Join(s.root, "msgs/3.blk"), nil, 0o600))
	require.NoError(t, os.Remove(filepath.Join(s.root, "msgs/1.blk")))
	require.NoError(t, s.sync())
	require.Subset(t, synced(), []string{"msgs", "msgs/3.blk"})
}

// Clocks of file systems are coarse: two changes may bear the same time.
func TestWhatChangedJustNowIsSyncedOnceMore(t *testing.T) {
	s, synced := newFiles(t)
	require.NoError(t, s.sync())
	synced()
	now := time.Now()
	path := filepath.Join(s.root, "msgs/1.blk")
	require.NoError(t, os.Chtimes(path, now, now))
	require.NoError(t, s.sync())
	require.Equal(t, []string{"msgs/1.blk"}, synced())
	require.NoError(t, os.WriteFile(path, []byte("y"), 0o600)) // the same size
	require.NoError(t, os.Chtimes(path, now, now))             // and time
	require.NoError(t, s.sync())
	require.Equal(t, []string{"msgs/1.blk"}, synced())
}

func TestAFailedSyncIsFinal(t *testing.T) {
	s, _ := newFiles(t)
	broken := errors.New("input/output error")
	s.fsync = func(string) error { return broken }
	require.ErrorIs(t, s.sync(), broken)
	s.fsync = func(string) error { return nil }
	require.ErrorIs(t, s.sync(), broken, "the kernel reports a lost write only once")
}

func TestWhatVanishesNeedsNoSync(t *testing.T) {
	require.NoError(t, fsync(filepath.Join(t.TempDir(), "gone")))
	require.NoError(t, newStore(filepath.Join(t.TempDir(), "none")).sync())
	require.NoError(t, fsync(t.TempDir()))
}
