//go:build full

package valkey

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// A real proxy that ends the connection at a command which it does not know.
func TestTwemproxy(t *testing.T) {
	binary, err := exec.LookPath("nutcracker")
	require.NoError(t, err, "apt-get install nutcracker")
	srv := startServer(t)
	addr := net.JoinHostPort("127.0.0.1", fmt.Sprint(freePort(t)))
	dir := t.TempDir()
	file := filepath.Join(dir, "nutcracker.yml")
	require.NoError(t, os.WriteFile(file, []byte("cache:\n  listen: "+addr+"\n  redis: true\n  servers:\n   - "+srv.addr+":1\n"), 0o600))
	cmd := exec.Command(binary, "-c", file, "-s", fmt.Sprint(freePort(t)), "-a", "127.0.0.1")
	cmd.Stdout, cmd.Stderr = io.Discard, io.Discard
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	require.Eventually(t, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}, 30*time.Second, 10*time.Millisecond)

	require.ErrorContains(t, openSink(t, "valkey://"+addr, nil, nil).Purge(t.Context(), keysOf("a")), "write mode: standalone")
	s := openSink(t, "valkey://"+addr, nil, func(c *Config) { c.Mode, c.Uses = standalone, invalidation.Kinds(invalidation.Key) })
	fill(t, srv.admin, "a", "b")
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Purge(t.Context(), keysOf("a", "b")))
	require.False(t, held(t, srv.admin, "a"))
	require.False(t, held(t, srv.admin, "b"))
}
