package storefront

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/integration/harness/edge"
	"github.com/walpurge/walpurge/integration/scenario/results"
	"github.com/walpurge/walpurge/rules"
)

// Facts are what this system is to show besides the figures of all systems.
func (s *system) Facts(ctx context.Context) ([]results.Fact, error) {
	// The exporter sends what it has five times a second.
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if percent := s.env.Variant.Rollout; percent > 0 {
		return []results.Fact{withinRollout(percent, s.edge.Requests(0))}, nil
	}
	return ofTraces(s.traces.whole(), s.lost), nil
}

// ofTraces looks at the traces that reach from a commit to the purges at both sinks. After a replica was
// lost purges go without it, and neither wait as long nor keep their order.
func ofTraces(all []trace, lost time.Time) []results.Fact {
	var traces []trace
	alone := 0
	latest := time.Duration(0)
	for _, t := range all {
		if lost.IsZero() || t.committed.Before(lost.Add(-time.Second)) {
			traces = append(traces, t)
			continue
		}
		alone++
		for _, name := range []string{"purge cache", "purge edge"} {
			latest = max(latest, t.first(name).began)
		}
	}
	if len(traces) == 0 {
		return []results.Fact{{Claim: "A trace from commit to purge", Found: "none"}}
	}
	longest := slices.MaxFunc(traces, func(a, b trace) int { return len(a.steps) - len(b.steps) })
	var path []string
	for _, s := range longest.steps {
		path = append(path, fmt.Sprintf("%s from %d to %d ms", s.name, s.began.Milliseconds(), (s.began+s.took).Milliseconds()))
	}
	outward, waited := 0, 0
	shortest := time.Hour
	for _, t := range traces {
		cache, edge := t.first("purge cache"), t.first("purge edge")
		if cache.began+cache.took <= edge.began {
			outward++
		}
		if cache.began >= behind {
			waited++
		}
		shortest = min(shortest, cache.began)
	}
	facts := []results.Fact{
		{Claim: "A trace from commit to purge", Found: fmt.Sprintf("%d traces with both replicas; the one with the most spans: %s", len(traces), strings.Join(path, ", ")), Holds: true},
		{Claim: "Valkey is purged before the CDN", Found: fmt.Sprintf("%d of %d traces", outward, len(traces)), Holds: outward == len(traces)},
		{
			Claim: fmt.Sprintf("A purge waits for the replicas, which are %d ms behind", behind.Milliseconds()),
			Found: fmt.Sprintf("%d of %d traces; the shortest wait was %d ms", waited, len(traces), shortest.Milliseconds()), Holds: waited == len(traces),
		},
	}
	if !lost.IsZero() {
		facts = append(facts, results.Fact{
			Claim: "With one replica lost, purges go on within a second",
			Found: fmt.Sprintf("%d traces; the longest wait of a first purge was %d ms", alone, latest.Milliseconds()), Holds: alone > 0 && latest < time.Second,
		})
	}
	return facts
}

// withinRollout looks at what the CDN was asked to purge.
func withinRollout(percent int, requests []edge.Request) results.Fact {
	values, outside := map[string]bool{}, 0
	for _, r := range requests {
		for _, v := range r.Values {
			if !values[v] && rules.Bucket([]byte(v)) >= percent {
				outside++
			}
			values[v] = true
		}
	}
	return results.Fact{
		Claim: "The CDN is asked to purge tags in the rollout only, by the hash that the application uses",
		Found: fmt.Sprintf("%d tags, %d of them outside", len(values), outside), Holds: outside == 0,
	}
}
