package replica

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/watermark"
)

// unwritable is a ledger whose stream cannot be reached.
type unwritable struct{ Ledger }

func (unwritable) Away(context.Context, string) (bool, error) { return false, nil }
func (unwritable) Left(context.Context, string) error {
	return fmt.Errorf("no responders at %v", time.Now())
}

// locked is a buffer for two goroutines.
type locked struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *locked) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// TestLogOfAReplicaThatIsDown: for an hour it cannot be asked, and that it left cannot be stored.
func TestLogOfAReplicaThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log locked
		attempts := 0
		g := New(Config{
			Logger: slog.New(slog.NewTextHandler(&log, nil)), Ledger: unwritable{}, Leave: time.Minute,
			Board: watermark.NewBoard(watermark.Mark{Stage: watermark.Replayed, Target: "r"}),
			Replicas: []Replica{{Name: "r", Connect: func(context.Context) (*pgx.Conn, error) {
				attempts++
				return nil, fmt.Errorf("refused, attempt %d", attempts)
			}}},
		})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- g.Run(ctx) }()
		go func() { _ = g.Wait(ctx, at(100)); done <- nil }()
		time.Sleep(time.Hour - time.Second)
		stop()
		require.NoError(t, <-done)
		require.NoError(t, <-done)
		require.Greater(t, attempts, 700)
		require.Equal(t, 12, strings.Count(log.buf.String(), "\n"), log.buf.String())
	})
}
