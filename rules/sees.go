package rules

import (
	"slices"

	"github.com/walpurge/walpurge/cdc"
)

// Sees reports whether a rule of the table can see that values of the column changed while all
// others stayed. A rule does not if its condition has a changed() without the column, alone or joined
// by && with other terms, and if no value that it purges is made of the column.
func (s *Set) Sees(t Table, column string) bool {
	return slices.ContainsFunc(s.watching(t), func(id int) bool { return s.rules[id].sees(column) })
}

func (r *Rule) sees(column string) bool {
	return !r.ignores(column) || slices.ContainsFunc(r.templates(), func(t *template) bool { return t.readsColumn(column) })
}

// ignores reports whether an update of the column alone can never match.
func (r *Rule) ignores(column string) bool {
	if !r.ops[cdc.Update] {
		return true
	}
	if r.when == nil {
		return false
	}
	terms := r.when.terms
	if len(terms) == 0 {
		terms = []*expression{r.when.expression}
	}
	return slices.ContainsFunc(terms, func(e *expression) bool {
		return e.changed && !slices.ContainsFunc(e.columns, func(c columnUse) bool { return c.name == column })
	})
}

// templates are all that the rule makes values of a row with.
func (r *Rule) templates() []*template {
	var out []*template
	for kind := range r.values {
		out = append(out, r.values[kind]...)
		for i := range r.steps {
			out = append(out, r.steps[i].values[kind]...)
		}
	}
	for _, l := range r.lookups {
		out = append(out, l.args...)
	}
	return out
}

func (t *template) readsColumn(column string) bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.expr != nil && p.expr.wholeRow }) ||
		slices.ContainsFunc(t.reads(), func(c templateRead) bool { return c.name == column })
}
