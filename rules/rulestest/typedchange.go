package rulestest

import (
	"bytes"
	"fmt"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// ParseChange reads one event, written as YAML or JSON in the words of a rule
// test: table, one of insert, update, delete and truncate, identity, and lookup; or
// message. file is its name for messages. With a catalog, values have the types of
// the table's columns, and the old row what its replica identity holds; catalog
// may be nil.
func ParseChange(file string, data []byte, catalog *rules.Catalog) (*Event, error) {
	return parseChange(&loader{file: file, catalog: catalog}, data)
}

// shape finds the table in the catalog, where there is one.
func (l *loader) shape(t cdc.Table, at strictyaml.Pos) *rules.CatalogTable {
	if l.catalog == nil || t.Name == "" {
		return nil
	}
	shape := l.catalog.Table(t)
	if shape == nil {
		var names []string
		for _, t := range l.catalog.Tables() {
			names = append(names, t.String())
		}
		near := ""
		if n := strictyaml.Nearest(t.String(), names); n != "" {
			near = "; did you mean " + n + "?"
		}
		l.failf(at, "%s has no table %s%s; where a rule names it, run `walpurge rules lock`", l.catalog.File, t, near)
	}
	return shape
}

// typedChange builds what the stream would carry of a change of the table.
func (l *loader) typedChange(c *cdc.Change, shape *rules.CatalogTable, before, after row, identity *strictyaml.Node, at strictyaml.Pos) {
	c.Rel = shape.Relation()
	l.typedIdentity(c.Rel, identity, shape)
	c.Old, c.New = l.typedTuple(c.Rel, shape, before), l.typedTuple(c.Rel, shape, after)
	if c.Op == cdc.Update && c.New != nil {
		// A large value that the statement does not touch is not sent.
		for i := range c.New {
			if col, _ := shape.Column(c.Rel.Columns[i].Name); c.New[i].Kind == cdc.Absent && col.Toastable {
				c.New[i].Kind = cdc.Unchanged
			}
		}
	}
	if l.set != nil {
		l.complete(c)
	}
	l.keep(c, at)
}

// typedIdentity says which columns an old row carries: those of the catalog, or what the
// change asks for instead.
func (l *loader) typedIdentity(rel *cdc.Relation, n *strictyaml.Node, shape *rules.CatalogTable) {
	switch {
	case n == nil || n.Kind == strictyaml.Scalar && n.Text == "default":
		return
	case n.Kind == strictyaml.Scalar && n.Text == "full":
		rel.Identity = cdc.IdentityFull
		for i := range rel.Columns {
			rel.Columns[i].Key = true
		}
		return
	case n.Kind != strictyaml.Sequence || len(n.Items) == 0:
		l.errs = append(l.errs, n.Errorf("identity: %s; write default for what the catalog says, full, or the columns of a key, like [id]", n))
		return
	}
	rel.Identity = cdc.IdentityIndex
	for i := range rel.Columns {
		rel.Columns[i].Key = false
	}
	for _, item := range n.Items {
		name := l.text(item)
		if i := rel.Index(name); i >= 0 {
			rel.Columns[i].Key = true
			continue
		}
		l.failf(item.Pos, "identity: table %s has no column %q%s", shape.Table, name, strictyaml.DidYouMean(name, names(rel)))
	}
}

func names(rel *cdc.Relation) []string {
	out := make([]string, len(rel.Columns))
	for i := range rel.Columns {
		out[i] = rel.Columns[i].Name
	}
	return out
}

// typedTuple is a row in the order of the table; what it leaves out is absent.
func (l *loader) typedTuple(rel *cdc.Relation, shape *rules.CatalogTable, r row) cdc.Tuple {
	if r == nil {
		return nil
	}
	out := make(cdc.Tuple, len(rel.Columns))
	for _, e := range r {
		col, found := shape.Column(e.Key)
		switch {
		case !found:
			l.failf(e.Pos, "table %s has no column %q%s", shape.Table, e.Key, strictyaml.DidYouMean(e.Key, names(rel)))
		case col.Generated:
			l.failf(e.Pos, "column %s is generated, and PostgreSQL does not send it; take it out", e.Key)
		default:
			out[rel.Index(e.Key)] = l.typed(e.Value, col)
		}
	}
	return out
}

// complete notes what the rules read of a row, PostgreSQL always sends, and the
// test leaves out: there the rules have to guess, as in production they need not.
func (l *loader) complete(c *cdc.Change) {
	seen := map[string]bool{}
	for _, r := range l.set.Reads(cdc.Table{Schema: c.Rel.Schema, Name: c.Rel.Name}, c.Op) {
		i := c.Rel.Index(r.Column)
		if i < 0 {
			continue // one that is not carried, whatever the test says
		}
		lacks := func(which string, t cdc.Tuple) {
			if t != nil && t[i].Kind == cdc.Absent && !seen[which+r.Column] {
				seen[which+r.Column] = true
				l.notes = append(l.notes, fmt.Sprintf("the %s row lacks the column %s, which the rule %s reads and PostgreSQL sends; so it counts as unknown", which, r.Column, r.Rule))
			}
		}
		if r.New {
			lacks("new", c.New)
		}
		if r.Old && c.Rel.Columns[i].Key {
			lacks("old", c.Old)
		}
	}
}

// keep leaves of the old row what the identity holds, as PostgreSQL does: nothing
// at all for an update that leaves the identity as it was, but for one with a large
// value in it, which is sent in the old row then (heap_update, ExtractReplicaIdentity).
func (l *loader) keep(c *cdc.Change, at strictyaml.Pos) {
	if c.Old == nil || c.Rel.Identity == cdc.IdentityFull {
		return
	}
	same, keys := c.Op == cdc.Update && c.New != nil, 0
	for i, column := range c.Rel.Columns {
		if !column.Key {
			c.Old[i] = cdc.Value{}
			continue
		}
		keys++
		switch {
		case c.New == nil:
		case c.New[i].Kind == cdc.Unchanged:
			same = false
		case c.Old[i].Kind == cdc.Absent != (c.New[i].Kind == cdc.Absent):
			l.failf(at, "the column %q of the replica identity is in one of the rows only; write it in both", column.Name)
		case c.Old[i].Kind != c.New[i].Kind || !bytes.Equal(c.Old[i].Data, c.New[i].Data):
			same = false
		}
	}
	if keys == 0 {
		l.failf(at, "table %s has no replica identity, so PostgreSQL would refuse this; see `walpurge check`", c.Rel)
	}
	if same {
		c.Old = nil
	}
}
