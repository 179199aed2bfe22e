package app

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestSummaryIsOneSentence(t *testing.T) {
	lag := func(s float64) *float64 { return &s }
	streaming := Reader{State: "streaming"}
	since := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		name  string
		s     Status
		fresh bool
		want  string
	}{
		{"fresh", Status{Reader: streaming, Sinks: []Sink{{Name: "cache", LagSeconds: lag(0.3)}, {Name: "edge", LagSeconds: lag(0.84)}}}, true,
			"FRESH: every sink within 0.8 s"},
		{"stale", Status{Reader: streaming, Sinks: []Sink{{Name: "cache", LagSeconds: lag(1)}, {Name: "edge", State: "throttled", Error: "HTTP 429", LagSeconds: lag(250), Backlog: 42}}}, false,
			"STALE 4m10s at edge: throttled: HTTP 429, 42 messages waiting"},
		{"parked", Status{Reader: streaming, Sinks: []Sink{{Name: "edge", LagSeconds: lag(0), Parked: 3}}}, false,
			"STALE at edge: 3 invalidations parked"},
		{"unknown", Status{Reader: streaming, Sinks: []Sink{{Name: "edge"}}}, false,
			"UNKNOWN at edge: nothing purged since the start yet"},
		{"not streaming", Status{Reader: Reader{State: "connecting", Since: since, Error: "connection refused"}, Sinks: []Sink{{Name: "edge", LagSeconds: lag(1)}}}, false,
			"NOT STREAMING since 2026-11-20T12:00:00Z, connecting: connection refused"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fresh, sentence := summarize(&tc.s)
			require.Equal(t, tc.fresh, fresh)
			require.Equal(t, tc.want, sentence)
		})
	}
}
