package app

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router/stream"
)

// hangingProxy passes bytes on to a server until it is told to hang. Its connections then stay open.
func hangingProxy(t *testing.T, to string) (addr string, hang *atomic.Bool) {
	t.Helper()
	hang = new(atomic.Bool)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	pass := func(dst, src net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := src.Read(buf)
			if err != nil {
				dst.Close()
				return
			}
			if !hang.Load() {
				_, _ = dst.Write(buf[:n])
			}
		}
	}
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			go pass(server, client)
			go pass(client, server)
		}
	}()
	return l.Addr().String(), hang
}

// TestSilentServersAreNamed: a NATS server or a database that accepts connections and says nothing is named, without what is secret of
// its address, and calls that need it end.
func TestSilentServersAreNamed(t *testing.T) {
	addr, hang := hangingProxy(t, fmt.Sprintf("127.0.0.1:%d", startNATS(t, "jetstream: {store_dir: $DIR}\nauthorization: {users: [{user: w, password: hunter2}]}")))
	cfg := &config.Config{Pipeline: "shop", NATS: config.NATS{URL: "nats://w:hunter2@" + addr, Replicas: 1}}
	quiet := slog.New(slog.DiscardHandler)
	reported := newNATSErrors(cfg.NATS.URL, quiet)
	defer reported.conditions.Close()
	_, nc, err := connectNATS(cfg, quiet, reported)
	require.NoError(t, err)
	defer nc.Close()
	s, err := stream.Open(t.Context(), nc, stream.Config{Pipeline: "shop", MaxBytes: 8 << 20, Replicas: 1, Shared: true})
	require.NoError(t, err)
	a := &App{cfg: cfg, nc: nc, stream: s, log: quiet}
	require.NoError(t, a.silent(t.Context(), admin.Servers{Stream: true}))
	listens := func(ctx context.Context) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		return a.Tail(ctx, "", func([]byte) error { cancel(); return nil })
	}
	require.NoError(t, listens(t.Context()))

	hang.Store(true)
	names := func(err error, server string) {
		t.Helper()
		require.ErrorContains(t, err, server)
		require.NotContains(t, err.Error(), "hunter2")
	}
	names(a.silent(t.Context(), admin.Servers{Stream: true}), "the NATS server at nats://"+addr+" does not answer")
	err = listens(t.Context())
	var silent *admin.SilentError
	require.ErrorAs(t, err, &silent)
	names(err, "the NATS server at nats://"+addr+" does not answer")

	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(io.Discard, conn) }()
		}
	}()
	a.cfg.Postgres = postgres.Config{URL: "postgres://u:hunter2@" + l.Addr().String() + "/d?sslmode=disable"}
	began := time.Now()
	err = a.silent(t.Context(), admin.Servers{Database: true})
	names(err, "PostgreSQL does not answer")
	require.True(t, strings.Contains(err.Error(), l.Addr().String()), err)
	require.Less(t, time.Since(began), 30*time.Second)
}
