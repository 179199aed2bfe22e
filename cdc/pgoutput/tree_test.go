package pgoutput

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// block makes messages of a transaction, in a block if xid is not 0.
type block uint32

func (b block) head(typ byte) []byte {
	if b != 0 {
		return msg(typ, uint32(b))
	}
	return msg(typ)
}

// relation describes a table with the columns id and note; note is a key under FULL.
func (b block) relation(oid uint32, identity byte) []byte {
	full := byte(0)
	if identity == 'f' {
		full = 1
	}
	return append(b.head('R'), msg(0, oid, "public", "t", identity, uint16(2), byte(1), "id", uint32(23), uint32(0), full, "note", uint32(25), uint32(0))[1:]...)
}

// deleted is a DELETE whose old row has no note.
func (b block) deleted(oid uint32, mark byte) []byte {
	return append(append(append(b.head('D'), msg(0, oid, mark, uint16(2))[1:]...), text("7")...), 'n')
}

// note deletes a row of table 1, which is marked as whole, and returns the kind of its note.
func (b block) note(t *testing.T, d *Decoder) cdc.ValueKind {
	t.Helper()
	decodeAll(t, d, b.deleted(1, 'O'))
	require.Equal(t, "7", string(d.Change.Old[0].Data))
	return d.Change.Old[1].Kind
}

func TestPartitionsDecideWhatOldRowsCarry(t *testing.T) {
	d, s := NewDecoder(), block(0)
	decodeAll(t, d, s.relation(1, 'f'), s.relation(11, 'f'))
	require.Equal(t, cdc.Null, s.note(t, d))
	whole := d.Change.Rel
	require.Equal(t, cdc.IdentityFull, whole.Identity)
	require.True(t, whole.Partitioned)

	// A user's type may be described between the two.
	decodeAll(t, d, s.relation(1, 'f'), msg('Y', uint32(16400), "public", "mood"), s.relation(12, 'd'))
	require.Equal(t, cdc.Absent, s.note(t, d))
	require.Equal(t, cdc.IdentityDefault, d.Change.Rel.Identity)
	require.True(t, d.Change.Rel.Columns[0].Key)
	require.False(t, d.Change.Rel.Columns[1].Key)

	// Another partition like the first changes nothing, and no new shape is made.
	mixed := d.Change.Rel
	decodeAll(t, d, s.relation(1, 'f'), s.relation(13, 'f'))
	require.Equal(t, cdc.Absent, s.note(t, d))
	require.Same(t, mixed, d.Change.Rel)

	decodeAll(t, d, s.relation(1, 'f'), s.relation(12, 'f'))
	require.Equal(t, cdc.Null, s.note(t, d), "it was repaired")
}

// Tables that one TRUNCATE names are described one after another, too.
func TestTruncatedTablesAreNoPartitions(t *testing.T) {
	d, s := NewDecoder(), block(0)
	decodeAll(t, d, s.relation(1, 'f'), s.relation(2, 'd'), msg('T', uint32(2), byte(0), uint32(1), uint32(2)))
	require.Equal(t, cdc.Null, s.note(t, d))
	require.False(t, d.Change.Rel.Partitioned)
}

// What a transaction has seen of partitions holds for others once it commits.
func TestPartitionsInBlocks(t *testing.T) {
	open := func(xid block) []byte { return msg('S', uint32(xid), byte(1)) }
	d, s, a, b := NewDecoder(), block(0), block(700), block(800)
	decodeAll(t, d, s.relation(1, 'f'), s.relation(11, 'f'))
	require.Equal(t, cdc.Null, s.note(t, d))
	whole := d.Change.Rel

	decodeAll(t, d, open(a), a.relation(1, 'f'), a.relation(11, 'f'))
	require.Equal(t, cdc.Null, a.note(t, d))
	require.Same(t, whole, d.Change.Rel)
	decodeAll(t, d, a.relation(1, 'f'), a.relation(12, 'd'))
	require.Equal(t, cdc.Absent, a.note(t, d))
	decodeAll(t, d, msg('E'), open(b), b.relation(1, 'f'), b.relation(13, 'd'))
	require.Equal(t, cdc.Absent, b.note(t, d))
	decodeAll(t, d, msg('E'))
	require.Equal(t, cdc.Null, s.note(t, d))

	decodeAll(t, d, msg('A', uint32(b), uint32(b)))
	require.Equal(t, cdc.Null, s.note(t, d))
	decodeAll(t, d, streamCommit(uint32(a)))
	require.Equal(t, cdc.Absent, s.note(t, d))
}
