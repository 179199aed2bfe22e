//go:build full

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestInterrupt ends a run with Ctrl-C while it makes the database and while it runs a variant. It leaves
// neither a directory nor a process, and does not panic.
func TestInterrupt(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin, "./cmd/walpurge", "./integration/scenario/run")
	build.Dir = "../../.."
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, at := range []string{"making the database", "requests a second"} {
		t.Run(at, func(t *testing.T) {
			tmp, err := os.MkdirTemp("", "walpurge-interrupt-")
			require.NoError(t, err)
			defer os.RemoveAll(tmp)
			// The account of PostgreSQL passes through.
			require.NoError(t, os.Chmod(tmp, 0o711))
			cmd := exec.Command(filepath.Join(bin, "run"), "-name", "restaurant", "-walpurge", filepath.Join(bin, "walpurge"), "-root", "../../..", "-variants", "3", "-shorten", "3")
			cmd.Env = append(os.Environ(), "TMPDIR="+tmp)
			var errs strings.Builder
			cmd.Stderr = &errs
			stdout, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			for lines := bufio.NewScanner(stdout); lines.Scan(); {
				if strings.Contains(lines.Text(), at) {
					require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
					break
				}
			}
			_, err = io.Copy(io.Discard, stdout)
			require.NoError(t, err)
			require.Error(t, cmd.Wait())
			require.NotContains(t, errs.String(), "panic")
			require.Equal(t, 1, cmd.ProcessState.ExitCode(), errs.String())
			left, err := os.ReadDir(tmp)
			require.NoError(t, err)
			require.Empty(t, left)
			commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
			require.NoError(t, err)
			for _, file := range commands {
				if raw, err := os.ReadFile(file); err == nil {
					require.NotContains(t, string(raw), tmp)
				}
			}
		})
	}
}
