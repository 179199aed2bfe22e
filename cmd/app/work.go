package app

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/rules"
)

// Rule is how often a rule has had to do with something since the start.
type Rule struct {
	Name string `json:"name"`
	// Of is the table, or for a rule of messages their prefix.
	Of            string  `json:"of"`
	Matches       float64 `json:"matches"`
	Invalidations float64 `json:"invalidations"`
	Unknown       float64 `json:"unknown"`
	Errors        float64 `json:"errors"`
}

// Work counts what a sink has done since the start.
type Work struct {
	Purged float64 `json:"purged"`
	Failed float64 `json:"failed"`
	// LatencyCount and LatencySeconds are number and sum of the times from commit
	// to acknowledged purge: two of each give the mean of what lies between.
	LatencyCount   uint64  `json:"latency_count"`
	LatencySeconds float64 `json:"latency_seconds"`
}

// work is what the counters of router and lanes say.
type work struct {
	changes float64
	sinks   map[string]Work
	rules   map[string]Rule
}

// readWork reads counters. It is their registry alone that is read, without what
// asks the stream's server.
func readWork(g prometheus.Gatherer) (work, error) {
	w := work{sinks: map[string]Work{}, rules: map[string]Rule{}}
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
			case "walpurge_purge_latency_seconds":
				sink.LatencyCount, sink.LatencySeconds = m.GetHistogram().GetSampleCount(), m.GetHistogram().GetSampleSum()
			}
			w.rules[label["rule"]], w.sinks[label["sink"]] = rule, sink
		}
	}
	return w, err
}

// of lists the counts of the rules of a set, in its order.
func (w work) of(set *rules.Set) []Rule {
	out := []Rule{}
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
