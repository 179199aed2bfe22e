package visible

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// TestLogOfADatabaseThatIsDown: an hour of attempts whose errors differ.
func TestLogOfADatabaseThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		attempts := 0
		g := New(Config{Logger: slog.New(slog.NewTextHandler(&log, nil)), Connect: func(context.Context) (*pgx.Conn, error) {
			attempts++
			return nil, fmt.Errorf("refused, attempt %d", attempts)
		}})
		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- g.Run(ctx) }()
		time.Sleep(time.Hour - time.Second)
		stop()
		require.NoError(t, <-done)
		require.Greater(t, attempts, 700)
		require.Equal(t, 6, strings.Count(log.String(), "\n"), log.String())
	})
}
