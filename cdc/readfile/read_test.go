package readfile

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRead: what has no end, or never begins, is not read.
func TestRead(t *testing.T) {
	dir := t.TempDir()
	fifo, link, huge := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "huge")
	require.NoError(t, syscall.Mkfifo(fifo, 0o600))
	require.NoError(t, os.Symlink("/dev/zero", link))
	both := func(name string) (err error) {
		_, err = Read(name, 10)
		checked := Check(name, 10)
		require.Equal(t, err == nil, checked == nil)
		if err != nil {
			require.ErrorContains(t, err, checked.Error()[len(checked.Error())-10:], "both say the same")
		}
		return err
	}
	for _, name := range []string{"/dev/zero", "/dev/null", fifo, link, dir} {
		err := both(name)
		require.ErrorIs(t, err, ErrNotRegular)
		require.EqualError(t, err, name+" is not a regular file")
	}
	require.ErrorIs(t, both(filepath.Join(dir, "missing")), os.ErrNotExist)
	require.EqualError(t, both(filepath.Join(dir, "a\n\x1b[31m\u202eb")), fmt.Sprintf("%s %q: no such file or directory", "open", filepath.Join(dir, "a\n\x1b[31m\u202eb")))

	f, err := os.Create(huge)
	require.NoError(t, err)
	require.NoError(t, f.Truncate(1<<40))
	require.NoError(t, f.Close())
	require.ErrorIs(t, both(huge), ErrTooLarge)
	require.NoError(t, os.WriteFile(huge, []byte("01234567890"), 0o600))
	require.ErrorIs(t, both(huge), ErrTooLarge)

	require.NoError(t, os.WriteFile(huge, []byte("0123456789"), 0o600))
	require.NoError(t, both(huge))
	require.NoError(t, os.Symlink(huge, link+"2"))
	data, err := Read(link+"2", 10)
	require.NoError(t, err)
	require.Equal(t, "0123456789", string(data))
}
