package router

import (
	"fmt"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules"
)

// problems are what the rules find wrong with the tables as the stream describes
// them now: rules were checked against the catalog when they were loaded, and
// tables change afterwards. Rules go on, with `unknown` for what they cannot read.
type problems struct {
	gauge   *prometheus.GaugeVec
	log     *condition.Log
	byTable map[cdc.Table][]problem
	counts  map[string]int
}

type problem struct{ rule, text string }

// problemsLogged is how many problems of a rule have lines of their own: a rule of a pattern may
// have one for each tenant.
const problemsLogged = 5

func newProblems(m *Metrics, log *condition.Log) problems {
	return problems{gauge: m.problems, log: log}
}

// use starts anew with other rules.
func (p *problems) use(set *rules.Set) {
	for _, found := range p.byTable {
		for _, f := range found {
			p.log.At(misfitBefore, "rule", f.rule, "err", f.text).End()
			p.log.At(moreMisfits, "rule", f.rule).End()
		}
	}
	p.byTable, p.counts = make(map[cdc.Table][]problem), make(map[string]int)
	p.gauge.Reset()
	for _, r := range set.Rules() {
		p.gauge.WithLabelValues(r.Name).Set(0)
	}
}

// look judges a new version of a table's shape. What is wrong is told once, and
// counted until a version comes that has it right.
func (p *problems) look(set *rules.Set, rel *cdc.Relation, plan *rules.Plan) {
	t := tableOf(rel)
	var found []problem
	for _, n := range set.NeedsOf(t) {
		if text := disagreement(n, rel); text != "" {
			found = append(found, problem{n.Rule, text})
		}
	}
	for _, d := range plan.Problems() {
		found = append(found, problem{d.Rule, d.Error()})
	}
	before := p.byTable[t]
	for _, f := range before {
		p.counts[f.rule]--
		if !slices.Contains(found, f) {
			p.log.At(misfit, "rule", f.rule, "err", f.text).End()
		}
	}
	for _, f := range found {
		p.counts[f.rule]++
		switch {
		case slices.Contains(before, f):
		case p.counts[f.rule] <= problemsLogged:
			p.log.At(misfit, "rule", f.rule, "err", f.text).Observe("table", t.String())
		default:
			p.log.At(moreMisfits, "rule", f.rule).Observe("tables", p.counts[f.rule])
		}
	}
	for _, f := range slices.Concat(before, found) {
		p.gauge.WithLabelValues(f.rule).Set(float64(p.counts[f.rule]))
		if p.counts[f.rule] <= problemsLogged {
			p.log.At(moreMisfits, "rule", f.rule).End()
		}
	}
	if p.byTable[t] = found; len(found) == 0 {
		delete(p.byTable, t)
	}
}

// disagreement says why a rule cannot read what it needs, empty where it can.
func disagreement(n rules.Need, rel *cdc.Relation) string {
	i := rel.Index(n.Column)
	switch {
	case i < 0:
		return fmt.Sprintf("%s:%d: rule %q: table %s has no column %q any more, or it is not published, so it counts as unknown; correct the rule, or bring the column back",
			n.File, n.Line, n.Rule, n.Table, n.Column)
	case n.Old && !n.When && !n.HasUnknown && rel.Identity != cdc.IdentityFull && !rel.Columns[i].Key:
		return fmt.Sprintf("%s:%d: rule %q purges by the old %s of %s, which replica identity %s does not carry, so a change of it leaves the old entry in the cache; "+
			"ALTER TABLE %s REPLICA IDENTITY USING INDEX (a unique index with it and the primary key), or REPLICA IDENTITY FULL, or give the rule an unknown:",
			n.File, n.Line, n.Rule, n.Column, n.Table, rel.Identity, n.Table)
	}
	return ""
}
