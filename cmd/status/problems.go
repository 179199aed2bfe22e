package status

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/rules"
)

// Unfit finds what the rules cannot read of published tables: columns that are gone, that
// the publication leaves out, or that old rows do not carry. Tables that lack the same for
// the same rule are one problem.
func Unfit(set *rules.Set, tables map[cdc.Table]*postgres.TableInfo) []postgres.Problem {
	type lack struct {
		rules.Need
		reason reason
	}
	found := make(map[lack][]cdc.Table)
	var out []postgres.Problem
	for t, info := range tables {
		for _, n := range needsOf(set, t, info.Ancestors) {
			if why := lacks(n, info); why != "" {
				n.Table = cdc.Table{}
				found[lack{n, why}] = append(found[lack{n, why}], t)
			}
		}
		if info.Differing != "" {
			out = append(out, postgres.Problem{Tables: []cdc.Table{t}, Rules: rulesOf(set, t), Unread: true, Text: fmt.Sprintf(
				"%s; ALTER TABLE %s REPLICA IDENTITY %s", info.DifferingText(), info.Differing, info.DifferingIdentity)})
		}
	}
	for l, where := range found {
		slices.SortFunc(where, compare)
		out = append(out, postgres.Problem{
			Tables: where, Column: l.Column, Rules: []string{l.Rule}, Covered: l.Covered, Unread: !l.Covered && !l.When,
			Text: l.reason.text(l.Need, where, tables[where[0]]),
		})
	}
	out = append(out, ambiguous(set, tables)...)
	slices.SortFunc(out, func(a, b postgres.Problem) int { return cmp.Compare(a.Text, b.Text) })
	return out
}

// needsOf lists what rules read of a table's rows: also those of tables that it inherits from.
func needsOf(set *rules.Set, t cdc.Table, ancestors []cdc.Table) []rules.Need {
	needs := set.NeedsOf(t)
	for _, t := range ancestors {
		needs = append(needs, set.NeedsOf(t)...)
	}
	return needs
}

func compare(a, b cdc.Table) int {
	return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
}

func rulesOf(set *rules.Set, t cdc.Table) (names []string) {
	for _, r := range set.RulesOf(t) {
		names = append(names, r.Name)
	}
	return names
}

// reason says in what way a column is out of a rule's reach.
type reason string

const (
	gone      reason = "gone"
	generated reason = "generated"
	left      reason = "left out"
	notInOld  reason = "not in old rows"
)

// lacks says why a rule cannot read what it needs of a table, empty where it can.
func lacks(n rules.Need, info *postgres.TableInfo) reason {
	c, found := info.Column(n.Column)
	switch {
	case !found:
		return gone
	case !c.Carried && c.Generated:
		return generated
	case !c.Carried:
		return left
	case info.Usable && n.Old && !n.When && !n.Collapse && !c.Identity:
		// Without the old value a condition holds too often, and a step of collapse: is
		// not taken: nothing stays stale.
		return notInOld
	}
	return ""
}

func (r reason) text(n rules.Need, where []cdc.Table, info *postgres.TableInfo) string {
	table := where[0].String()
	if more := len(where) - 1; more > 0 {
		table = fmt.Sprintf("%s (and %d more)", table, more)
	}
	at := fmt.Sprintf("%s:%d: rule %q", n.File, n.Line, n.Rule)
	instead := ""
	switch {
	case !n.HasUnknown:
		instead = ", or give the rule an `unknown`"
	case !n.Covered:
		instead = ", or let `unknown` name a tag, a generation or a prefix that covers what the rule purges, or write `covers: true` in it if it does"
	}
	switch r {
	case gone:
		return fmt.Sprintf("%s: table %s has no column %q any more, so it counts as unknown; correct the rule, or bring the column back", at, table, n.Column)
	case generated:
		return fmt.Sprintf("%s: column %q of table %s is generated and not published, so it counts as unknown; use the columns that it is computed from", at, n.Column, table)
	case left:
		return fmt.Sprintf("%s: the column list of the publication leaves out %q of table %s, so it counts as unknown; take the table out of the publication and add it without a list%s",
			at, n.Column, table, instead)
	}
	if n.Covered {
		return fmt.Sprintf("%s purges by the old %s of %s, which replica identity %s does not carry, so `unknown` is purged with it", at, n.Column, table, info.Identity)
	}
	return fmt.Sprintf("%s purges by the old %s of %s, which replica identity %s does not carry, so a change of it leaves the old entry in the cache; "+
		"ALTER TABLE %s REPLICA IDENTITY USING INDEX (a unique index with it and the primary key), or REPLICA IDENTITY FULL%s",
		at, n.Column, table, info.Identity, where[0], instead)
}

