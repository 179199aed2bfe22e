package lookup

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

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// TestLogOfADatabaseThatIsDown: an hour of lookups whose errors differ.
func TestLogOfADatabaseThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		attempts := 0
		r := New(Config{
			Logger:  slog.New(slog.NewTextHandler(&log, nil)),
			Visible: func(context.Context, cdc.Stamp) error { return nil },
			Connect: func(context.Context) (*pgx.Conn, error) {
				attempts++
				return nil, fmt.Errorf("refused, attempt %d", attempts)
			},
		})
		query := rules.Query{Lookup: &rules.Lookup{Rule: "menu", Name: "m", SQL: "SELECT 1", Timeout: time.Second}}
		for range 3599 {
			require.Error(t, r.Resolve(t.Context(), cdc.Stamp{}, []rules.Query{query})[0].Err)
			time.Sleep(time.Second)
		}
		r.Close(t.Context())
		require.Greater(t, attempts, 500)
		require.Equal(t, 6, strings.Count(log.String(), "\n"), log.String())
	})
}
