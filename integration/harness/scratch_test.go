package harness

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestScratchOfProcessesThatAreGone(t *testing.T) {
	gone := exec.CommandContext(t.Context(), "true")
	require.NoError(t, gone.Run())
	in := t.TempDir()
	left := filepath.Join(in, fmt.Sprintf("%s%d-1", scratchPrefix, gone.Process.Pid))
	kept := []string{
		filepath.Join(in, fmt.Sprintf("%s%d-1", scratchPrefix, os.Getpid())),
		filepath.Join(in, scratchPrefix+"notes"),
		filepath.Join(in, "other"),
	}
	for _, dir := range append(kept, left) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "data"), 0o700))
	}
	removeOrphans(in)
	require.NoDirExists(t, left)
	for _, dir := range kept {
		require.DirExists(t, dir)
	}
}

// A server's account reaches what lies in a scratch directory.
func TestMkdirScratch(t *testing.T) {
	dir, err := MkdirScratch()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	as, err := postgresAccount()
	require.NoError(t, err)
	require.NoError(t, as.reach(filepath.Join(dir, "pg")))
	other, err := MkdirScratch()
	require.NoError(t, err)
	require.NotEqual(t, dir, other)
	require.NoError(t, os.RemoveAll(other))
}
