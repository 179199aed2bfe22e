package rules

import "slices"

// Compared is a column that a rule compares, by == and its like or by its order.
type Compared struct {
	Rule   string
	File   string
	Line   int
	Column CatalogColumn
	Order  bool
	// Undecided reports that the text of values does not always tell what SQL would say: the
	// condition then counts as true, and a value as unknown.
	Undecided bool
}

// comparedColumn is a column that an expression compares.
type comparedColumn struct {
	name  string
	order bool
}

// Compared lists the columns of a table that rules compare, each once for a rule and line.
func (s *Set) Compared(t *CatalogTable) []Compared {
	var out []Compared
	for _, id := range s.watching(t.Table) {
		r := s.rules[id]
		add := func(e *expression, line int) {
			if e == nil || e.lookup != "" {
				return
			}
			for _, c := range e.compared {
				col, found := t.Column(c.name)
				if !found {
					continue
				}
				one := Compared{Rule: r.Name, File: r.File, Line: line, Column: col, Order: c.order, Undecided: col.undecided(c.order)}
				if !slices.Contains(out, one) {
					out = append(out, one)
				}
			}
		}
		if r.when != nil {
			add(r.when.expression, r.when.line)
		}
		for k := range r.values {
			for _, t := range r.values[k] {
				for i := range t.parts {
					add(t.parts[i].expr, t.line)
				}
			}
		}
	}
	return out
}

// undecided reports whether values, or elements, of the column cannot always be compared.
func (c *CatalogColumn) undecided(order bool) bool {
	t := c.DataType()
	for t.Elem != nil {
		t = *t.Elem
	}
	how := comparisonOf(&t)
	return how != nil && how.number == noNumber && (!how.distinct || order && !how.ordered)
}
