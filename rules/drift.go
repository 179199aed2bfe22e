package rules

import (
	"fmt"
	"slices"
)

// Drift compares a lock file with the live catalog, for the tables that the rules
// name: one line for each table and column that is not as it was locked. A column
// that is new counts only where a rule reads it.
func (c *Catalog) Drift(live *Catalog, set *Set) []string {
	var out []string
	for _, name := range live.Tables() {
		if !set.Matches(name) {
			continue
		}
		was, is := c.Table(name), live.Table(name)
		if was == nil {
			out = append(out, fmt.Sprintf("table %s is not in it", name))
			continue
		}
		if before, now := was.identityText(), is.identityText(); before != now {
			out = append(out, fmt.Sprintf("table %s: the replica identity is %s now, was %s", name, now, before))
		}
		for _, col := range was.Columns {
			switch now, found := is.Column(col.Name); {
			case !found:
				out = append(out, fmt.Sprintf("table %s: column %s is gone", name, col.Name))
			case now.String() != col.String() || now.OID != col.OID:
				out = append(out, fmt.Sprintf("table %s: column %s is %s now, was %s", name, col.Name, now, col))
			}
		}
		var seen []string
		for _, n := range set.NeedsOf(name) {
			_, before := was.Column(n.Column)
			_, now := is.Column(n.Column)
			if now && !before && !slices.Contains(seen, n.Column) {
				seen = append(seen, n.Column)
				out = append(out, fmt.Sprintf("table %s: column %s is new, and rule %s reads it", name, n.Column, n.Rule))
			}
		}
	}
	return out
}
