package valkey

import (
	"bufio"
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"
)

// server is a real server, a child of the test.
type server struct {
	addr   string
	socket string
	admin  valkey.Client // as the default user, who may do everything
	kill   func()        // and wait until it is gone
}

func startServer(t testing.TB, args ...string) *server {
	t.Helper()
	return startAs(t, nil, append([]string{"--save", "", "--appendonly", "no"}, args...))
}

// startAs starts a server with arguments before and behind those of its place.
func startAs(t testing.TB, first, last []string) *server {
	t.Helper()
	binary := ""
	for _, name := range []string{"valkey-server", "redis-server"} {
		if path, err := exec.LookPath(name); err == nil {
			binary = path
			break
		}
	}
	if binary == "" {
		t.Fatal("neither valkey-server nor redis-server is on PATH: apt-get install valkey-server")
	}
	// Not t.TempDir: a socket's path may have 108 bytes only.
	dir, err := os.MkdirTemp("", "vk")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })

	for range 5 {
		port := freePort(t)
		s := &server{
			addr:   net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
			socket: filepath.Join(dir, "s.sock"),
		}
		if s.run(t, binary, dir, slices.Concat(first, []string{
			"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--unixsocket", s.socket,
			"--dir", dir, "--daemonize", "no", "--logfile", "",
		}, last)) {
			s.admin = adminOf(t, s.addr, passwordIn(slices.Concat(first, last)))
			return s
		}
	}
	t.Fatal("no server came up on five free ports")
	return nil
}

// run reports whether the server came up; another process may have taken the port.
func (s *server) run(t testing.TB, binary, dir string, args []string) bool {
	cmd := exec.Command(binary, args...)
	cmd.Dir = dir
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	s.kill = func() {
		_ = cmd.Process.Kill()
		<-done
	}
	t.Cleanup(s.kill)
	ready := make(chan bool, 1)
	go func() {
		defer close(done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if strings.Contains(lines.Text(), "Ready to accept connections") || strings.Contains(lines.Text(), "Sentinel ID is") {
				ready <- true
				break
			}
		}
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		select {
		case ready <- false:
		default:
		}
	}()
	select {
	case up := <-ready:
		return up
	case <-time.After(20 * time.Second):
		return false
	}
}

func freePort(t testing.TB) int {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port
}

func adminOf(t testing.TB, addr, password string) valkey.Client {
	c, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{addr}, Password: password, ForceSingleClient: true, DisableCache: true})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// passwordIn finds the default user's password in a server's arguments or, for a
// sentinel, in its file.
func passwordIn(args []string) string {
	if i := slices.Index(args, "--requirepass"); i >= 0 {
		return args[i+1]
	}
	if len(args) > 0 && strings.HasSuffix(args[0], ".conf") {
		text, _ := os.ReadFile(args[0])
		if _, after, found := strings.Cut(string(text), "\nrequirepass "); found {
			password, _, _ := strings.Cut(after, "\n")
			return strings.Trim(password, `"`)
		}
	}
	return ""
}

// do runs a command that may be sent twice: a server that is promoted closes its clients'
// connections, and a client notices that only at its next command.
func do(t testing.TB, c valkey.Client, args ...string) valkey.ValkeyResult {
	t.Helper()
	r := c.Do(context.Background(), c.B().Arbitrary(args...).Build().ToRetryable())
	require.NoError(t, r.Error(), args[0])
	return r
}

func fill(t testing.TB, c valkey.Client, keys ...string) {
	t.Helper()
	cmds := make(valkey.Commands, len(keys))
	for i, k := range keys {
		cmds[i] = c.B().Set().Key(k).Value("v").Build().ToRetryable()
	}
	for _, r := range c.DoMulti(context.Background(), cmds...) {
		require.NoError(t, r.Error())
	}
}

func held(t testing.TB, c valkey.Client, key string) bool {
	t.Helper()
	n, err := c.Do(context.Background(), c.B().Exists().Key(key).Build()).AsInt64()
	require.NoError(t, err)
	return n == 1
}
