package dashboard

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/integration/scenario/results"
)

// slower is how much longer than without a cache the slowest in a hundred requests may take in the stage
// in which Valkey is killed.
const slower = 2

// judge makes facts of the stage in which Valkey is killed: walpurge's, beside that of variant 0, to
// which nothing happens.
func judge(r results.Results) []results.Fact {
	v, _ := r.Variant("3")
	killed, ok := v.Stage(outage)
	if !ok {
		return nil
	}
	facts := []results.Fact{
		{
			Claim: "Valkey is killed in the middle of the load and comes back: no request fails",
			Found: fmt.Sprintf("%d of %d requests failed", killed.Errors, killed.Requests), Holds: killed.Errors == 0,
		},
		{
			Claim: "Nothing is stale when Valkey is back with what it held",
			Found: fmt.Sprintf("%d of %d responses were older than 1 s", killed.Stale.Over1s, killed.Stale.Responses), Holds: killed.Stale.Over1s == 0,
		},
	}
	control, _ := r.Variant("0")
	plain, ok := control.Stage(outage)
	if !ok {
		return facts
	}
	bounded := true
	var found []string
	for _, e := range killed.Endpoints {
		if c, ok := plain.Endpoint(e.Name); ok {
			bounded = bounded && e.P99 <= slower*c.P99
			found = append(found, fmt.Sprintf("%s %.1f ms, without a cache %.1f ms", e.Name, e.P99, c.P99))
		}
	}
	return append(facts, results.Fact{
		Claim: fmt.Sprintf("The p99 of the stage with the outage is at most %d times that of the same stage without a cache", slower),
		Found: strings.Join(found, "; "), Holds: bounded && len(found) > 0,
	})
}

// Facts are what Prometheus has scraped of the application and of walpurge, and what the queries of the two Grafana
// dashboards show of it.
func (s *system) Facts(ctx context.Context) ([]results.Fact, error) {
	if s.prometheus == nil {
		return nil, nil
	}
	scraped, err := s.scraped(ctx)
	if err != nil {
		return nil, err
	}
	stored, err := s.prometheus.sum(ctx, `sum(dashboard_cache_refreshes_total{result="stored"})`)
	if err != nil {
		return nil, err
	}
	facts := []results.Fact{scraped, {
		Claim: "Summaries are made again in the background", Found: fmt.Sprintf("%.0f of them", stored), Holds: stored > 0,
	}}
	for _, d := range []struct{ claim, file string }{
		{"Each panel of the example's Grafana dashboard shows something", filepath.Join(s.env.Files, "grafana.json")},
		{"walpurge's Grafana dashboard shows changes, purges and their latency", filepath.Join(s.env.Root, "deploy", "grafana", "walpurge.json")},
	} {
		panels, err := readPanels(d.file)
		if err != nil {
			return nil, err
		}
		empty, err := s.prometheus.empty(ctx, panels)
		if err != nil {
			return nil, err
		}
		facts = append(facts, ofPanels(d.claim, panels, empty))
	}
	if s.killed {
		down, err := s.prometheus.sum(ctx, "min_over_time(dashboard_cache_usable[1h])")
		if err != nil {
			return nil, err
		}
		now, err := s.prometheus.sum(ctx, "dashboard_cache_usable")
		if err != nil {
			return nil, err
		}
		facts = append(facts, results.Fact{
			Claim: "The end of Valkey and its return show in the metrics",
			Found: fmt.Sprintf("dashboard_cache_usable was %.0f, and is %.0f", down, now), Holds: down == 0 && now == 1,
		})
	}
	return facts, nil
}

// mayBeEmpty are panels of walpurge's dashboard about what this system does not have, or what does not happen in a
// run: several sinks and gates, limits of an API, parked values, lookups, a reload.
var mayBeEmpty = map[string]bool{
	"Backlog ends in": true, "Gaps in a day": true, "Lookups": true, "Saved": true, "State": true, "Budget": true, "Throttled": true,
	"Parked": true, "Parked and flushed": true, "Gates": true, "Slot": true, "Unknown and failed": true, "Reader waits, replays reach back": true, "Last reload": true,
}

func ofPanels(claim string, panels []panel, empty []string) results.Fact {
	var missing []string
	for _, title := range empty {
		if !mayBeEmpty[title] {
			missing = append(missing, title)
		}
	}
	f := results.Fact{Claim: claim, Found: fmt.Sprintf("%d of %d queries have a result", len(panels)-len(empty), len(panels)), Holds: len(missing) == 0}
	if len(missing) > 0 {
		f.Found += "; none: " + strings.Join(missing, ", ")
	}
	return f
}

// scraped waits until Prometheus has what the application counts now, when no request is under way, and compares.
func (s *system) scraped(ctx context.Context) (results.Fact, error) {
	ctx, cancel := context.WithTimeout(ctx, 60*time.Second)
	defer cancel()
	for {
		counted, err := s.counted(ctx)
		if err != nil {
			return results.Fact{}, err
		}
		found, err := s.prometheus.query(ctx, "sum by (result) (dashboard_cache_requests_total)")
		if err != nil {
			return results.Fact{}, err
		}
		var text []string
		same := len(found) > 0
		for _, f := range found {
			same = same && f.Value == counted[f.Metric["result"]]
			text = append(text, fmt.Sprintf("%s %.0f", f.Metric["result"], f.Value))
		}
		if same {
			return results.Fact{Claim: "Prometheus has the hits and misses that the application counts", Found: strings.Join(text, ", "), Holds: true}, nil
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return results.Fact{}, fmt.Errorf("Prometheus has %s, and the application counts %v: %w", strings.Join(text, ", "), counted, ctx.Err())
		}
	}
}

// counted reads the reads of the cache by result, as the application counts them.
func (s *system) counted(ctx context.Context) (map[string]float64, error) {
	_, raw, err := s.call(ctx, http.MethodGet, "/metrics", "")
	if err != nil {
		return nil, err
	}
	out := map[string]float64{}
	for lines := bufio.NewScanner(bytes.NewReader(raw)); lines.Scan(); {
		rest, ok := strings.CutPrefix(lines.Text(), "dashboard_cache_requests_total{")
		if !ok {
			continue
		}
		_, rest, _ = strings.Cut(rest, `result="`)
		result, text, _ := strings.Cut(rest, `"} `)
		n, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("metric %s: %w", lines.Text(), err)
		}
		out[result] += n
	}
	return out, nil
}
