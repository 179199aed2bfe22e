package results

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// Report is the Markdown of a run.
func Report(r Results) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("# %s: what a run measured\n", r.Scenario)
	line("%s\n", r.Who)
	if len(r.Void) > 0 {
		line("**This run is void:** %s.\n", strings.Join(r.Void, "; "))
	}
	line("Written by `make scenario NAME=%s`: walpurge %s, %s, %d cores, %s. Load generator, application, caches and database shared the cores, so figures compare within this report only.\n",
		r.Scenario, r.Version, r.Started.Format("2 January 2006"), r.Cores, time.Duration(r.Seconds*float64(time.Second)))
	line("Time factor %d: lifetimes, windows for revalidation and `second_purge` are those of the system divided by %d, the rate of writes is multiplied by it. Latencies and ages are as measured; an age in the time of the system is %d times as long. Without a cache, the system sustained %.0f requests a second.\n",
		r.Factor, r.Factor, r.Factor, r.Capacity)
	line("## Stale responses and hit rates\n")
	line("| Variant | Stage | Requests/s | Hit rate | Valkey | Edge | Queries/request | Stale | Over 100 ms | Over 1 s | Oldest | In the system's time | Errors |")
	line("|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, v := range slices.Concat(r.Variants, r.Rollouts) {
		for _, s := range v.Stages {
			line("| %s: %s | %s | %.0f | %s | %s | %s | %.3f | %s | %s | %s | %s | %s | %s |", v.Name, v.Title, s.Name, s.Rate,
				rate(s.HitRate), rate(s.ValkeyHitRate), rate(s.EdgeHitRate), s.QueriesPerReq, share(s.Stale.Stale, s.Stale.Responses),
				share(s.Stale.Over100ms, s.Stale.Responses), share(s.Stale.Over1s, s.Stale.Responses), age(s.Stale.Oldest), age(s.Stale.Oldest*time.Duration(r.Factor)), share(s.Errors, s.Requests))
		}
	}
	line("\n![Share of stale responses against hit rate](chart.svg)\n")
	for _, p := range VariantPoints(r) {
		if len(r.Points) > 0 && strings.HasPrefix(p.Label, "3") {
			line("The point of walpurge lies %s the curve of TTLs.\n", map[bool]string{true: "outside", false: "**within**"}[Beyond(p, r.Points)])
		}
	}
	if losses := Losses(r); len(losses) > 0 {
		line("## Where walpurge is behind\n")
		for _, l := range losses {
			line("- %s", l)
		}
		line("")
	}
	if examples := oldest(r); len(examples) > 0 {
		line("## Responses older than 1 s with walpurge\n")
		for _, e := range examples {
			line("- %s", e)
		}
		line("")
	}
	line("## Latency\n")
	line("| Endpoint | Stage | Variant | Requests | p50 ms | p95 ms | p99 ms | Errors | Over 1 s |")
	line("|---|---|---|---|---|---|---|---|---|")
	for _, row := range latencies(r) {
		e := row.endpoint
		line("| %s | %s | %s | %d | %.2f | %.2f | %.2f | %d | %d |", e.Name, row.stage, row.variant, e.Requests, e.P50, e.P95, e.P99, e.Errors, e.Stale.Over1s)
	}
	line("\n## The database\n")
	line("| Variant | Stage | Queries | Of walpurge | CPU of PostgreSQL, s | per 1,000 requests, s | Late |")
	line("|---|---|---|---|---|---|---|")
	for _, v := range r.Variants {
		for _, s := range v.Stages {
			line("| %s | %s | %d | %d | %.2f | %.3f | %s |", v.Name, s.Name, s.Queries, s.WalpurgeQueries, s.PostgresCPU, 1000*s.PostgresCPU/float64(max(1, s.Requests)), share(s.Late, s.Requests))
		}
	}
	if v, ok := r.Variant("3"); ok {
		line("\n## Purges\n")
		line("From commit to acknowledged purge, repeats included: upper bounds of the buckets of walpurge's histogram.\n")
		line("| Stage | Sink | Purges | p50 ms | p99 ms | API calls |")
		line("|---|---|---|---|---|---|")
		for _, s := range v.Stages {
			for _, sink := range slices.Sorted(maps.Keys(s.Purges)) {
				p := s.Purges[sink]
				line("| %s | %s | %d | %g | %g | %d |", s.Name, sink, p.Count, p.P50, p.P99, s.APICalls[sink])
			}
		}
	}
	facts := func(v Variant) {
		if len(v.Facts) == 0 {
			return
		}
		line("\n## What %s shows\n", v.Title)
		line("| Claim | Found |")
		line("|---|---|")
		for _, f := range v.Facts {
			line("| %s | %s |", f.Claim, f)
		}
	}
	if v, ok := r.Variant("3"); ok {
		facts(v)
	}
	for _, v := range r.Rollouts {
		facts(v)
	}
	if c := r.Cost; c != nil {
		line("\n## Cost\n")
		line("| What | Figure |")
		line("|---|---|")
		line("| CPU of walpurge at the peak | %.3f cores |", c.WalpurgeCPU)
		line("| Memory of walpurge, largest | %.0f MiB |", float64(c.WalpurgeMemory)/(1<<20))
		line("| CPU of its walsender at the peak | %.3f cores |", c.WalsenderCPU)
		for _, identity := range slices.Sorted(maps.Keys(c.WALPerRow)) {
			line("| WAL of an updated row, replica identity %s | %.0f bytes |", identity, c.WALPerRow[identity])
		}
		line("| Commit of one writer without a slot, p50 and p99 | %.2f ms, %.2f ms |", c.CommitP50, c.CommitP99)
		line("| With the slot that walpurge reads | %.2f ms, %.2f ms |", c.CommitSlotP50, c.CommitSlotP99)
	}
	return b.String()
}

