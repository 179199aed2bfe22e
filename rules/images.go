package rules

import (
	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
)

// images sets p.old and p.new to what is known of the row before and after the
// change, for the columns that rules read.
func (p *Plan) images(c *cdc.Change) {
	p.old, p.new, p.viewed, p.filled = nil, nil, false, false
	p.elsewhere = c.Op == cdc.Update && c.New == nil
	switch {
	case c.Op == cdc.Insert:
		p.new = p.newRow
		for _, i := range p.used {
			p.new[i] = at(c.New, i)
		}
	case c.New == nil: // the row is deleted, or has moved to where the log has no row
		p.old = p.oldTuple
		for _, i := range p.used {
			p.old[i] = at(c.Old, i)
		}
	default:
		p.update(c)
	}
}

// update rebuilds both images. PostgreSQL leaves the old row out when the
// replica identity's columns did not change, so under DEFAULT and USING INDEX
// the old identity is then the new one, and nothing else of the old row is
// known. A TOASTed value that the statement did not touch is sent in the new
// row as "unchanged": it is what the old row has, if that was sent.
func (p *Plan) update(c *cdc.Change) {
	p.old, p.new = p.oldTuple, p.newRow
	sameIdentity := c.Old == nil && (p.rel.Identity == cdc.IdentityDefault || p.rel.Identity == cdc.IdentityIndex)
	for _, i := range p.used {
		before, after := at(c.Old, i), at(c.New, i)
		if after.Kind == cdc.Unchanged && before.Known() {
			after = before
		}
		if sameIdentity && p.rel.Columns[i].Key {
			before = after
		}
		if failpoint.On("unchanged_as_empty") && after.Kind == cdc.Unchanged {
			after = cdc.Value{Kind: cdc.Text}
		}
		p.old[i], p.new[i] = before, after
	}
	if failpoint.On("discard_old") {
		p.old = nil
	}
}

// at is a column of a tuple that may be nil or shorter than the relation.
func at(t cdc.Tuple, i int) cdc.Value {
	if i >= len(t) {
		return cdc.Value{}
	}
	return t[i]
}
