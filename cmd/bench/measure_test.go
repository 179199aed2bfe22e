package bench

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/router/stream/embedded"
)

// A listener that is slow hears of every purge that was told before, all the same.
func TestHeardAll(t *testing.T) {
	server, err := embedded.Start(embedded.Config{Dir: t.TempDir(), MaxStore: 1 << 20}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(server.Close)
	conn, err := server.Connect()
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	release := make(chan struct{})
	var heard atomic.Int32
	sub, err := conn.Subscribe("purged", func(*nats.Msg) {
		<-release
		heard.Add(1)
	})
	require.NoError(t, err)
	for range 3 {
		require.NoError(t, conn.Publish("purged", nil))
	}
	done := make(chan error, 1)
	var seen int32
	go func() {
		err := heardAll(t.Context(), sub)
		seen = heard.Load()
		done <- err
	}()
	close(release)
	require.NoError(t, <-done)
	require.EqualValues(t, 3, seen)
}
