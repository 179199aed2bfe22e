package dashboard

import (
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// Requests and writes are for rows that seed.sql has.
func TestTraffic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	seen := map[string]int{}
	id := func(raw string) (of string, n int) {
		u, err := url.Parse(raw)
		require.NoError(t, err)
		parts := strings.Split(u.Path, "/")
		n, err = strconv.Atoi(parts[2])
		require.NoError(t, err)
		return parts[1], n
	}
	most := map[string]int{"accounts": accounts, "users": users}
	for range 20_000 {
		request := next(r, "http://site.example")
		seen[request.Endpoint]++
		of, n := id(request.URL)
		require.True(t, n >= 1 && n <= most[of], request.URL)
		c := draw(r)
		of, n = id(c.path)
		require.True(t, n >= 1 && n <= most[of], c.path)
		require.Equal(t, map[string]int{"accounts": c.account, "users": c.user}[of], n, "its versions are read: %s", c.path)
	}
	require.InDelta(t, 7000, seen[preferences], 400)
	require.InDelta(t, 9000, seen[summary], 400)
	require.InDelta(t, 4000, seen[live], 300)
}

// A panel without a result is named, unless it may be empty.
func TestPanels(t *testing.T) {
	for _, file := range []string{"../../../deploy/examples/dashboard/grafana.json", "../../../deploy/grafana/walpurge.json"} {
		panels, err := readPanels(file)
		require.NoError(t, err)
		titles := map[string]bool{}
		for _, p := range panels {
			titles[p.title] = true
			require.NotContains(t, p.expr, "$", p.title)
		}
		if strings.HasSuffix(file, "walpurge.json") {
			for title := range mayBeEmpty {
				require.True(t, titles[title], "there is no panel %s", title)
			}
		}
		require.True(t, ofPanels("", panels, []string{"Throttled"}).Holds)
		f := ofPanels("", panels, []string{"Throttled", "Purges"})
		require.False(t, f.Holds)
		require.Contains(t, f.Found, "none: Purges")
	}
}

func TestJudge(t *testing.T) {
	stage := func(errors, old int, p99 float64) results.Stage {
		return results.Stage{
			Name: outage, Requests: 100, Errors: errors, Stale: oracle.Staleness{Responses: 100, Over1s: old},
			Endpoints: []results.Endpoint{{Name: summary, P99: p99}},
		}
	}
	holds := func(ours, control results.Stage) (out []bool) {
		for _, f := range judge(results.Results{Variants: []results.Variant{{Name: "0", Stages: []results.Stage{control}}, {Name: "3", Stages: []results.Stage{ours}}}}) {
			out = append(out, f.Holds)
		}
		return out
	}
	require.Equal(t, []bool{true, true, true}, holds(stage(0, 0, 19), stage(0, 0, 10)))
	require.Equal(t, []bool{false, true, true}, holds(stage(1, 0, 19), stage(0, 0, 10)))
	require.Equal(t, []bool{true, false, true}, holds(stage(0, 1, 19), stage(0, 5, 10)))
	require.Equal(t, []bool{true, true, false}, holds(stage(0, 0, 21), stage(0, 0, 10)))
	require.Equal(t, []bool{true, true}, holds(stage(0, 0, 21), results.Stage{}), "the control did not run")
	require.Empty(t, holds(results.Stage{}, stage(0, 0, 10)))
}
