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

// TestLogOfProblems: comparisons every ten seconds for an hour find the same problems; some end.
func TestLogOfProblems(t *testing.T) {
	for _, c := range []struct {
		name, on, off string
		problem       Problem
	}{
		{"publication", "the publication is not what the rules need", "a problem of the publication is solved", Problem{}},
		{"rule", "a table does not fit its rules any more", "the table fits its rules again", Problem{Rules: []string{"product"}, Unread: true}},
		{"covered", "a table does not fit its rules, and unknown covers that", "the table fits its rules again", Problem{Rules: []string{"product"}, Covered: true}},
	} {
		for tables, most := range map[int]int{1: 6 + 1, 100: 6*6 + 6} {
			t.Run(fmt.Sprint(c.name, tables), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					log := &lines{}
					r := &Reader{conditions: condition.NewLog(slog.New(slog.NewTextHandler(log, nil)))}
					find := func() []Problem {
						found := make([]Problem, tables)
						for i := range found {
							found[i] = c.problem
							found[i].Text = fmt.Sprintf("something about public.t%d", i)
						}
						return found
					}
					for range 359 {
						r.setProblems(find())
						time.Sleep(10 * time.Second)
					}
					r.setProblems(nil)
					r.conditions.Close()
					require.LessOrEqual(t, len(logged(log)), most, log.String())
					require.Contains(t, log.String(), `msg="`+c.on+`"`)
					require.Contains(t, log.String(), `level=INFO msg="`+c.off+`" err="something about public.t0" lasted=59m50s`)
					require.Equal(t, tables > 1, strings.Contains(log.String(), "there are more problems of publication and tables"))
				})
			})
		}
	}

	// A column that is renamed to and fro is one condition.
	synctest.Test(t, func(t *testing.T) {
		log := &lines{}
		r := &Reader{conditions: condition.NewLog(slog.New(slog.NewTextHandler(log, nil)))}
		for i := range 3599 {
			r.setProblems([]Problem{{Rules: []string{"product"}, Text: "x"}}[:i%2])
			time.Sleep(time.Second)
		}
		r.conditions.Close()
		require.LessOrEqual(t, len(logged(log)), 9, log.String())
	})
}

// TestLogOfCreation: publication and slot are named once, with the place where the slot begins.
func TestLogOfCreation(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.run(&sinkhole{}, Streaming)
	require.Regexp(t, `level=INFO msg="created the publication" publication=\S+ tables=\d+`, first.log.String())
	require.Regexp(t, `level=INFO msg="created the slot" slot=\S+ publication=\S+ lsn=[0-9A-F]+/[0-9A-F]+`, first.log.String())
	first.end(t)
	second := s.run(&sinkhole{}, Streaming)
	require.NotContains(t, second.log.String(), "created")
	second.end(t)
}
