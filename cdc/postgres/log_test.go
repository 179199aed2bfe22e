package postgres

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/watermark"
)

func logged(log *lines) []string {
	return strings.Split(strings.TrimSuffix(log.String(), "\n"), "\n")
}

// TestLogOfADatabaseThatIsDown: an hour of attempts of the reader and of its heartbeat.
func TestLogOfADatabaseThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		board := watermark.NewBoard(watermark.Mark{Stage: watermark.Received}, watermark.Mark{Stage: watermark.Synced}, watermark.Mark{Stage: watermark.Confirmed})
		// Nothing listens on port 1, and a refusal takes no time on the fake clock.
		r := NewReader(Config{URL: "postgres://walpurge@127.0.0.1:1/shop?sslmode=disable", Slot: "s", Publication: "p"},
			Options{Board: board, Confirm: watermark.ConfirmSynced, Logger: slog.New(slog.NewTextHandler(log, nil)), Watch: func() Watch { return Watch{} }})
		ctx, stop := context.WithCancel(t.Context())
		beating := make(chan error, 1)
		go func() { beating <- r.beat.run(ctx, cdc.Position{}) }()
		done := make(chan error, 1)
		go func() { done <- r.Run(ctx, nil) }()
		time.Sleep(time.Hour - time.Second)
		stop()
		require.NoError(t, <-done)
		require.NoError(t, <-beating)
		require.Len(t, logged(log), 2*6, log.String())
		require.Regexp(t, `level=WARN msg="replication interrupted, reconnecting" lasting=50m\S* err=".*" after=10s attempts=\d{3}`, log.String())
		require.Contains(t, log.String(), `msg="heartbeat lost its connection, lag grows until it is back"`)
	})
}

// TestLogOfProblems: looks every ten seconds for an hour find the same problems; some end.
func TestLogOfProblems(t *testing.T) {
	for _, c := range []struct{ tables, most int }{{1, 6 + 1}, {1000, 6*6 + 6}} {
		synctest.Test(t, func(t *testing.T) {
			log := &lines{}
			r := &Reader{conditions: condition.NewLog(slog.New(slog.NewTextHandler(log, nil)))}
			found := make([]error, c.tables)
			for i := range found {
				found[i] = fmt.Errorf("table public.t%d has left the publication", i)
			}
			for range 359 {
				r.tell(found)
				time.Sleep(10 * time.Second)
			}
			r.tell(nil)
			r.conditions.Close()
			require.LessOrEqual(t, len(logged(log)), c.most, log.String())
			require.Contains(t, log.String(), `level=INFO msg="a problem of the publication is solved" err="table public.t0 has left the publication" lasted=59m50s`)
			require.Equal(t, c.tables > 1, strings.Contains(log.String(), "the publication has more problems"))
		})
	}
}

// TestLogOfCreation: publication and slot are named once, with the place where the slot begins.
func TestLogOfCreation(t *testing.T) {
	s := newServer(t)
	first := s.run(&sinkhole{}, Streaming)
	require.Regexp(t, `level=INFO msg="created the publication" publication=\S+ tables=\d+`, first.log.String())
	require.Regexp(t, `level=INFO msg="created the slot" slot=\S+ publication=\S+ lsn=[0-9A-F]+/[0-9A-F]+`, first.log.String())
	first.end(t)
	second := s.run(&sinkhole{}, Streaming)
	require.NotContains(t, second.log.String(), "created")
	second.end(t)
}
