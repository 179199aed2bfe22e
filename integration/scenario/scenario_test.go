package scenario

import (
	"math"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

func TestCommits(t *testing.T) {
	got, err := Commits(http.Header{"Wrote": {"item:1=5 menu:2=6"}, "Committed": {"1500000000000000001"}})
	require.NoError(t, err)
	at := time.Unix(1500000000, 1)
	require.Equal(t, []oracle.Commit{{Version: oracle.Version{Row: "item:1", Version: 5}, At: at}, {Version: oracle.Version{Row: "menu:2", Version: 6}, At: at}}, got)
	got, err = Commits(nil)
	require.NoError(t, err)
	require.Empty(t, got)
	for _, bad := range []http.Header{{"Wrote": {"item"}, "Committed": {"1"}}, {"Wrote": {"item:1=5"}}, {"Wrote": {"item:1=5"}, "Committed": {"noon"}}} {
		_, err := Commits(bad)
		require.Error(t, err)
	}
}

func TestReadMetrics(t *testing.T) {
	calls, latency, err := readMetrics([]byte(`# HELP walpurge_sink_requests_total calls
walpurge_sink_requests_total{code="ok",pipeline="p",sink="edge"} 12
walpurge_sink_requests_total{code="transient",pipeline="p",sink="edge"} 3
walpurge_purge_latency_seconds_bucket{pipeline="p",sink="cache",le="0.005"} 4
walpurge_purge_latency_seconds_bucket{pipeline="p",sink="cache",le="+Inf"} 9
walpurge_purge_latency_seconds_sum{pipeline="p",sink="cache"} 0.3
walpurge_fresh{pipeline="p"} 1
up 1
`))
	require.NoError(t, err)
	require.Equal(t, map[string]int{"edge": 15}, calls)
	require.Equal(t, map[string]results.Histogram{"cache": {{UpToMS: 5, Count: 4}, {UpToMS: math.Inf(1), Count: 9}}}, latency)
	for _, bad := range []string{`walpurge_sink_requests_total{sink="a"} x`, `walpurge_purge_latency_seconds_bucket{sink="a"} 3`} {
		_, _, err := readMetrics([]byte(bad))
		require.ErrorContains(t, err, bad)
	}
}

func TestParseStat(t *testing.T) {
	s, err := parseStat("42 (postgres: a) b) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20 0 1 0 5 6 7")
	require.NoError(t, err)
	require.Equal(t, stat{parent: 7, own: 2 * time.Second, reaped: 500 * time.Millisecond}, s)
	for _, bad := range []string{"", "42 (x) S 1", "42 (x) S x 42 42 0 -1 4194560 1 2 3 4 150 50 30 20 20"} {
		_, err := parseStat(bad)
		require.Error(t, err, bad)
	}
	// This process has children only while tests start some, and has used time.
	own, err := treeCPU(os.Getpid())
	require.NoError(t, err)
	require.GreaterOrEqual(t, own, time.Duration(0))
	peak, err := residentPeak(os.Getpid())
	require.NoError(t, err)
	require.Greater(t, peak, int64(1<<20))
}

func TestCopyExample(t *testing.T) {
	from, to := t.TempDir(), filepath.Join(t.TempDir(), "files")
	for name, text := range map[string]string{"rules/a.yaml": "one two", "node_modules/x/y.js": "z", "schema.sql": "SELECT 1"} {
		path := filepath.Join(from, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	}
	require.NoError(t, copyExample(from, to, []Edit{{"rules/a.yaml", "two", "three"}}))
	raw, err := os.ReadFile(filepath.Join(to, "rules/a.yaml"))
	require.NoError(t, err)
	require.Equal(t, "one three", string(raw))
	require.NoDirExists(t, filepath.Join(to, "node_modules"))
	require.ErrorContains(t, copyExample(from, to, []Edit{{"schema.sql", "3", "4"}}), "0 times")
	require.ErrorContains(t, copyExample(from, to, []Edit{{"rules/a.yaml", "o", "4"}}), "2 times")
}

func TestVariants(t *testing.T) {
	names := []string{}
	for _, v := range Variants(0.1) {
		names = append(names, v.Name)
		require.False(t, v.Deletes && v.Walpurge, v.Name)
		require.Equal(t, v.Name != "0", v.Cache)
	}
	require.Equal(t, []string{"0", "1", "2", "2+bypass", "2'", "3"}, names)
	require.Equal(t, "noon", Scenario{EventStage: "noon"}.peak())
	require.Equal(t, "rush", Scenario{EventStage: "noon", PeakStage: "rush"}.peak())
	for _, v := range (Scenario{KeepTTL: true}).variants() {
		require.Zero(t, v.TTL, v.Name)
		require.NotContains(t, v.Title, "1 h", v.Name)
	}
	require.Equal(t, "b", Scenario{Stages: []Stage{{Name: "a", Share: 0.2}, {Name: "b", Share: 0.6}}}.peak())
}
