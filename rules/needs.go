package rules

import (
	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Need is one column that a rule reads, for the checks against a database.
type Need struct {
	Rule  string
	File  string
	Line  int
	Table Table
	// Column is the column's exact name.
	Column string
	// Old reports that the rule reads the old row's value, so the column must
	// belong to the table's replica identity.
	Old bool
	// When reports that the condition reads it: without the value the rule
	// matches too often, but no purge is lost. Otherwise a template does.
	When bool
	// HasUnknown reports that where the value is not known, unknown: gives
	// every sink that the template goes to something to purge instead.
	HasUnknown bool
	// Covered reports that this can also be taken for what the template names, at each of these sinks;
	// see Uncovered.
	Covered bool
	// Collapse reports that only a step of collapse: reads it: a row without the
	// value takes something else, and no purge is lost.
	Collapse bool
	// Large reports that even a value of more than 2 kB may lead to something that
	// is purged when a row is updated: an expression in a template reads it. What
	// is copied as it stands is too long for a key long before.
	Large bool
	// Copied reports that a template copies it as it stands when a row is updated. An array may
	// be large although each of its elements is short.
	Copied bool
}

// Needs lists the columns that rules with an exact table read, by rule and then in the order of
// their first use; templates and conditions apart. Columns that an expression
// reaches only through a whole row, as in row.exists(c, ...), are not listed:
// where one is not known the condition counts as true, and a value as unknown.
func (s *Set) Needs() []Need {
	var out []Need
	for _, r := range s.rules {
		if r.pattern == nil && r.Message == "" {
			out = append(out, r.needs(r.Table)...)
		}
	}
	return out
}

// NeedsOf lists the columns of one table that rules read, those whose table is
// a pattern included.
func (s *Set) NeedsOf(t Table) []Need {
	var out []Need
	for _, id := range s.watching(t) {
		out = append(out, s.rules[id].needs(t)...)
	}
	return out
}

func (r *Rule) needs(table Table) []Need {
	var out []Need
	add := func(n Need) {
		for i := range out {
			if out[i].Column == n.Column && out[i].When == n.When && out[i].Collapse == n.Collapse {
				out[i].Old = out[i].Old || n.Old
				out[i].HasUnknown = out[i].HasUnknown && n.HasUnknown
				out[i].Covered = out[i].Covered && n.Covered
				out[i].Large = out[i].Large || n.Large
				out[i].Copied = out[i].Copied || n.Copied
				return
			}
		}
		n.Rule, n.File, n.Table = r.Name, r.File, table
		out = append(out, n)
	}
	oldRows := r.ops[cdc.Update] || r.ops[cdc.Delete]
	if r.when != nil {
		for _, c := range r.when.columns {
			// changed() is true for a delete whatever the old row holds.
			old := c.image == oldImage && oldRows || c.image == eachImage && oldRows || c.image == bothImages && r.ops[cdc.Update]
			add(Need{Line: r.when.line, Column: c.name, Old: old, When: true, HasUnknown: r.unknown.given, Covered: r.unknown.given})
		}
	}
	for _, l := range r.lookups {
		for _, t := range l.args {
			for _, c := range t.reads() {
				// Without the argument there is no answer, and every rule with a lookup has an unknown:.
				add(Need{Line: t.line, Column: c.name, Old: c.image != newImage && oldRows, HasUnknown: true, Covered: r.coveredFor(l)})
			}
		}
	}
	for kind := range r.values {
		for _, t := range r.values[kind] {
			for _, c := range t.reads() {
				add(Need{Line: t.line, Column: c.name, Old: c.image != newImage && oldRows, HasUnknown: r.namesUnknown(t), Covered: r.covered(t, invalidation.Kind(kind)), Large: c.computed && r.ops[cdc.Update], Copied: !c.computed && r.ops[cdc.Update]})
			}
		}
	}
	for i := range r.steps {
		for kind := range r.steps[i].values {
			for _, t := range r.steps[i].values[kind] {
				for _, c := range t.reads() {
					add(Need{Line: t.line, Column: c.name, Old: c.image != newImage && oldRows, HasUnknown: r.namesUnknown(t), Covered: r.covered(t, invalidation.Kind(kind)), Collapse: true})
				}
			}
		}
	}
	return out
}
