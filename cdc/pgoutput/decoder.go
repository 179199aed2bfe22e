package pgoutput

import (
	"github.com/walpurge/walpurge/cdc"
)

// Decoder decodes the messages of one replication session in order. It
// remembers the tables that Relation messages described, so a new session
// needs a new Decoder. It is used by one goroutine.
//
// Decode fills the field that belongs to the message's type; the others keep
// what they held.
type Decoder struct {
	Begin    Begin
	Commit   Commit
	Origin   Origin
	DataType DataType
	// Change is filled by Insert, Update and Delete.
	Change   cdc.Change
	Truncate Truncate
	Logical  Logical
	// Relation is the newest table described.
	Relation *cdc.Relation
	// StreamStart and StreamAbort are filled by the messages of the same names, Commit by
	// Stream Commit, too.
	StreamStart StreamStart
	StreamAbort StreamAbort
	// XID is the subtransaction, or the transaction, that a message inside a block
	// belongs to.
	XID uint32

	relations relations
	old, new  cdc.Tuple
}

// NewDecoder returns the decoder of a new session.
func NewDecoder() *Decoder {
	return &Decoder{relations: newRelations()}
}

// Decode reads one message and returns its type. A *FormatError names a message
// that cannot be understood.
func (d *Decoder) Decode(data []byte) (Type, error) {
	if len(data) == 0 {
		return 0, &FormatError{Reason: "empty message"}
	}
	c := cursor{typ: Type(data[0]), data: data, off: 1}
	if d.nested(&c) {
		return c.typ, c.err
	}
	if d.relations.block != 0 && c.typ.carriesXID() {
		d.XID = c.u32()
	}
	switch c.typ {
	case InsertType, UpdateType, DeleteType, RelationType, TypeType:
	default:
		d.relations.fresh = d.relations.fresh[:0]
	}
	switch c.typ {
	case InsertType, UpdateType, DeleteType:
		d.change(&c)
	case RelationType:
		d.relation(&c)
	case TypeType:
		d.DataType = DataType{OID: c.u32(), Schema: c.text(), Name: c.text()}
	case BeginType:
		d.Begin = Begin{Commit: c.lsn(), Time: c.time(), XID: c.u32()}
	case CommitType:
		d.commit(&c, 0)
	case TruncateType:
		d.truncate(&c)
	case LogicalType:
		d.Logical = Logical{Transactional: c.u8()&1 != 0, LSN: c.lsn(), Prefix: c.text()}
		d.Logical.Content = c.take(int(int32(c.u32())))
	case OriginType:
		d.Origin = Origin{Commit: c.lsn(), Name: c.text()}
	case StreamStartType, StreamStopType, StreamCommitType, StreamAbortType:
		d.stream(&c)
	default:
		c.off = 0
		c.fail("protocol version 2 has no such message")
	}
	return c.typ, c.done()
}

// Release drops what the decoder holds of the last message, so that a large one can be freed.
func (d *Decoder) Release() {
	d.Change, d.Logical = cdc.Change{}, Logical{}
	clear(d.old[:cap(d.old)])
	clear(d.new[:cap(d.new)])
}

func (d *Decoder) commit(c *cursor, xid uint32) {
	if flags := c.u8(); flags != 0 {
		c.fail("flags %d, but none is defined", flags)
	}
	d.Commit = Commit{XID: xid, Commit: c.lsn(), End: c.lsn(), Time: c.time()}
}

func (d *Decoder) relation(c *cursor) {
	described := c.data[c.off:]
	rel := &cdc.Relation{OID: c.u32(), Schema: c.text(), Name: c.text(), Identity: cdc.Identity(c.u8())}
	if rel.Schema == "" {
		// The protocol writes pg_catalog as an empty string.
		rel.Schema = "pg_catalog"
	}
	n := c.u16()
	// A column takes at least ten bytes, so n cannot ask for more memory than
	// the message could fill.
	if c.err == nil && n > (len(c.data)-c.off)/10 {
		c.fail("%d columns announced in %d bytes", n, len(c.data)-c.off)
		return
	}
	rel.Columns = make([]cdc.Column, n)
	for i := range rel.Columns {
		flags := c.u8()
		rel.Columns[i] = cdc.Column{
			Key: flags&1 != 0, Name: c.text(), TypeOID: c.u32(), TypeMod: int32(c.u32()),
		}
	}
	if c.err != nil {
		return
	}
	d.Relation = d.relations.described(rel, described)
}

