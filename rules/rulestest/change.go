package rulestest

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func parseChange(l *loader, data []byte) (*Event, error) {
	doc, err := strictyaml.Parse(l.file, data)
	if err != nil {
		return nil, err
	}
	var raw rawChange
	if err := doc.Decode(&raw); err != nil {
		return nil, err
	}
	at := strictyaml.Pos{Line: 1, Column: 1}
	if doc.Root() != nil {
		at = doc.Root().Pos
	}
	e := l.event(&raw, at)
	return e, l.errs.Err()
}

// change builds what the stream would carry; at is the place of the whole.
func (l *loader) change(raw *rawChange, at strictyaml.Pos) *cdc.Change {
	c := &cdc.Change{}
	var before, after row
	given := 0
	if raw.Insert != nil {
		c.Op, after = cdc.Insert, raw.Insert
		given++
	}
	if raw.Update != nil {
		c.Op, before, after = cdc.Update, raw.Update.Old, raw.Update.New
		given++
	}
	if raw.Delete != nil {
		c.Op, before = cdc.Delete, raw.Delete
		given++
	}
	if raw.Truncate.Value {
		c.Op = cdc.Truncate
		given++
	}
	switch {
	case given != 1:
		l.failf(at, "want exactly one of `insert`, `update`, `delete`, `truncate: true` and `message`, here are %d", given)
	case c.Op == cdc.Update && (before == nil || after == nil):
		l.failf(at, "an update has both rows; write `update: {old: {..}, new: {..}}`, and `identity` if not all of the old row is sent")
	}
	table := l.table(raw.Table, at)
	if shape := l.shape(table, raw.Table.Pos()); shape != nil {
		l.typedChange(c, shape, before, after, raw.Identity, at)
		return c
	}
	c.Rel = l.relation(table, before, after)
	c.Old, c.New = l.tuple(c.Rel, before), l.tuple(c.Rel, after)
	l.identify(c, raw.Identity)
	return c
}

func (l *loader) table(t strictyaml.Text, at strictyaml.Pos) cdc.Table {
	schema, name, _ := strings.Cut(t.Value, ".")
	switch {
	case !t.Given():
		l.failf(at, "`table` is missing; write it with its schema, like public.products")
	case schema == "" || name == "" || strings.Contains(name, "."):
		l.failf(t.Pos(), "table %s: want schema.name with one dot, like public.products", t)
		return cdc.Table{}
	}
	return cdc.Table{Schema: schema, Name: name}
}

// relation guesses the table's shape: the columns of all rows, in their order.
func (l *loader) relation(t cdc.Table, rows ...row) *cdc.Relation {
	rel := &cdc.Relation{Schema: t.Schema, Name: t.Name, Identity: cdc.IdentityFull}
	for _, r := range rows {
		for _, e := range r {
			// What is wrong with the value is told when the tuple is made.
			oid := (&loader{file: l.file}).datum(e.Value).oid
			i := rel.Index(e.Key)
			if i < 0 {
				rel.Columns = append(rel.Columns, cdc.Column{Name: e.Key, TypeOID: oid, TypeMod: -1, Key: true})
				continue
			}
			both, ok := common(rel.Columns[i].TypeOID, oid)
			if !ok {
				l.failf(e.Pos, "column %q is %s in the old row and %s in the new one; write both alike", e.Key, typeName(rel.Columns[i].TypeOID), typeName(oid))
			}
			rel.Columns[i].TypeOID = both
		}
	}
	for i := range rel.Columns {
		switch rel.Columns[i].TypeOID {
		case oidAnyArray:
			rel.Columns[i].TypeOID = cdc.BuiltinArray(oidText)
		case 0:
			rel.Columns[i].TypeOID = oidText
		}
	}
	return rel
}

