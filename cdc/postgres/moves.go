package postgres

import "github.com/walpurge/walpurge/cdc"

// maxMovedValue bounds a value that is kept of a deleted row; a larger one counts as not carried.
const maxMovedValue = 64 << 10

// moves finds UPDATEs that move a row to another partition: PostgreSQL deletes the row in one
// partition and inserts it into the other, and sends that. Only what triggers do before the
// insertion comes between the two. A DELETE that is followed by an INSERT in its transaction
// therefore counts as such an UPDATE. If it was none, rules purge too much.
//
// There is one for each transaction. It keeps one row of each table.
type moves struct {
	deleted map[uint32]*deletedRow // by the root's OID
	moved   cdc.Change             // what update returns
}

// deletedRow is a copy of an old row; its memory is used again.
type deletedRow struct {
	open bool
	old  cdc.Tuple
	data []byte
}

// reset forgets the rows, at the end of a transaction.
func (m *moves) reset() {
	for _, d := range m.deleted {
		d.open = false
	}
}

// update takes a change of a partitioned table. For an INSERT that may complete a move it returns
// the UPDATE, which is valid as long as the change is; nil for any other change.
func (m *moves) update(c *cdc.Change) *cdc.Change {
	d := m.deleted[c.Rel.OID]
	switch c.Op {
	case cdc.Delete:
		if d == nil {
			if m.deleted == nil {
				m.deleted = make(map[uint32]*deletedRow)
			}
			d = &deletedRow{}
			m.deleted[c.Rel.OID] = d
		}
		d.take(c.Old)
	case cdc.Insert:
		if d == nil || !d.open {
			return nil
		}
		d.open = false
		if len(d.old) != len(c.New) {
			return nil // ALTER TABLE has come in between, so it was no UPDATE
		}
		m.moved = cdc.Change{Op: cdc.Update, Rel: c.Rel, Old: d.old, New: c.New}
		return &m.moved
	}
	return nil
}

func (d *deletedRow) take(row cdc.Tuple) {
	d.open, d.old, d.data = true, append(d.old[:0], row...), d.data[:0]
	size := 0
	for i := range d.old {
		if len(d.old[i].Data) > maxMovedValue {
			d.old[i] = cdc.Value{}
		}
		size += len(d.old[i].Data)
	}
	if cap(d.data) < size {
		d.data = make([]byte, 0, size)
	}
	for i := range d.old {
		if v := &d.old[i]; v.Kind == cdc.Text {
			from := len(d.data)
			d.data = append(d.data, v.Data...)
			v.Data = d.data[from:len(d.data):len(d.data)]
		}
	}
}
