package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/router"
)

func TestWedged(t *testing.T) {
	now := time.Now()
	long, short := now.Add(-time.Hour), now.Add(-time.Second)
	for name, c := range map[string]struct {
		phase       postgres.Phase
		since, last time.Time
		blocked     string
		wedged      bool
	}{
		"works":                      {postgres.Streaming, long, short, "", false},
		"no longer reads":            {postgres.Streaming, long, long, "", true},
		"has just begun":             {postgres.Streaming, short, long, "", false},
		"waits for room":             {postgres.Streaming, long, long, "stream_full", false},
		"has no database":            {postgres.Connecting, long, long, "", false},
		"stands by":                  {postgres.Standby, long, long, "", false},
		"is quiet, but not too long": {postgres.Streaming, long, now.Add(-time.Minute), "", false},
	} {
		err := wedged(postgres.State{Phase: c.phase, Since: c.since}, c.blocked, c.last, now)
		require.Equal(t, c.wedged, err != nil, "%s: %v", name, err)
	}
}

// resting takes a while for each rest.
type resting struct{ postgres.Handler }

func (resting) Rest(context.Context, cdc.Rest) error {
	time.Sleep(time.Minute)
	return nil
}

func TestPulseIsWhenWorkWasDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPulse(resting{})
		require.NoError(t, p.Rest(t.Context(), cdc.Rest{}))
		require.Equal(t, time.Minute, time.Duration(p.last.Load()))
	})
}

// TestStall: only a router that is found in one evaluation again and again is stuck.
func TestStall(t *testing.T) {
	evaluating := func(number uint64) router.Step {
		return router.Step{Number: number, Evaluating: number%2 == 1, Table: cdc.Table{Schema: "public", Name: "t"}, XID: 7, Commit: 16}
	}
	for name, c := range map[string]struct {
		number func(look int) uint64
		why    string
	}{
		"idle, or waits for the stream":          {func(int) uint64 { return 8 }, ""},
		"decodes a large transaction":            {func(look int) uint64 { return 1 + 2*uint64(look) }, ""},
		"a large transaction, seen between rows": {func(look int) uint64 { return uint64(look) * 1001 }, ""},
		"stuck":                                  {func(int) uint64 { return 7 }, "the rules have been evaluating a change of public.t in transaction 7 that commits at 0/10 for 5 s and more"},
	} {
		var s stall
		for look := range stuckAfter {
			require.False(t, s.look(evaluating(c.number(look))), name)
			require.Empty(t, s.why(), name)
		}
		for look := range 100 {
			require.Equal(t, c.why != "", s.look(evaluating(c.number(stuckAfter+look))), name)
			require.Equal(t, c.why, s.why(), name)
		}
		require.False(t, s.look(evaluating(1<<40)), name)
		require.Empty(t, s.why(), "it moves again")
	}
	var s stall
	for range stuckAfter + 1 {
		s.look(router.Step{Number: 1, Evaluating: true, XID: 9})
	}
	require.Equal(t, "the rules have been evaluating a change of a large transaction, or a message in transaction 9 for 5 s and more", s.why())
}
