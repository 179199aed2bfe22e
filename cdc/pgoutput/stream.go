package pgoutput

// carriesXID reports that a message of the type names its transaction where it stands in a
// block: every message that could belong to a subtransaction.
func (t Type) carriesXID() bool {
	switch t {
	case RelationType, TypeType, InsertType, UpdateType, DeleteType, TruncateType, LogicalType:
		return true
	}
	return false
}

// nested reports a message that cannot stand where it does: blocks and whole transactions
// come one after another.
func (d *Decoder) nested(c *cursor) bool {
	open := d.relations.block
	switch c.typ {
	case BeginType, CommitType, StreamStartType, StreamCommitType, StreamAbortType:
		if open != 0 {
			c.fail("inside a block of transaction %d", open)
		}
	case StreamStopType:
		if open == 0 {
			c.fail("no block is open")
		}
	}
	return c.err != nil
}

// stream reads the messages that frame blocks, and what ends their transactions.
func (d *Decoder) stream(c *cursor) {
	switch c.typ {
	case StreamStartType:
		d.StreamStart = StreamStart{XID: c.u32(), First: c.u8() == 1}
		if d.StreamStart.XID == 0 {
			c.fail("a block of transaction 0")
		}
		if c.err == nil {
			d.relations.block = d.StreamStart.XID
		}
	case StreamStopType:
		d.relations.block, d.XID = 0, 0
	case StreamCommitType:
		d.commit(c, c.u32())
		if c.err == nil {
			d.relations.committed(d.Commit.XID)
		}
	case StreamAbortType:
		d.StreamAbort = StreamAbort{XID: c.u32(), Sub: c.u32()}
		if c.err == nil && d.StreamAbort.Sub == d.StreamAbort.XID {
			d.relations.aborted(d.StreamAbort.XID)
		}
	}
}