func (d *Decoder) known(c *cursor, oid uint32) (*cdc.Relation, *tree) {
	rel, tree := d.relations.get(oid)
	if rel == nil && c.err == nil {
		c.stale("relation %d, which no Relation message described", oid)
	}
	return rel, tree
}

func (d *Decoder) change(c *cursor) {
	oid := c.u32()
	if len(d.relations.fresh) > 0 {
		d.relations.rowOf(oid)
	}
	rel, tree := d.known(c, oid)
	if rel == nil {
		return
	}
	ch := cdc.Change{Rel: rel}
	kind := c.u8()
	if c.typ != InsertType && (kind == 'K' || kind == 'O') {
		d.old = d.tuple(c, d.old, rel)
		notCarried(d.old, rel, tree, kind == 'K')
		ch.Old = d.old
		if c.typ == UpdateType {
			kind = c.u8()
		}
	} else if c.typ == DeleteType && c.err == nil {
		c.fail("old row marked %q, want 'K' or 'O'", kind)
	}
	switch c.typ {
	case InsertType:
		ch.Op = cdc.Insert
	case UpdateType:
		ch.Op = cdc.Update
	case DeleteType:
		ch.Op = cdc.Delete
	}
	if c.typ != DeleteType {
		if kind != 'N' && c.err == nil {
			c.fail("new row marked %q, want 'N'", kind)
		}
		d.new = d.tuple(c, d.new, rel)
		ch.New = d.new
	}
	d.Change = ch
}

// tuple reads one row image.
func (d *Decoder) tuple(c *cursor, into cdc.Tuple, rel *cdc.Relation) cdc.Tuple {
	n := c.u16()
	if n != len(rel.Columns) && c.err == nil {
		c.stale("row of %s has %d columns, its Relation message has %d", rel, n, len(rel.Columns))
	}
	if c.err != nil {
		return nil
	}
	if cap(into) < n {
		into = make(cdc.Tuple, n)
	}
	into = into[:n]
	for i := range into {
		v := cdc.Value{}
		switch kind := c.u8(); kind {
		case 'n':
			v.Kind = cdc.Null
		case 'u':
			v.Kind = cdc.Unchanged
		case 't':
			v.Kind = cdc.Text
			v.Data = c.take(int(int32(c.u32())))
		default:
			c.fail("column %q of %s is marked %q, want 'n', 'u' or 't'", rel.Columns[i].Name, rel, kind)
		}
		if c.err != nil {
			return nil
		}
		into[i] = v
	}
	return into
}

// notCarried corrects an old row. PostgreSQL writes a null for every column outside the replica
// identity: those are not nulls but unknown. key reports that the message marks the row as one of
// the identity's columns only.
func notCarried(old cdc.Tuple, rel *cdc.Relation, tree *tree, key bool) {
	for i := range old {
		switch {
		case tree == nil && key && !rel.Columns[i].Key,
			tree != nil && !tree.whole && old[i].Kind == cdc.Null:
			old[i] = cdc.Value{}
		}
	}
}

func (d *Decoder) truncate(c *cursor) {
	n := int(c.u32())
	flags := c.u8()
	if c.err == nil && n > (len(c.data)-c.off)/4 {
		c.fail("%d relations announced in %d bytes", n, len(c.data)-c.off)
		return
	}
	t := Truncate{Cascade: flags&1 != 0, RestartIdentity: flags&2 != 0}
	for range n {
		rel, _ := d.known(c, c.u32())
		if c.err != nil {
			return
		}
		t.Relations = append(t.Relations, rel)
	}
	d.Truncate = t
}