// ambiguous finds captures that are columns, too: once for each rule and name.
func ambiguous(set *rules.Set, tables map[cdc.Table]*postgres.TableInfo) (out []postgres.Problem) {
	if len(set.Patterns()) == 0 {
		return nil
	}
	seen := make(map[string]int)
	for _, t := range slices.SortedFunc(maps.Keys(tables), compare) {
		rel := &cdc.Relation{Schema: t.Schema, Name: t.Name}
		for _, c := range tables[t].Columns {
			rel.Columns = append(rel.Columns, cdc.Column{Name: c.Name})
		}
		plan := set.Bind(rel)
		if plan == nil {
			continue
		}
		for _, p := range plan.Problems() {
			key := strings.ReplaceAll(p.Error(), t.String(), "")
			if i, known := seen[key]; known {
				out[i].Tables = append(out[i].Tables, t)
				continue
			}
			seen[key] = len(out)
			out = append(out, postgres.Problem{Tables: []cdc.Table{t}, Rules: []string{p.Rule}, Text: p.Error()})
		}
	}
	return out
}

// Problems names the rules and sinks that the reader's problems concern, those that
// `unknown` covers last. sinks are the names in the order in which the rules know them.
func Problems(set *rules.Set, sinks []string, found []postgres.Problem) []Problem {
	out := make([]Problem, 0, len(found))
	for _, f := range found {
		p := Problem{Tables: []string{}, Column: f.Column, Rules: []string{}, Sinks: []string{}, Covered: f.Covered, Text: f.Text, Since: f.Since}
		for _, t := range f.Tables {
			p.Tables = append(p.Tables, t.String())
		}
		fed := make([]bool, len(sinks))
		for _, r := range set.Rules() {
			if !concerns(set, r, f) {
				continue
			}
			p.Rules = append(p.Rules, r.Name)
			for _, i := range r.Sinks {
				if i < len(sinks) { // others purge nothing
					fed[i] = true
				}
			}
		}
		for i, name := range sinks {
			if fed[i] {
				p.Sinks = append(p.Sinks, name)
			}
		}
		if len(p.Rules) > 0 {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Problem) int { return cmp.Compare(rank(a), rank(b)) })
	return out
}

func rank(p Problem) int {
	if p.Covered {
		return 1
	}
	return 0
}

func concerns(set *rules.Set, r *rules.Rule, f postgres.Problem) bool {
	switch {
	case r.Message != "":
		return false
	case len(f.Rules) > 0:
		return slices.Contains(f.Rules, r.Name)
	case len(f.Tables) == 0:
		return true
	}
	return slices.ContainsFunc(f.Tables, func(t cdc.Table) bool { return slices.Contains(set.RulesOf(t), r) })
}

// At returns the first problem that leaves something stale at the sink, or at any sink if
// the name is empty; nil if there is none.
func At(problems []Problem, sink string) *Problem {
	for i := range problems {
		if p := &problems[i]; !p.Covered && (sink == "" || slices.Contains(p.Sinks, sink)) {
			return p
		}
	}
	return nil
}
