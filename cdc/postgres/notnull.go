package postgres

import (
	"slices"

	"github.com/walpurge/walpurge/cdc"
)

// notNulls are the columns that cannot be NULL, as the catalog says. An old row that the server marks as
// whole and that has a NULL in such a column is not whole: its values are those of another replica
// identity than the one that was described. One goroutine uses it.
type notNulls struct {
	// now returns the names of such columns by the table's OID; nil before they are read.
	now     func() *map[uint32][]string
	of      *map[uint32][]string
	columns map[*cdc.Relation][]int
}

// check makes the NULLs of an old row that cannot be whole count as not sent. A column that became NOT
// NULL after the row was written does so, too.
func (n *notNulls) check(c *cdc.Change) {
	if c.Old == nil || c.Rel.Identity != cdc.IdentityFull {
		return
	}
	if !slices.ContainsFunc(n.get(c.Rel), func(i int) bool { return i < len(c.Old) && c.Old[i].Kind == cdc.Null }) {
		return
	}
	for i := range c.Old {
		if c.Old[i].Kind == cdc.Null {
			c.Old[i] = cdc.Value{}
		}
	}
}

// get returns where such columns are in a tuple.
func (n *notNulls) get(rel *cdc.Relation) []int {
	names := n.now()
	if names == nil {
		return nil
	}
	if n.of != names {
		n.of, n.columns = names, make(map[*cdc.Relation][]int)
	}
	out, known := n.columns[rel]
	if !known {
		for _, name := range (*names)[rel.OID] {
			if i := rel.Index(name); i >= 0 {
				out = append(out, i)
			}
		}
		n.columns[rel] = out
	}
	return out
}
