package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// show runs the demo with a directory for temporary files of its own, in which
// everything that it makes lies.
func show(t *testing.T, args ...string) (cmd *exec.Cmd, out *logs, dir string) {
	t.Helper()
	dir = t.TempDir()
	// PostgreSQL may run as another user, which must get through.
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	cmd = command([]string{"TMPDIR=" + dir}, append([]string{"demo"}, args...)...)
	out = &logs{}
	cmd.Stdout, cmd.Stderr = out, out
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, out, dir
}

// nothingLeft makes sure that neither a file nor a process remains.
func nothingLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
	ps, err := exec.Command("ps", "-A", "-o", "args=").Output()
	require.NoError(t, err)
	for line := range strings.Lines(string(ps)) {
		require.NotContains(t, line, dir)
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	cmd, out, dir := show(t, "--for", "3s")
	require.NoError(t, cmd.Wait(), out.String())
	t.Log(out.String())
	require.Regexp(t, `(?m)^  status    http://127.0.0.1:\d+/ `, out.String())
	require.Contains(t, out.String(), "UPDATE products SET")
	require.Regexp(t, `(?m)^    cache  product:\d+ product:slug:product-\d+ +[\d.]+ ms$`, out.String())
	require.Regexp(t, `(?m)^    edge   product-\d+ merchant-\d+ +[\d.]+ ms$`, out.String())
	require.Regexp(t, `(?m)^(\d+) changes, (\d+) purged everywhere$`, out.String())
	require.NotContains(t, out.String(), "level=")
	nothingLeft(t, dir)
}

func TestDemoInterrupted(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, at string
		sig      os.Signal
	}{
		{"while it starts", "starting a throwaway", syscall.SIGINT},
		{"while it runs", "UPDATE ", syscall.SIGINT},
		{"by SIGTERM", "UPDATE ", syscall.SIGTERM},
	} {
		t.Run(c.name, func(t *testing.T) {
			cmd, out, dir := show(t)
			eventually(t, 30*time.Second, func() bool { return strings.Contains(out.String(), c.at) }, "the demo says %q", c.at)
			require.NoError(t, cmd.Process.Signal(c.sig))
			began := time.Now()
			require.NoError(t, cmd.Wait(), out.String())
			require.Less(t, time.Since(began), time.Minute)
			require.Zero(t, cmd.ProcessState.ExitCode())
			nothingLeft(t, dir)
		})
	}
}
