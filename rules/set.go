package rules

import (
	"cmp"
	"slices"

	"github.com/walpurge/walpurge/cdc"
)

// Table names a table as rules do.
type Table = cdc.Table

// SinkSpec is what the loader needs to know of a configured sink.
type SinkSpec struct {
	Name string
	// Takes are the kinds that the sink can carry out.
	Takes KindSet
}

// Options are what a rules file is checked against.
type Options struct {
	// Sinks are the configured sinks; a place in this list is the sink index
	// everywhere in this package.
	Sinks []SinkSpec
}

// Set is all rules of a pipeline, compiled. It is immutable and safe for
// concurrent use.
type Set struct {
	rules   []*Rule
	byTable map[Table][]int
	sinks   []SinkSpec
}

// Rule is one compiled rule. It is immutable.
type Rule struct {
	Name  string
	Table Table
	// File and Line are where the rule begins.
	File string
	Line int
	// Sinks are the indices of the sinks to which at least one of the rule's
	// values goes, ascending.
	Sinks []int

	ops        [cdc.Truncate + 1]bool
	when       *condition // nil: always
	values     [NumKinds][]*template
	unknown    literals
	onTruncate literals
	// routes are the sinks of the rule that take a kind.
	routes [NumKinds][]int
}

// literals are fixed values by kind; given tells an absent block from an empty one.
type literals struct {
	given  bool
	values [NumKinds][][]byte
}

// Rules lists the rules in the order of files and lines; a place in it is the
// rule index of Output. The caller must not change what it points to.
func (s *Set) Rules() []*Rule { return slices.Clone(s.rules) }

// Tables lists the tables that rules watch, sorted, each once.
func (s *Set) Tables() []Table {
	out := make([]Table, 0, len(s.byTable))
	for t := range s.byTable {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return out
}

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
}

// Needs lists the columns that rules read, by rule and then in the order of
// their first use; templates and conditions apart. Columns that a condition
// reaches only through a whole row, as in row.exists(c, ...), are not listed:
// where one is not known the condition counts as true.
func (s *Set) Needs() []Need {
	var out []Need
	for _, r := range s.rules {
		first := len(out)
		add := func(n Need) {
			for i := first; i < len(out); i++ {
				if out[i].Column == n.Column && out[i].When == n.When {
					out[i].Old = out[i].Old || n.Old
					out[i].HasUnknown = out[i].HasUnknown && n.HasUnknown
					return
				}
			}
			n.Rule, n.File, n.Table = r.Name, r.File, r.Table
			out = append(out, n)
		}
		oldRows := r.ops[cdc.Update] || r.ops[cdc.Delete]
		if r.when != nil {
			for _, c := range r.when.columns {
				// changed() is true for a delete whatever the old row holds.
				old := c.image == oldImage && oldRows || c.image == eachImage && oldRows || c.image == bothImages && r.ops[cdc.Update]
				add(Need{Line: r.when.line, Column: c.name, Old: old, When: true, HasUnknown: r.unknown.given})
			}
		}
		for kind := range r.values {
			for _, t := range r.values[kind] {
				for _, c := range t.reads() {
					add(Need{Line: t.line, Column: c.name, Old: c.image != newImage && oldRows, HasUnknown: r.unknownCovers(t)})
				}
			}
		}
	}
	return out
}

// unknownCovers reports whether every sink that a template's values go to takes
// something of what unknown: names.
func (r *Rule) unknownCovers(t *template) bool {
	for _, sink := range t.sinks {
		if !r.takesAny(sink, &r.unknown) {
			return false
		}
	}
	return true
}
