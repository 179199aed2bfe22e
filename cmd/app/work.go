package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/rules"
)

// work is what the counters of router and lanes say.
type work struct {
	changes float64
	sinks   map[string]status.Work
	rules   map[string]status.Rule
	// warmed counts for each warm sink its pages by what became of them.
	warmed map[string]map[string]float64
}

// readWork reads counters. It is their registry alone that is read, without what
// asks the stream's server.
func readWork(g prometheus.Gatherer) (work, error) {
	w := work{sinks: map[string]status.Work{}, rules: map[string]status.Rule{}, warmed: map[string]map[string]float64{}}
	families, err := g.Gather()
	for _, family := range families {
		for _, m := range family.GetMetric() {
			label := map[string]string{}
			for _, l := range m.GetLabel() {
				label[l.GetName()] = l.GetValue()
			}
			rule, sink, n := w.rules[label["rule"]], w.sinks[label["sink"]], m.GetCounter().GetValue()
			switch family.GetName() {
			case "walpurge_changes_total":
				w.changes += n
			case "walpurge_rule_matches_total":
				rule.Matches = n
			case "walpurge_rule_invalidations_total":
				rule.Invalidations += n // of each sink
			case "walpurge_rule_unknown_total":
				rule.Unknown = n
			case "walpurge_rule_errors_total":
				rule.Errors = n
			case "walpurge_purges_total":
				if label["result"] == "ok" {
					sink.Purged = n
				} else {
					sink.Failed = n
				}
			case "walpurge_warm_pages_total":
				if w.warmed[label["sink"]] == nil {
					w.warmed[label["sink"]] = map[string]float64{}
				}
				w.warmed[label["sink"]][label["result"]] = n
				continue
			case "walpurge_purge_latency_seconds":
				sink.LatencyCount, sink.LatencySeconds = m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
			}
			w.rules[label["rule"]], w.sinks[label["sink"]] = rule, sink
		}
	}
	return w, err
}

// of lists the counts of the rules of a set, in its order.
func (w work) of(set *rules.Set) []status.Rule {
	out := []status.Rule{}
	for _, r := range set.Rules() {
		n := w.rules[r.Name]
		n.Name, n.Of = r.Name, r.Message
		if r.Message == "" {
			n.Of = r.Table.String()
		}
		out = append(out, n)
	}
	return out
}
