package pgoutput

import (
	"bytes"

	"github.com/walpurge/walpurge/cdc"
)

// relations are the tables that Relation messages described. Inside a block a table is
// described anew, as its transaction sees it, and nobody else before it commits. Then the
// server takes all as told, unless it has told, or will tell, of something newer: so the
// newest description wins.
type relations struct {
	// block is the transaction whose block is open, 0 outside of blocks.
	block   uint32
	session map[uint32]description
	streams map[uint32]map[uint32]description
	count   uint64
}

// description is a table as a message described it; the number tells which came later.
type description struct {
	rel    *cdc.Relation
	raw    []byte
	number uint64
}

func newRelations() relations {
	return relations{session: make(map[uint32]description), streams: make(map[uint32]map[uint32]description)}
}

func (r *relations) get(oid uint32) *cdc.Relation {
	if r.block != 0 {
		return r.streams[r.block][oid].rel
	}
	return r.session[oid].rel
}

// described takes a table that a message described, and returns it: the one known before
// where the message says the same, so that a pointer goes on to stand for a shape.
func (r *relations) described(rel *cdc.Relation, raw []byte) *cdc.Relation {
	to := r.session
	if r.block != 0 {
		if to = r.streams[r.block]; to == nil {
			to = make(map[uint32]description)
			r.streams[r.block] = to
		}
	}
	r.count++
	for _, before := range []description{to[rel.OID], r.session[rel.OID]} {
		if before.rel != nil && bytes.Equal(before.raw, raw) {
			to[rel.OID] = description{before.rel, before.raw, r.count}
			return before.rel
		}
	}
	to[rel.OID] = description{rel, bytes.Clone(raw), r.count}
	return rel
}

func (r *relations) committed(xid uint32) {
	for oid, d := range r.streams[xid] {
		if d.number > r.session[oid].number {
			r.session[oid] = d
		}
	}
	delete(r.streams, xid)
}

func (r *relations) aborted(xid uint32) { delete(r.streams, xid) }
