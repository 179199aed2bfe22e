package stream

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/router/stream/embedded"
	"github.com/walpurge/walpurge/rules/invalidation"
)

var quiet = slog.New(slog.DiscardHandler)

// open returns a stream on a server of its own.
func open(t *testing.T, cfg Config) *Stream {
	t.Helper()
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = 16 << 20
	}
	s, stop := openIn(t, t.TempDir(), cfg)
	t.Cleanup(stop)
	return s
}

// openIn opens a stream on a server on a directory, which stop ends.
func openIn(t *testing.T, dir string, cfg Config) (s *Stream, stop func()) {
	t.Helper()
	nc, stop := serve(t, dir, 64<<20)
	s, err := openOn(t, nc, cfg)
	require.NoError(t, err)
	return s, stop
}

// openOn opens a stream on a connected server.
func openOn(t *testing.T, nc *nats.Conn, cfg Config) (*Stream, error) {
	t.Helper()
	cfg.Pipeline, cfg.Replicas, cfg.MaxAge = "shop", 1, time.Hour
	return Open(t.Context(), nc, cfg)
}

// serve starts a server on a directory, which stop ends.
func serve(t *testing.T, dir string, maxStore int64) (nc *nats.Conn, stop func()) {
	t.Helper()
	server, err := embedded.Start(embedded.Config{Dir: dir, MaxStore: maxStore}, quiet)
	require.NoError(t, err)
	nc, err = server.Connect()
	require.NoError(t, err)
	return nc, func() {
		nc.Close()
		server.Close()
	}
}

// publisher returns one that runs until the test ends.
func publisher(t *testing.T, s *Stream) (*Publisher, *watermark.Board) {
	t.Helper()
	board := watermark.NewBoard()
	p := NewPublisher(s, board, quiet)
	background(t, p.Run)
	return p, board
}

// background runs something until the test ends.
func background(t *testing.T, run func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func at(lsn cdc.LSN) cdc.Position { return cdc.Position{SystemID: "s", Timeline: 1, LSN: lsn} }

var noon = time.Date(2026, 11, 20, 12, 0, 0, 1000, time.UTC)

// keyed is a batch with one key, and so many bytes besides.
func keyed(sink, key string, more int) *invalidation.Batch {
	b := &invalidation.Batch{Sink: sink, Origin: invalidation.FromWAL, Stamp: cdc.Stamp{Position: at(10), XIDs: []uint64{7}, FirstCommit: noon, LastCommit: noon}}
	b.Items = []invalidation.Item{{Rule: "r"}}
	b.Items[0].Values[invalidation.Key] = []string{key}
	if more > 0 {
		b.Items[0].Values[invalidation.Tag] = []string{strings.Repeat("x", more)}
	}
	return b
}

// consumer returns a lane's reader, closed at the end of the test.
func consumer(t *testing.T, s *Stream, sink string) *Consumer {
	t.Helper()
	c, err := s.Consumer(t.Context(), sink, "", quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// next reads a message that must come.
func next(t *testing.T, c *Consumer) invalidation.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := c.Next(ctx)
	require.NoError(t, err)
	return m
}

// short says what a message holds.
func short(m invalidation.Message) string {
	switch {
	case m.Claim != nil:
		return fmt.Sprintf("claim %d.%d %s", m.Claim.Epoch, m.Claim.Counter, m.Claim.Position.LSN)
	case m.Batch.Flush:
		return "flush " + m.Batch.Reason
	}
	return m.Batch.Items[0].Values[invalidation.Key][0]
}

// eventually waits for something that comes by itself.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	require.Eventually(t, f, 20*time.Second, 5*time.Millisecond, what)
}
