package cloudflare

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/sinks"
)

func rateHeaders(limit, policy string) http.Header {
	return http.Header{"Ratelimit": {limit}, "Ratelimit-Policy": {policy}}
}

func TestHeaderPause(t *testing.T) {
	for _, tc := range []struct {
		limit, policy string
		pause         time.Duration
	}{
		{`"default";r=50;t=30`, `"default";q=100;w=60`, 0},
		{`"default";r=25;t=30`, `"default";q=100;w=60`, 0},
		{`"default";r=24;t=30`, `"default";q=100;w=60`, 30 * time.Second / 25},
		{`"default";r=0;t=30`, `"default";q=100;w=60`, 30 * time.Second},
		{`"default";r=9;t=30`, `"burst";q=100;w=60`, 3 * time.Second},
		{`"default";r=0;t=30`, ``, 30 * time.Second},
		{`"default";r=3;t=30`, ``, 0},
		{`"default";r=0;t=99999`, ``, 5 * time.Minute},
		{`"a";r=1199;t=300, "b";r=4;t=10`, `"a";q=1200;w=300, "b";q=50;w=5`, 2 * time.Second},
		{`default; r=0; t=7`, ``, 7 * time.Second},
	} {
		pause, ok := headerPause(rateHeaders(tc.limit, tc.policy))
		require.True(t, ok, tc.limit)
		require.Equal(t, tc.pause, pause, tc.limit)
	}
	for _, nonsense := range []string{"", ";;", `"a";r=-1;t=5`, `"a";r=x;t=5`, `"a";r=5`, `"a"`, "=,=;=", `"a";r=99999999999999;t=5`} {
		_, ok := headerPause(rateHeaders(nonsense, nonsense))
		require.False(t, ok, nonsense)
	}
}

func TestPacerWaitsShortlyAndHandsLongPausesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pacer
		require.NoError(t, p.wait(t.Context()))
		p.observe(rateHeaders(`"a";r=1;t=2`, `"a";q=100;w=5`), time.Now())
		began := time.Now()
		require.NoError(t, p.wait(t.Context()))
		require.Equal(t, time.Second, time.Since(began))

		p.observe(rateHeaders(`"a";r=0;t=40`, ""), time.Now())
		began = time.Now()
		class, after := sinks.ClassOf(p.wait(t.Context()))
		require.Equal(t, sinks.Throttled, class)
		require.Equal(t, 40*time.Second, after)
		require.Zero(t, time.Since(began))
		time.Sleep(after)
		require.NoError(t, p.wait(t.Context()))

		p.observe(rateHeaders(`"a";r=0;t=40`, ""), time.Now())
		p.observe(http.Header{}, time.Now())
		require.Error(t, p.wait(t.Context()), "an answer without headers says nothing")
		p.observe(rateHeaders(`"a";r=90;t=40`, `"a";q=100;w=60`), time.Now())
		require.NoError(t, p.wait(t.Context()), "the newest answer counts")

		p.observe(rateHeaders(`"a";r=1;t=2`, `"a";q=100;w=5`), time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, p.wait(ctx), context.Canceled)
	})
}

// Nothing is sent while the API says that nothing is left.
func TestSinkSlowsBeforeItIsRefused(t *testing.T) {
	e, s, _ := startSink(t)
	e.mu.Lock()
	e.policy = [2]string{`"default";r=0;t=60`, `"default";q=1200;w=300`}
	e.mu.Unlock()
	require.NoError(t, s.Purge(t.Context(), tags("a")))
	class, after := sinks.ClassOf(s.Purge(t.Context(), tags("b")))
	require.Equal(t, sinks.Throttled, class)
	require.Greater(t, after, 30*time.Second)
	requests, _ := e.seen()
	require.Len(t, requests, 1)
}
