package app

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
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
