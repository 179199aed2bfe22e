package strictyaml

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadFile: what has no end, or never begins, is not read.
func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	link := filepath.Join(dir, "link")
	require.NoError(t, os.Symlink("/dev/zero", link))
	for _, name := range []string{"/dev/zero", "/dev/null", fifo, link, dir} {
		_, err := ReadFile(name)
		require.ErrorContains(t, err, "is not a regular file")
	}
	_, err := ReadFile(filepath.Join(dir, "a\nb"))
	require.ErrorIs(t, err, os.ErrNotExist)

	huge := filepath.Join(dir, "huge")
	f, err := os.Create(huge)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<40))
	require.NoError(t, f.Close())
	data, err := ReadFile(huge)
	require.NoError(t, err)
	require.Len(t, data, MaxBytes+1)
	_, err = Parse(huge, data)
	require.ErrorContains(t, err, "the file is larger than 1 MiB")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("a: 1"), 0o600))
	require.NoError(t, os.Symlink(file, link+"2"))
	data, err = ReadFile(link + "2")
	require.NoError(t, err)
	require.Equal(t, "a: 1", string(data))
}
