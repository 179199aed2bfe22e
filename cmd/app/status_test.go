package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

func TestSummaryIsOneSentence(t *testing.T) {
	lag := func(s float64) *float64 { return &s }
	streaming := Reader{State: "streaming"}
	one := func(s Sink) Status {
		s.Name = "edge"
		return Status{Reader: streaming, Sinks: []Sink{{Name: "cache", lag: lag(1)}, s}}
	}
	bytes := func(n int64) *int64 { return &n }
	since := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		s     Status
		fresh bool
		want  string
	}{
		{"fresh", Status{Reader: streaming, Sinks: []Sink{{Name: "cache", lag: lag(0.3)}, {Name: "edge", lag: lag(0.84)}}}, true,
			"FRESH: every sink within 0.8 s"},
		{"throttled", one(Sink{State: "throttled", Error: "cloudflare: HTTP 429", lag: lag(250), Backlog: 18200, DrainSeconds: lag(2760), RequestsPerSecond: 4, coarse: "--tag products"}), false,
			"STALE 4m10s at edge: throttled: cloudflare: HTTP 429, 18,200 messages waiting, 46 min at 4 req/s. Try: walpurge purge --sink edge --tag products --supersede"},
		{"throttled for a moment", one(Sink{State: "throttled", Error: "HTTP 429", lag: lag(11), Backlog: 42, DrainSeconds: lag(20.5), RequestsPerSecond: 0.333, coarse: "--all"}), false,
			"STALE 11s at edge: throttled: HTTP 429, 42 messages waiting, 20 s at 0.33 req/s. Try: walpurge status --watch"},
		{"catching up", one(Sink{State: "ok", lag: lag(60), Backlog: 1234567, DrainSeconds: lag(600), RequestsPerSecond: 20, coarse: "--all"}), false,
			"STALE 1m0s at edge: catching up, 1,234,567 messages waiting, 10 min at 20 req/s. Try: walpurge purge --sink edge --all --supersede"},
		{"blocked for a while", one(Sink{State: "blocked", Class: "transient", Error: "connection refused", lag: lag(20), Backlog: 7, DrainSeconds: lag(9000)}), false,
			"STALE 20s at edge: blocked: connection refused, 7 messages waiting. Try: walpurge check"},
		{"blocked for good", one(Sink{State: "blocked", Class: "lane", Error: "HTTP 403", lag: lag(20), Backlog: 7}), false,
			"STALE 20s at edge: blocked until somebody acts: HTTP 403, 7 messages waiting. Try: walpurge check"},
		{"gated by a sink", one(Sink{State: "gated", Gates: []string{"cache"}, lag: lag(20), Backlog: 7}), false,
			"STALE 20s at edge: gated by cache, 7 messages waiting. Try: walpurge status --watch"},
		{"gated by visibility", one(Sink{State: "gated", Gates: []string{"visible"}, lag: lag(20), Backlog: 7}), false,
			"STALE 20s at edge: gated by visible, 7 messages waiting. Try: walpurge check"},
		{"paused", one(Sink{State: "paused", lag: lag(20), Backlog: 7}), false,
			"STALE 20s at edge: paused by hand, 7 messages waiting. Try: walpurge resume --sink edge"},
		{"flushing", one(Sink{State: "flushing", lag: lag(20), Backlog: 7}), false,
			"STALE 20s at edge: flushing, 7 messages waiting. Try: walpurge status --watch"},
		{"parked", one(Sink{lag: lag(0), Parked: 3}), false,
			"STALE at edge: 3 messages parked, which the sink refuses for good. Try: walpurge parked list --sink edge"},
		{"unknown", one(Sink{}), false,
			"UNKNOWN at edge: nothing purged since the start yet. Try: walpurge status --watch"},
		{"never purged", one(Sink{State: "blocked", Error: "connection refused"}), false,
			"UNKNOWN at edge: nothing purged since the start yet, blocked: connection refused. Try: walpurge check"},
		{"not streaming", Status{Reader: Reader{State: "connecting", Since: since, Error: "connection refused"}, Sinks: []Sink{{Name: "edge", lag: lag(1)}}}, false,
			"NOT STREAMING since 2026-11-20T12:00:00Z, connecting: connection refused. Try: walpurge check"},
		{"standing by", Status{Reader: Reader{State: "standby", Since: since, Error: `slot "shop" is in use`}}, false,
			`NOT STREAMING since 2026-11-20T12:00:00Z, standby: slot "shop" is in use. Try: walpurge status --addr HOST:PORT, of the process that has the slot`},
		{"stream full", Status{Reader: Reader{State: "streaming", Blocked: "stream_full"}, Stream: Stream{LimitBytes: 2 << 30},
			Sinks: []Sink{{Name: "cache", lag: lag(1)}, {Name: "edge", State: "paused", lag: lag(600), Backlog: 90000, coarse: "--all"}}}, false,
			"STALE: nothing is read, the stream is full (2,048 MiB) of what waits for edge. Try: walpurge purge --sink edge --all --supersede; " +
				"STALE 10m0s at edge: paused by hand, 90,000 messages waiting. Try: walpurge resume --sink edge"},
		{"stream out of reach", Status{Reader: Reader{State: "streaming", Blocked: "nats_unreachable"}}, false,
			"STALE: the reader waits, nats_unreachable. Try: walpurge check"},
		{"slot near its limit", Status{Reader: streaming, Sinks: []Sink{{Name: "edge", lag: lag(0.84)}}, Slot: Slot{Name: "shop", State: "extended", RetainedBytes: 800 << 20, SafeBytes: bytes(200 << 20)}}, true,
			"FRESH: every sink within 0.8 s; slot shop is near its limit (extended): 800 MiB held back, 200 MiB until it is lost. " +
				`Try: psql "$ADMIN_URL" -c "ALTER SYSTEM SET max_slot_wal_keep_size = '2000MB'" -c "SELECT pg_reload_conf()"`},
		{"slot with room", Status{Reader: streaming, Sinks: []Sink{{Name: "edge", lag: lag(0.84)}}, Slot: Slot{Name: "shop", State: "extended", RetainedBytes: 100, SafeBytes: bytes(900)}}, true,
			"FRESH: every sink within 0.8 s"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fresh, sentence := summarize(&tc.s)
			require.Equal(t, tc.fresh, fresh)
			require.Equal(t, tc.want, sentence)
		})
	}
}

func TestCoarseFlags(t *testing.T) {
	tag := func(values ...string) (plan []rules.Invalidation) {
		for _, v := range values {
			plan = append(plan, rules.Invalidation{Kind: rules.Tag, Value: v})
		}
		return plan
	}
	require.Equal(t, "--tag products", coarseFlags(tag("products")))
	require.Equal(t, "--all", coarseFlags(tag("products", "users")))
	require.Equal(t, "--all", coarseFlags(tag("it's")), "a shell would read it otherwise")
	require.Equal(t, "--all", coarseFlags([]rules.Invalidation{{Kind: rules.Everything}}))
}