// common is the type of a column with values of two.
func common(a, b uint32) (oid uint32, ok bool) {
	if isArray(a) && isArray(b) {
		elem, ok := common(elementOf(a), elementOf(b))
		return arrayOf(elem), ok
	}
	number := func(oid uint32) bool { return oid == oidInt8 || oid == oidNumeric || oid == oidFloat8 }
	switch {
	case a == b || b == 0:
		return a, true
	case a == 0:
		return b, true
	case isArray(a) && b == oidText || a == oidJSONB && isArray(b):
		return a, true // an array as PostgreSQL prints it; a list in JSON
	case a == oidText && isArray(b) || isArray(a) && b == oidJSONB:
		return b, true
	case number(a) && number(b) && (a == oidFloat8 || b == oidFloat8):
		return oidFloat8, true
	case number(a) && number(b):
		return oidNumeric, true
	}
	return a, false
}

// tuple is a row in the order of the relation; what it leaves out is absent.
func (l *loader) tuple(rel *cdc.Relation, r row) cdc.Tuple {
	if r == nil {
		return nil
	}
	out := make(cdc.Tuple, len(rel.Columns))
	for _, e := range r {
		i := rel.Index(e.Key)
		if e.Value.Kind == strictyaml.Sequence && rel.Columns[i].TypeOID == oidJSONB {
			var b bytes.Buffer
			l.json(&b, e.Value)
			out[i] = cdc.Value{Kind: cdc.Text, Data: b.Bytes()}
			continue
		}
		out[i] = l.datum(e.Value).value
	}
	return out
}

// identify leaves of the old row what the replica identity holds, as PostgreSQL
// does: nothing at all for an update that leaves the identity as it was.
func (l *loader) identify(c *cdc.Change, n *strictyaml.Node) {
	switch {
	case n == nil || n.Kind == strictyaml.Scalar && n.Text == "full":
		return
	case n.Kind == strictyaml.Scalar && n.Text == "default":
		l.errs = append(l.errs, n.Errorf("identity: default is the primary key, which only a catalog knows; write one with `walpurge rules lock` and name it under `catalog`, or list the columns, like identity: [id]"))
		return
	case n.Kind == strictyaml.Sequence && len(n.Items) == 0:
		l.errs = append(l.errs, n.Errorf("identity: an empty list; name the columns of the primary key or index, like [id]"))
		return
	case n.Kind != strictyaml.Sequence:
		l.errs = append(l.errs, n.Errorf("identity: %s; write full, or the columns of the primary key or index, like [id]", n))
		return
	}
	c.Rel.Identity = cdc.IdentityIndex
	for i := range c.Rel.Columns {
		c.Rel.Columns[i].Key = false
	}
	for _, item := range n.Items {
		name := l.text(item)
		i := c.Rel.Index(name)
		if i < 0 {
			if c.Op != cdc.Truncate {
				l.failf(item.Pos, "identity: no row of the change has the column %q; add it there", name)
			}
			continue
		}
		if c.Old != nil && c.Old[i].Kind == cdc.Absent {
			l.failf(item.Pos, "identity: the old row lacks the column %q, which PostgreSQL always knows; add it there", name)
		}
		c.Rel.Columns[i].Key = true
	}
	if c.Old == nil {
		return
	}
	same := c.Op == cdc.Update && c.New != nil
	for i, column := range c.Rel.Columns {
		if !column.Key {
			c.Old[i] = cdc.Value{}
			continue
		}
		same = same && c.Old[i].Kind == c.New[i].Kind && bytes.Equal(c.Old[i].Data, c.New[i].Data)
	}
	if same {
		c.Old = nil
	}
}

// counted is the change with n added to its id.
func counted(c *cdc.Change, id, n int) *cdc.Change {
	add := func(t cdc.Tuple) cdc.Tuple {
		if t == nil || t[id].Kind != cdc.Text {
			return t
		}
		out := append(cdc.Tuple(nil), t...)
		// The column is int8 by its relation, so its text is a number.
		first, _ := strconv.ParseInt(string(t[id].Data), 10, 64)
		out[id].Data = strconv.AppendInt(nil, first+int64(n), 10)
		return out
	}
	return &cdc.Change{Op: c.Op, Rel: c.Rel, Old: add(c.Old), New: add(c.New)}
}
