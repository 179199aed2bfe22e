package results

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

// measured is a run of the gate as it should be.
func measured() Measured {
	stage := func(hit, queries, p95 float64) Stage {
		return Stage{
			Name: "gate", Requests: 1000, HitRate: hit, QueriesPerReq: queries, APICalls: map[string]int{},
			Endpoints: []Endpoint{{Name: "menu", Requests: 600, P95: p95}, {Name: "order", Requests: 400, P95: 50}}, Stale: oracle.Staleness{Responses: 900},
		}
	}
	var m Measured
	for _, p95 := range []float64{2, 3, 9} {
		m.TTL = append(m.TTL, stage(0.7, 0.3, 2))
		m.Walpurge = append(m.Walpurge, stage(0.8, 0.2, p95))
		m.Walpurge[len(m.Walpurge)-1].APICalls = map[string]int{"cache": 200, "edge": 100}
	}
	m.Bypass = stage(0.7, 0.3, 2)
	m.Bypass.Stale.Stale = 9
	return m
}

func TestCompare(t *testing.T) {
	bounds := BoundsOf(measured())
	require.Equal(t, Bounds{
		TTL: Counts{HitRate: 0.7, QueriesPerReq: 0.3}, Walpurge: Counts{HitRate: 0.8, QueriesPerReq: 0.2, APICallsPerSink: map[string]int{"cache": 200, "edge": 100}}, P95Ratio: 1.5,
	}, bounds)
	tests := []struct {
		name string
		edit func(*Measured)
		want string
	}{
		{"the same", func(*Measured) {}, ""},
		{"within the bounds", func(m *Measured) {
			for i := range m.TTL {
				m.TTL[i].HitRate, m.TTL[i].QueriesPerReq = 0.681, 0.314
				m.Walpurge[i].APICalls = map[string]int{"cache": 249, "edge": 76}
			}
		}, ""},
		{"better", func(m *Measured) {
			for i := range m.TTL {
				m.TTL[i].HitRate, m.TTL[i].QueriesPerReq = 0.9, 0.1
			}
		}, ""},
		{"one of three differs", func(m *Measured) { m.TTL[0].HitRate, m.Walpurge[1].QueriesPerReq = 0.1, 0.9 }, ""},
		{"a lower hit rate", func(m *Measured) {
			for i := range m.TTL {
				m.TTL[i].HitRate = 0.679
			}
		}, "TTL only: hit rate 67.9 %, at least 68.0 %"},
		{"more queries", func(m *Measured) {
			for i := range m.Walpurge {
				m.Walpurge[i].QueriesPerReq = 0.211
			}
		}, "walpurge: 0.211 queries per request, at most 0.210"},
		{"more calls", func(m *Measured) {
			for i := range m.Walpurge {
				m.Walpurge[i].APICalls["edge"] = 126
			}
		}, "126 calls of sink edge"},
		{"no calls", func(m *Measured) {
			for i := range m.Walpurge {
				delete(m.Walpurge[i].APICalls, "edge")
			}
		}, "0 calls of sink edge"},
		{"one response older than 1 s", func(m *Measured) {
			m.Walpurge[2].Stale = oracle.Staleness{Responses: 900, Stale: 1, Over1s: 1, Example: "item:7 at version 3"}
		}, "1 responses older than 1 s, at most 0: item:7 at version 3"},
		{"slower", func(m *Measured) {
			for i := range m.Walpurge {
				m.Walpurge[i].Endpoints[0].P95 = 3.8
			}
		}, "p95 of walpurge by TTL only 1.90, at most 1.88"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := measured()
			tt.edit(&m)
			v := Compare(bounds, m)
			require.Empty(t, v.Void)
			if tt.want == "" {
				require.NoError(t, v.Err(), v)
				return
			}
			require.Len(t, v.Failed, 1, v)
			require.ErrorContains(t, v.Err(), tt.want)
			require.Contains(t, v.String(), "RED   ")
		})
	}
}

func TestCompareVoid(t *testing.T) {
	bounds := BoundsOf(measured())
	for want, edit := range map[string]func(*Measured){
		"the load shows nothing":                   func(m *Measured) { m.Bypass.Stale.Stale = 4 },
		"TTL only: the generator sent":             func(m *Measured) { m.TTL[1].Late = 51 },
		"walpurge: 3 requests failed":              func(m *Measured) { m.Walpurge[0].Errors = 3 },
		"deletes with bypass: no request was sent": func(m *Measured) { m.Bypass.Requests = 0 },
	} {
		m := measured()
		edit(&m)
		v := Compare(bounds, m)
		require.Len(t, v.Void, 1)
		require.ErrorContains(t, v.Err(), want)
		require.ErrorContains(t, v.Err(), "void")
		require.Contains(t, v.String(), "VOID  ")
	}
}

func TestParseBounds(t *testing.T) {
	raw, err := json.Marshal(BoundsOf(measured()))
	require.NoError(t, err)
	got, err := ParseBounds(raw)
	require.NoError(t, err)
	require.Equal(t, BoundsOf(measured()), got)
	for _, bad := range []string{"", "{}", `{"hit": 3}`} {
		_, err := ParseBounds([]byte(bad))
		require.Error(t, err, bad)
	}
}
