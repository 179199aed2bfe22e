package storefront

import (
	"math/rand/v2"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness/edge"
)

// Requests are for rows that seed.sql has.
func TestTraffic(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 0))
	seen := map[string]int{}
	for range 20_000 {
		request := next(r, "http://site.example")
		seen[request.Endpoint]++
		u, err := url.Parse(request.URL)
		require.NoError(t, err)
		parts := strings.Split(u.Path, "/")
		merchant, err := strconv.Atoi(parts[2])
		require.NoError(t, err)
		require.True(t, merchant >= 1 && merchant <= merchants, request.URL)
		if request.Endpoint == product {
			id, err := strconv.Atoi(parts[4])
			require.NoError(t, err)
			require.True(t, id >= 1 && id <= products && 1+id%merchants == merchant, request.URL)
		}
	}
	require.InDelta(t, 10_000, seen[listing], 500)
	require.InDelta(t, 4000, seen[category], 300)
	require.InDelta(t, 6000, seen[product], 400)
}

func TestFactsOfTraces(t *testing.T) {
	ms := time.Millisecond
	lost := time.Now()
	at := func(after time.Duration, cache, edge time.Duration) trace {
		return trace{lost.Add(after), []step{{"transaction", 0, 2 * ms}, {"purge cache", cache, ms}, {"purge edge", edge, ms}}}
	}
	good, early, inverted := at(-time.Minute, 160*ms, 170*ms), at(-time.Minute, 20*ms, 170*ms), at(-time.Minute, 170*ms, 160*ms)
	alone, late := at(time.Minute, 100*ms, 100*ms), at(time.Minute, 100*ms, 1100*ms)
	holds := func(traces ...trace) (out []bool) {
		for _, f := range ofTraces(traces, lost) {
			out = append(out, f.Holds)
		}
		return out
	}
	require.Equal(t, []bool{false}, holds())
	require.Equal(t, []bool{true, true, true, true}, holds(good, good, alone))
	require.Equal(t, []bool{true, true, false, true}, holds(good, early, alone))
	require.Equal(t, []bool{true, false, true, true}, holds(good, inverted, alone))
	require.Equal(t, []bool{true, true, true, false}, holds(good, late))
	require.Equal(t, []bool{true, true, true, false}, holds(good), "no trace without the replica")
}

func TestWithinRollout(t *testing.T) {
	// Their places are 37 and 83 (docs/rules.md).
	require.True(t, withinRollout(84, []edge.Request{{Values: []string{"", "product:7"}}}).Holds)
	require.False(t, withinRollout(83, []edge.Request{{Values: []string{"", "product:7"}}}).Holds)
	require.True(t, withinRollout(1, nil).Holds)
}
