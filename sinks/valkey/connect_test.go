package valkey

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/sinks"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func requireLane(t *testing.T, err error, says string) {
	t.Helper()
	require.ErrorContains(t, err, says)
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Lane, class, "%v", err)
}

func requireTransient(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Transient, class, "%v", err)
}

func requireItem(t *testing.T, err error, says string) {
	t.Helper()
	var be *sinks.BatchError
	require.True(t, errors.As(err, &be), "%v", err)
	require.Len(t, be.Failed, 1)
	for _, ferr := range be.Failed {
		require.ErrorContains(t, ferr, says)
		class, _ := sinks.ClassOf(ferr)
		require.Equal(t, sinks.Item, class, "%v", ferr)
	}
}

func TestCredentials(t *testing.T) {
	srv := startServer(t)
	do(t, srv.admin, "ACL", "SETUSER", "walpurge", "on", ">hunter2", "+@all", "~*")
	file := filepath.Join(t.TempDir(), "password")
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Username, c.PasswordFile = "walpurge", file })

	requireLane(t, s.Purge(t.Context(), keysOf("a")), "password_file")
	require.NoError(t, os.WriteFile(file, []byte(" \n"), 0o600))
	requireLane(t, s.Purge(t.Context(), keysOf("a")), "password_file is empty")
	require.NoError(t, os.WriteFile(file, []byte("wrong"), 0o600))
	requireLane(t, s.Purge(t.Context(), keysOf("a")), "WRONGPASS")
	requireLane(t, s.Check(t.Context()), "WRONGPASS")
	require.NoError(t, os.WriteFile(file, []byte("hunter2\n"), 0o600))
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))

	inURL := openSink(t, "valkey://walpurge:hunter2@"+srv.addr, nil, nil)
	require.NoError(t, inURL.Purge(t.Context(), keysOf("a")))

	do(t, srv.admin, "CONFIG", "SET", "requirepass", "other")
	none := openSink(t, "valkey://"+srv.addr, nil, nil)
	requireLane(t, none.Purge(t.Context(), keysOf("a")), "NOAUTH")
}

func TestCheck(t *testing.T) {
	srv := startServer(t)
	user := func(more ...string) {
		do(t, srv.admin, append(append([]string{"ACL", "SETUSER", "walpurge", "reset", "on", ">pw"}, leastPrivilege()...), more...)...)
	}
	var logged bytes.Buffer
	s := openSink(t, "valkey://walpurge:pw@"+srv.addr, slog.New(slog.NewTextHandler(&logged, nil)), nil)
	user()
	require.NoError(t, s.Check(t.Context()))
	require.Empty(t, logged.String())

	user("-unlink")
	requireLane(t, s.Check(t.Context()), "UNLINK: NOPERM")
	user("-scan")
	requireLane(t, s.Check(t.Context()), "SCAN: NOPERM")
	user("-ping")
	requireLane(t, s.Check(t.Context()), "PING: NOPERM")
	user("resetkeys", "~product:*")
	require.NoError(t, s.Check(t.Context()))
	require.Contains(t, logged.String(), "some keys only")

	user()
	do(t, srv.admin, "REPLICAOF", "127.0.0.1", "1")
	requireLane(t, s.Check(t.Context()), "READONLY")
	do(t, srv.admin, "REPLICAOF", "NO", "ONE")
	require.NoError(t, s.Check(t.Context()))
}

func TestNewDoesNotDial(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	s := openSink(t, "valkey://"+addr, nil, nil)
	err = s.Purge(t.Context(), keysOf("a"))
	require.ErrorContains(t, err, "connection refused")
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Transient, class)
	require.Error(t, s.Check(t.Context()))
	s.Close()
	require.ErrorIs(t, s.Check(t.Context()), errClosed)
}

// A cancellation does not wait until the patience with a silent server ends.
func TestCancellationIsPrompt(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	cfg := DefaultConfig()
	cfg.URL = "valkey://" + px.addr()
	for name, warm := range map[string]bool{"fresh": false, "connected": true} {
		t.Run(name, func(t *testing.T) {
			s, err := newSink(cfg, patience{dial: time.Hour, reply: time.Hour, ask: time.Second, idle: 10 * time.Second}, discard())
			require.NoError(t, err)
			defer s.Close()
			px.set(script{})
			if warm {
				require.NoError(t, s.Purge(t.Context(), keysOf("a")))
			}
			arrived := make(chan struct{})
			px.set(script{silent: arrived})
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-arrived
				cancel()
			}()
			purged := make(chan error, 1)
			go func() { purged <- s.Purge(ctx, keysOf("a")) }()
			select {
			case err := <-purged:
				require.ErrorIs(t, err, context.Canceled)
			case <-time.After(time.Minute):
				require.FailNow(t, "the cancelled call goes on")
			}
		})
	}
}

func TestConnectionsEndWithTheirLink(t *testing.T) {
	srv := startServer(t)
	life, kill := context.WithCancel(t.Context())
	dial := dialer(life, "tcp", nil)
	conn, err := dial(t.Context(), srv.addr, &net.Dialer{}, nil)
	require.NoError(t, err)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(30*time.Second)))
	kill()
	_, err = conn.Read(make([]byte, 1))
	require.ErrorIs(t, err, net.ErrClosed)
	_, err = dial(t.Context(), srv.addr, &net.Dialer{}, nil)
	require.ErrorIs(t, err, errClosed, "a client that refreshes itself after its end")
}

func TestSeveralHostsMustBeACluster(t *testing.T) {
	a, b := startServer(t), startServer(t)
	s := openSink(t, "valkey://"+a.addr+","+b.addr, nil, nil)
	requireLane(t, s.Purge(t.Context(), keysOf("a")), "name one host")
}

func TestModeThatIsNot(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Mode = "cluster" })
	requireLane(t, s.Purge(t.Context(), keysOf("a")), "mode is cluster, and the server is not a cluster node")
	s = openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Mode = "standalone" })
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
}
