package app

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/webhook"
)

// TestLogOfShadowMode: an hour of calls is a line every ten minutes, with sums and no values.
func TestLogOfShadowMode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var buf bytes.Buffer
		target, err := newTarget(config.Sink{Name: "edge", Config: &webhook.Config{URL: "http://127.0.0.1:1", Method: "POST", Timeout: time.Second}, Shadow: true}, nil, slog.New(slog.NewTextHandler(&buf, nil)))
		require.NoError(t, err)
		for range 3599 {
			require.NoError(t, target.Sink.Purge(t.Context(), []invalidation.Invalidation{{Value: "secret"}, {Value: "other"}}))
			time.Sleep(time.Second)
		}
		target.Close()
		lines := strings.Split(strings.TrimSuffix(buf.String(), "\n"), "\n")
		require.Len(t, lines, 6, buf.String())
		require.Contains(t, lines[0], `level=INFO msg="shadow: not purged" calls=1 count=2`)
		require.Contains(t, lines[5], "lasting=50m0s")
		require.NotContains(t, buf.String(), "secret")
	})
}
