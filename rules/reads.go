package rules

import "github.com/walpurge/walpurge/cdc"

// Read is a column that a rule reads of a changed row.
type Read struct {
	Rule   string
	Column string
	// Old and New tell from which of the rows.
	Old, New bool
}

// Reads lists the columns that the rules of a table read when such a change comes,
// rule by rule. As with Needs, what is reached only through a whole row is not
// listed.
func (s *Set) Reads(t Table, op cdc.Op) []Read {
	var out []Read
	for _, id := range s.watching(t) {
		r := s.rules[id]
		if op < cdc.Insert || op > cdc.Delete || !r.ops[op] {
			continue
		}
		add := func(c columnUse) {
			use := Read{Rule: r.Name, Column: c.name}
			use.Old = op != cdc.Insert && c.image != newImage
			use.New = op != cdc.Delete && c.image != oldImage
			if c.image == bothImages && op != cdc.Update {
				return // there changed() looks at nothing
			}
			if use.Old || use.New {
				out = append(out, use)
			}
		}
		if r.when != nil {
			for _, c := range r.when.columns {
				add(c)
			}
		}
		for kind := range r.values {
			for _, t := range r.values[kind] {
				for _, c := range t.reads() {
					add(c.columnUse)
				}
			}
		}
	}
	return out
}
