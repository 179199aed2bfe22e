//go:build full

package dashboard

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/results"
	"github.com/walpurge/walpurge/rules"
)

const example = "../../../deploy/examples/dashboard"

// The application and the rules have the same values in a rollout.
func TestRollout(t *testing.T) {
	values := []string{"", "a", "foobar", "Straße ☕"}
	for id := range 300 {
		values = append(values, fmt.Sprintf("preferences:%d", id), fmt.Sprintf("summary:%d", id))
	}
	input, err := json.Marshal(values)
	require.NoError(t, err)
	python, err := harness.FindPython(t.Context())
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), python, "-B", "-c", "import json, sys, rollout; print(json.dumps([rollout.bucket(v) for v in json.loads(sys.argv[1])]))", string(input))
	cmd.Dir, cmd.Stderr = filepath.Join(example, "app"), os.Stderr
	out, err := cmd.Output()
	require.NoError(t, err)
	var got []int
	require.NoError(t, json.Unmarshal(out, &got))
	require.Len(t, got, len(values))
	for i, v := range values {
		require.Equal(t, rules.Bucket([]byte(v)), got[i], "%q", v)
	}
}

// application runs the application with walpurge's variant, whose wait this test answers.
type application struct {
	*testing.T
	*system
	// waits receives the channel on which a wait for walpurge is answered.
	waits chan chan struct{}
}

func startApplication(t *testing.T) *application {
	t.Helper()
	a := &application{T: t, waits: make(chan chan struct{})}
	ended := make(chan struct{})
	walpurge := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/metrics" {
			return
		}
		if r.URL.Path != "/api/v1/wait" || r.URL.Query().Get("sink") != "cache" || r.URL.Query().Get("lsn") == "" {
			t.Errorf("asked for %s", r.URL)
		}
		purged := make(chan struct{})
		select {
		case a.waits <- purged:
			<-purged
		case <-ended:
		}
	}))
	t.Cleanup(walpurge.Close)
	t.Cleanup(func() { close(ended) })
	var group harness.Group
	t.Cleanup(func() { require.NoError(t, group.Close()) })
	pg, err := harness.StartPostgres(t.Context(), harness.PostgresConfig{})
	require.NoError(t, err)
	group.Add("PostgreSQL", pg.Close)
	require.NoError(t, pg.Exec(t.Context(), "postgres", "CREATE DATABASE dashboard"))
	for _, file := range []string{"schema.sql", "seed.sql"} {
		sql, err := os.ReadFile(filepath.Join(example, file))
		require.NoError(t, err)
		require.NoError(t, pg.Exec(t.Context(), "dashboard", string(sql)))
	}
	valkey, err := harness.StartValkey(t.Context(), harness.ValkeyConfig{Args: Scenario().Valkey})
	require.NoError(t, err)
	group.Add("Valkey", valkey.Close)
	files, err := filepath.Abs(example)
	require.NoError(t, err)
	started, err := start(t.Context(), &scenario.Env{
		Variant: scenario.Variant{Cache: true, Walpurge: true}, Factor: 1, Build: scenario.Build{Root: "../../..", Files: files}, Dir: t.TempDir(),
		Postgres: pg, DatabaseURL: pg.URL("dashboard", "app"), Valkey: valkey, Group: &group, WalpurgeAddr: strings.TrimPrefix(walpurge.URL, "http://"),
	})
	require.NoError(t, err)
	a.system = started.(*system)
	return a
}

// ask returns the header that says what was shown, and whether it came from Valkey.
func (a *application) ask(path string) (shown string, hit bool) {
	a.Helper()
	header, _, err := a.call(a.Context(), http.MethodGet, path, "")
	require.NoError(a, err)
	return header.Get("Shown"), header.Get("Filled") == "0"
}

// TestValkeyIsKilled: the application goes on without Valkey, and uses what it holds after its return when
// walpurge has caught up, not before.
func TestValkeyIsKilled(t *testing.T) {
	a := startApplication(t)
	const path = "/users/1/preferences"
	before, hit := a.ask(path)
	require.False(t, hit)
	again, hit := a.ask(path)
	require.True(t, hit)
	require.Equal(t, before, again)

	require.NoError(t, a.env.Valkey.Kill())
	_, hit = a.ask(path)
	require.False(t, hit)
	commits, err := a.bySQL(t.Context(), savePreferences(1, "dark"))
	require.NoError(t, err)
	after := fmt.Sprintf("preferences:1=%d", version(commits, "preferences:1"))
	require.NotEqual(t, before, after)

	// It holds the entry from before.
	require.NoError(t, a.env.Valkey.Restart(t.Context()))
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	var purged chan struct{}
	for purged == nil {
		shown, hit := a.ask(path)
		require.False(t, hit)
		require.Equal(t, after, shown)
		select {
		case purged = <-a.waits:
		case <-ctx.Done():
			t.Fatal("walpurge was not asked")
		default:
		}
	}
	shown, hit := a.ask(path)
	require.False(t, hit)
	require.Equal(t, after, shown)

	// Prometheus sees that entries are not used.
	for down := 0; down == 0; {
		require.NoError(t, ctx.Err(), "not scraped")
		found, err := a.prometheus.query(ctx, "dashboard_cache_usable == 0")
		require.NoError(t, err)
		down = len(found)
	}

	// The entry of another row shows that entries are used again.
	close(purged)
	for hit = false; !hit; {
		require.NoError(t, ctx.Err(), "entries are not used again")
		_, hit = a.ask("/accounts/7/summary")
	}

	// Prometheus has what the application counts.
	a.killed = true
	for up := 0; up == 0; {
		require.NoError(t, ctx.Err(), "not scraped")
		found, err := a.prometheus.query(ctx, "dashboard_cache_usable == 1")
		require.NoError(t, err)
		up = len(found)
	}
	facts, err := a.Facts(t.Context())
	require.NoError(t, err)
	require.Regexp(t, `hit \d+`, facts[0].Found)
	require.True(t, facts[0].Holds)
	require.True(t, facts[len(facts)-1].Holds, facts)
}

// TestGateIsRed removes the rule for orders. The gate finds the old summaries.
func TestGateIsRed(t *testing.T) {
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "walpurge")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./cmd/walpurge")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	raw, err := os.ReadFile(filepath.Join(example, "bounds.json"))
	require.NoError(t, err)
	bounds, err := results.ParseBounds(raw)
	require.NoError(t, err)
	for _, tt := range []struct {
		name string
		edit scenario.Edit
		want string
	}{
		{"a rule removed", scenario.Edit{File: "rules/dashboard.yaml", Old: "table: public.orders\n", New: "table: public.orders\n    ops: [delete]\n"}, "older than 1 s, at most 0: orders:"},
		{"a lifetime shortened", scenario.Edit{File: "app/cache.py", Old: `Kind("preferences", settings.preferences_ttl)`, New: `Kind("preferences", 0.5)`}, "TTL only: hit rate"},
		{"a query added", scenario.Edit{File: "app/database.py", Old: `    row = _one("SELECT online`, New: "    _one(\"SELECT 1\")\n    row = _one(\"SELECT online"}, "queries per request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			measured, err := scenario.Gate(t.Context(), Scenario(), scenario.Options{
				Root: root, Walpurge: program, Version: "test", Out: t.Output(), Alternations: 1, Edits: []scenario.Edit{tt.edit},
			})
			require.NoError(t, err)
			verdict := results.Compare(bounds, measured)
			t.Log(verdict)
			require.Contains(t, strings.Join(verdict.Failed, "\n"), tt.want)
		})
	}
}
