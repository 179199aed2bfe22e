package pgoutput

import (
	"bytes"

	"github.com/walpurge/walpurge/cdc"
)

// relations are the tables that Relation messages described. Inside a block the server describes
// a table again, as the block's transaction sees it; other transactions see that only once it
// commits. Then the server takes all that it described in the transaction as described in the
// session, unless the session has a newer description: so the newest description wins.
type relations struct {
	// block is the transaction whose block is open, 0 outside of blocks.
	block   uint32
	session map[uint32]description
	streams map[uint32]map[uint32]description
	count   uint64
	// fresh are the tables that were described since the last message of another kind, in order.
	fresh []uint32
}

// description is a table as a message described it; the number tells which came later.
type description struct {
	rel    *cdc.Relation
	raw    []byte
	number uint64
	// tree is nil for a table whose rows lie in itself.
	tree *tree
}

func newRelations() relations {
	return relations{session: make(map[uint32]description), streams: make(map[uint32]map[uint32]description)}
}

// open are the descriptions that hold for the next message.
func (r *relations) open() map[uint32]description {
	if r.block != 0 {
		return r.streams[r.block]
	}
	return r.session
}

// get returns a table as its rows are to be read, nil if no message described it, and what is
// known of its partitions, nil without any.
func (r *relations) get(oid uint32) (*cdc.Relation, *tree) {
	d := r.open()[oid]
	if d.tree == nil {
		return d.rel, nil
	}
	return d.tree.shape(d.rel), d.tree
}

// described takes a table that a message described, and returns it: the one known before
// where the message says the same, so that a pointer continues to identify a shape.
func (r *relations) described(rel *cdc.Relation, raw []byte) *cdc.Relation {
	to := r.session
	if r.block != 0 {
		if to = r.streams[r.block]; to == nil {
			to = make(map[uint32]description)
			r.streams[r.block] = to
		}
	}
	r.count++
	r.fresh = append(r.fresh, rel.OID)
	d := description{rel, nil, r.count, to[rel.OID].tree}
	for _, before := range []description{to[rel.OID], r.session[rel.OID]} {
		if before.rel != nil && bytes.Equal(before.raw, raw) {
			d.rel, d.raw = before.rel, before.raw
			to[rel.OID] = d
			return d.rel
		}
	}
	d.raw = bytes.Clone(raw)
	to[rel.OID] = d
	return rel
}

// rowOf notes that a row of a table follows. The server describes a partition just before its
// first row, and its root just before the partition: src/backend/replication/pgoutput/pgoutput.c,
// maybe_send_schema, alike since PostgreSQL 13. The row then comes under the root's OID.
func (r *relations) rowOf(root uint32) {
	open := r.open()
	for i := 1; i < len(r.fresh); i++ {
		leaf := r.fresh[i]
		if r.fresh[i-1] != root || leaf == root {
			continue
		}
		d := open[root]
		if d.tree == nil {
			d.tree = newTree(r.session[root].tree)
			open[root] = d
		}
		d.tree.add(leaf, identityOf(open[leaf].rel), open[leaf].number)
	}
	r.fresh = r.fresh[:0]
}

func (r *relations) committed(xid uint32) {
	for oid, d := range r.streams[xid] {
		before := r.session[oid]
		tree := before.tree
		switch {
		case tree == nil:
			tree = d.tree
		case d.tree != nil:
			tree.merge(d.tree)
		}
		if d.number < before.number {
			d = before
		}
		d.tree = tree
		r.session[oid] = d
	}
	delete(r.streams, xid)
}

func (r *relations) aborted(xid uint32) { delete(r.streams, xid) }
