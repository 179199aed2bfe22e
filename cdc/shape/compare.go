package shape

import (
	"slices"

	"github.com/walpurge/walpurge/cdc"
)

// Facts are what Compare cannot derive from descriptions.
type Facts struct {
	// Sees reports whether a rule of the table can see that values of the column changed. Nil: all do.
	Sees func(column string) bool
	// Unnamed reports that the publication holds the table without naming it: the server refuses SET
	// UNLOGGED only for tables that a publication names.
	Unnamed bool
	// Born has the nodes that were created as partitions of their parent, and never attached to it:
	// rows that they got since came through the stream as rows of the root.
	Born map[uint32]bool
	// Empty has the nodes without rows. Arrived says of which nodes it is asked.
	Empty map[uint32]bool
}

// Difference is one thing that two descriptions differ in, and that is a gap of the table.
// Differences that are harmless are not returned.
type Difference struct {
	Cause cdc.TableCause
	// Column is set for a change of one column, Node for one of a table in the tree.
	Column string
	Node   uint32
}

// Arrived returns the nodes of after that before does not have.
func Arrived(before, after *Table) []uint32 {
	known := nodes(before)
	var out []uint32
	for _, n := range after.Nodes {
		if _, found := known[n.OID]; !found {
			out = append(out, n.OID)
		}
	}
	return out
}

// Compare returns the differences that make what the rules derive from the table doubtful. Both
// descriptions are of the same table.
func Compare(before, after *Table, facts Facts) []Difference {
	tree, rewritten := compareNodes(before, after, facts)
	out := append(compareTables(before, after), tree...)
	if facts.Unnamed && before.File != after.File {
		// SET UNLOGGED and SET LOGGED, with changes in between that are not in the log, leave no other trace.
		out = append(out, Difference{Cause: cdc.TableRewritten})
	}
	return append(out, compareColumns(before, after, facts, rewritten || before.File != after.File)...)
}

// compareTables finds what changed and was changed back, as far as it leaves a mark on the table.
func compareTables(before, after *Table) (out []Difference) {
	if before.Named == 0 {
		return nil
	}
	if before.Named != after.Named && before.Owner == after.Owner || before.SchemaNamed != after.SchemaNamed && before.SchemaGrants == after.SchemaGrants {
		out = append(out, Difference{Cause: cdc.TablePublished})
	}
	if len(before.Nodes)+len(after.Nodes) == 0 && !before.Inherited && after.Inherited {
		out = append(out, Difference{Cause: cdc.LeafGone})
	}
	if before.Encoding != after.Encoding {
		out = append(out, Difference{Cause: cdc.ColumnType})
	}
	return out
}

// compareNodes also reports whether a node that stayed was rewritten.
func compareNodes(before, after *Table, facts Facts) (out []Difference, rewritten bool) {
	was, is := nodes(before), nodes(after)
	add := func(cause cdc.TableCause, n Node) { out = append(out, Difference{Cause: cause, Node: n.OID}) }
	for _, n := range before.Nodes {
		now, stays := is[n.OID]
		switch {
		case !stays:
			if holdsRows(before, n) {
				add(cdc.LeafGone, n)
			}
		case now.Attached != n.Attached || now.Parent != n.Parent:
			if holdsRows(before, n) || holdsRows(after, now) {
				add(cdc.LeafReattached, n)
			}
		case now.Persistence != n.Persistence:
			add(cdc.LeafPersistence, n)
		case now.File != n.File:
			add(cdc.LeafRewritten, n)
		}
		rewritten = rewritten || stays && now.File != n.File
	}
	for _, n := range after.Nodes {
		if _, stayed := was[n.OID]; !stayed && !harmlessArrival(after.Kind, n, was, is, facts) {
			add(cdc.LeafCame, n)
		}
	}
	return out, rewritten
}

// holdsRows reports whether rows can lie in the node itself or in what lies below it.
func holdsRows(t *Table, n Node) bool {
	return n.Kind != PartitionedKind || slices.ContainsFunc(t.Nodes, func(below Node) bool { return below.Parent == n.OID })
}

// harmlessArrival reports whether a new node brought no rows that the stream did not carry, and
// lost none: it still has its first file. Tables that inherit are published one by one, so rows of
// a new one may have come before it was published.
func harmlessArrival(root byte, n Node, was, is map[uint32]Node, facts Facts) bool {
	switch {
	case n.Kind == PartitionedKind:
		return true // what lies below it is judged by itself
	case root != PartitionedKind || n.File != n.OID || n.Persistence != Logged:
		return false
	case facts.Empty[n.OID]:
		return true
	}
	for {
		if !facts.Born[n.OID] {
			return false
		}
		parent, found := is[n.Parent]
		if _, known := was[n.Parent]; !found || known {
			return true
		}
		n = parent
	}
}

func compareColumns(before, after *Table, facts Facts, rewritten bool) (out []Difference) {
	sees := facts.Sees
	if sees == nil {
		sees = func(string) bool { return true }
	}
	was, is := columns(before), columns(after)
	for _, c := range before.Columns {
		now, stays := is[c.Number]
		if cause := columnCause(c, now, stays, rewritten); cause != "" && (sees(c.Name) || stays && sees(now.Name)) {
			out = append(out, Difference{Cause: cause, Column: c.Name})
		}
	}
	for _, c := range after.Columns {
		if _, stayed := was[c.Number]; stayed || !sees(c.Name) {
			continue
		}
		switch {
		case c.Generated != 0:
			out = append(out, Difference{Cause: cdc.ColumnGenerated, Column: c.Name})
		case c.Filled || rewritten:
			// A default that is computed for each row leaves no trace but the rewrite.
			out = append(out, Difference{Cause: cdc.ColumnFilled, Column: c.Name})
		}
	}
	return out
}

// columnCause says in what way the values of a column changed, empty if they did not.
func columnCause(c, now Column, stays, rewritten bool) cdc.TableCause {
	switch {
	case !stays:
		return cdc.ColumnDropped
	case now.Name != c.Name:
		return cdc.ColumnRenamed
	case now.Type != c.Type || now.Mod != c.Mod || now.Collation != c.Collation:
		return cdc.ColumnType
	case now.Generated != 0 && (now.Generated != c.Generated || now.Expression != c.Expression):
		return cdc.ColumnGenerated
	case rewritten && now.Written != c.Written:
		return cdc.ColumnType // USING with the type that it had
	case now.Fields != c.Fields || relabelled(c.Labels, now.Labels):
		return cdc.TypeChanged
	}
	return ""
}

// relabelled reports whether a label that was there has been renamed. New labels are harmless,
// since no row has them yet.
func relabelled(before, after []Label) bool {
	now := make(map[uint32]Label, len(after))
	for _, l := range after {
		now[l.OID] = l
	}
	return slices.ContainsFunc(before, func(l Label) bool { return now[l.OID] != l })
}

func nodes(t *Table) map[uint32]Node {
	out := make(map[uint32]Node, len(t.Nodes))
	for _, n := range t.Nodes {
		out[n.OID] = n
	}
	return out
}

func columns(t *Table) map[int16]Column {
	out := make(map[int16]Column, len(t.Columns))
	for _, c := range t.Columns {
		out[c.Number] = c
	}
	return out
}