type latency struct {
	stage, variant string
	endpoint       Endpoint
}

// latencies orders the endpoints' figures so that the variants of one stage stand below each other.
func latencies(r Results) (out []latency) {
	var endpoints, stages []string
	for _, v := range r.Variants {
		for _, s := range v.Stages {
			stages = append(stages, s.Name)
			for _, e := range s.Endpoints {
				endpoints = append(endpoints, e.Name)
				out = append(out, latency{s.Name, v.Name, e})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b latency) int {
		return cmp.Or(slices.Index(endpoints, a.endpoint.Name)-slices.Index(endpoints, b.endpoint.Name), slices.Index(stages, a.stage)-slices.Index(stages, b.stage))
	})
	return out
}

// oldest names the oldest response of each stage with walpurge that had one older than a second.
func oldest(r Results) (out []string) {
	v, _ := r.Variant("3")
	for _, s := range v.Stages {
		if s.Stale.Over1s > 0 {
			out = append(out, fmt.Sprintf("%s: %d, the oldest %s", s.Name, s.Stale.Over1s, s.Stale.Example))
		}
	}
	return out
}

// Losses are the figures in which walpurge is behind another variant with a cache, in the same
// stage: a p95 more than a tenth above, a lower hit rate, more stale responses, more queries.
func Losses(r Results) (out []string) {
	ours, ok := r.Variant("3")
	if !ok {
		return nil
	}
	for _, other := range r.Variants {
		if other.Name == "0" || other.Name == "3" {
			continue
		}
		for _, s := range ours.Stages {
			t, ok := other.Stage(s.Name)
			if !ok {
				continue
			}
			lost := func(what, ours, theirs string) {
				out = append(out, fmt.Sprintf("%s, %s: %s, %s in variant %s", s.Name, what, ours, theirs, other.Name))
			}
			if s.HitRate < t.HitRate-0.01 {
				lost("hit rate", rate(s.HitRate), rate(t.HitRate))
			}
			if s.QueriesPerReq > t.QueriesPerReq*1.05 {
				lost("queries per request", fmt.Sprintf("%.3f", s.QueriesPerReq), fmt.Sprintf("%.3f", t.QueriesPerReq))
			}
			if s.Stale.Share() > t.Stale.Share() {
				lost("stale responses", share(s.Stale.Stale, s.Stale.Responses), share(t.Stale.Stale, t.Stale.Responses))
			}
			for _, e := range s.Endpoints {
				if f, ok := t.Endpoint(e.Name); ok && e.P95 > f.P95*1.1 {
					lost("p95 of "+e.Name, fmt.Sprintf("%.2f ms", e.P95), fmt.Sprintf("%.2f ms", f.P95))
				}
			}
		}
	}
	return out
}

func rate(f float64) string {
	if f < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f %%", 100*f)
}

// share is a part of all, as a percentage that shows one in a million.
func share(n, all int) string {
	if n == 0 || all == 0 {
		return "0"
	}
	p := 100 * float64(n) / float64(all)
	digits := max(1, int(math.Ceil(-math.Log10(p)))+1)
	return fmt.Sprintf("%.*f %%", digits, p)
}

func age(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Second:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f s", d.Seconds())
}

// Table is the README's table of results, in Markdown: one row for each scenario with a committed
// report, at its peak.
func Table(all []Results) (string, error) {
	if len(all) == 0 {
		return "No report is committed yet: `make scenario NAME=restaurant` writes one.\n", nil
	}
	out := "| System | TTL only: stale, over 1 s, hit rate | Deletes, 10 % bypass them | walpurge | Queries per request, in the same order |\n|---|---|---|---|---|\n"
	for _, r := range all {
		cells := []string{fmt.Sprintf("[%s](deploy/examples/%s/README.md)", r.Scenario, r.Scenario)}
		var queries []string
		for _, name := range []string{"1", "2+bypass", "3"} {
			v, _ := r.Variant(name)
			s, ok := v.Stage(r.Peak)
			if !ok {
				return "", fmt.Errorf("the results of %s have no stage %q of variant %s", r.Scenario, r.Peak, name)
			}
			cells = append(cells, fmt.Sprintf("%s, %s, %s", share(s.Stale.Stale, s.Stale.Responses), share(s.Stale.Over1s, s.Stale.Responses), rate(s.HitRate)))
			queries = append(queries, fmt.Sprintf("%.2f", s.QueriesPerReq))
		}
		out += "| " + strings.Join(append(cells, strings.Join(queries, ", ")), " | ") + " |\n"
	}
	return out, nil
}

// The lines in README.md between which the table is.
const (
	tableBegins = "<!-- results: make scenario writes what is between these lines -->\n"
	tableEnds   = "<!-- end of results -->\n"
)

// ReplaceTable returns readme with the table of results.
func ReplaceTable(readme string, all []Results) (string, error) {
	before, rest, begun := strings.Cut(readme, tableBegins)
	_, after, ended := strings.Cut(rest, tableEnds)
	if !begun || !ended {
		return "", fmt.Errorf("README.md lacks the line %q or %q", strings.TrimSpace(tableBegins), strings.TrimSpace(tableEnds))
	}
	table, err := Table(all)
	return before + tableBegins + table + tableEnds + after, err
}
