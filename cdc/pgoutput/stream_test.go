package pgoutput

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// described is a Relation message of a table with so many columns, inside a block if xid
// is not 0.
func described(xid uint32, columns ...string) []byte {
	b := msg('R')
	if xid != 0 {
		b = msg('R', xid)
	}
	b = append(b, msg(0, uint32(7), "public", "t", byte('d'), uint16(len(columns)))[1:]...)
	for _, c := range columns {
		b = append(b, msg(0, byte(1), c, uint32(25), uint32(0))[1:]...)
	}
	return b
}

func inserted(xid uint32, values ...string) []byte {
	b := msg('I')
	if xid != 0 {
		b = msg('I', xid)
	}
	b = append(b, msg(0, uint32(7), byte('N'), uint16(len(values)))[1:]...)
	for _, v := range values {
		b = append(b, text(v)...)
	}
	return b
}

func decodeAll(t *testing.T, d *Decoder, messages ...[]byte) {
	t.Helper()
	for _, m := range messages {
		_, err := d.Decode(m)
		require.NoError(t, err)
	}
}

func streamCommit(xid uint32) []byte {
	return msg('c', xid, byte(0), uint64(100), uint64(108), uint64(0))
}

func TestDecodeBlock(t *testing.T) {
	d := NewDecoder()
	typ, err := d.Decode(msg('S', uint32(700), byte(1)))
	require.NoError(t, err)
	require.Equal(t, StreamStartType, typ)
	require.Equal(t, StreamStart{XID: 700, First: true}, d.StreamStart)

	decodeAll(t, d, described(701, "a", "b"), inserted(701, "x", ""))
	require.Equal(t, uint32(701), d.XID)
	require.Equal(t, cdc.Insert, d.Change.Op)
	require.Equal(t, "x", string(d.Change.New[0].Data))

	decodeAll(t, d, msg('D', uint32(702), uint32(7), byte('K'), uint16(2), text("x"), byte('n')))
	require.Equal(t, uint32(702), d.XID)
	require.Equal(t, cdc.Delete, d.Change.Op)

	decodeAll(t, d, msg('T', uint32(700), uint32(1), byte(0), uint32(7)))
	require.Equal(t, uint32(700), d.XID)
	require.Len(t, d.Truncate.Relations, 1)

	decodeAll(t, d, msg('M', uint32(703), byte(1), uint64(90), "p", uint32(2), []byte("hi")))
	require.Equal(t, uint32(703), d.XID)
	require.Equal(t, "hi", string(d.Logical.Content))

	decodeAll(t, d, msg('Y', uint32(700), uint32(9), "public", "color"), msg('E'))
	require.Equal(t, DataType{OID: 9, Schema: "public", Name: "color"}, d.DataType)

	decodeAll(t, d, msg('A', uint32(700), uint32(702)))
	require.Equal(t, StreamAbort{XID: 700, Sub: 702}, d.StreamAbort)

	decodeAll(t, d, streamCommit(700))
	require.Equal(t, uint32(700), d.Commit.XID)
	require.Equal(t, cdc.LSN(108), d.Commit.End)
}

// TestShapesOfBlocks: a table's shape inside a block is that of its transaction; whoever
// comes after the commit goes on with what was described last.
func TestShapesOfBlocks(t *testing.T) {
	start, stop := func(xid uint32) []byte { return msg('S', xid, byte(0)) }, msg('E')
	t.Run("its own until it commits", func(t *testing.T) {
		d := NewDecoder()
		decodeAll(t, d, described(0, "a"), start(5), described(5, "a", "b"), inserted(5, "1", "2"), stop, inserted(0, "1"))
		decodeAll(t, d, start(5), inserted(5, "1", "2"), stop, streamCommit(5), inserted(0, "1", "2"))
	})
	t.Run("forgotten with a rollback", func(t *testing.T) {
		d := NewDecoder()
		decodeAll(t, d, described(0, "a"), start(5), described(5, "a", "b"), stop, msg('A', uint32(5), uint32(5)), inserted(0, "1"))
	})
	t.Run("kept when a subtransaction rolls back", func(t *testing.T) {
		d := NewDecoder()
		decodeAll(t, d, start(5), described(5, "a", "b"), stop, msg('A', uint32(5), uint32(6)), start(5), inserted(5, "1", "2"))
	})
	t.Run("what is newer stays", func(t *testing.T) {
		d := NewDecoder()
		decodeAll(t, d, start(5), described(5, "a"), stop, described(0, "a", "b"), streamCommit(5), inserted(0, "1", "2"))
	})
	t.Run("nobody else's", func(t *testing.T) {
		d := NewDecoder()
		decodeAll(t, d, start(5), described(5, "a"), stop, start(6))
		_, err := d.Decode(inserted(6, "1"))
		require.ErrorContains(t, err, "relation 7, which no Relation message described")
	})
	t.Run("one pointer for one shape", func(t *testing.T) {
		d := NewDecoder()
		decodeAll(t, d, described(0, "a"))
		first := d.Relation
		decodeAll(t, d, start(5), described(5, "a"))
		require.Same(t, first, d.Relation)
		decodeAll(t, d, described(5, "a", "b"), described(5, "a"))
		require.Same(t, first, d.Relation, "as it was again")
	})
}

func TestBlocksDoNotNest(t *testing.T) {
	for name, c := range map[string]struct {
		open bool
		m    []byte
		want string
	}{
		"begin inside":  {true, msg('B', uint64(1), uint64(1), uint32(9)), "inside a block of transaction 5"},
		"block inside":  {true, msg('S', uint32(6), byte(1)), "inside a block of transaction 5"},
		"commit inside": {true, streamCommit(5), "inside a block of transaction 5"},
		"abort inside":  {true, msg('A', uint32(5), uint32(5)), "inside a block of transaction 5"},
		"stop outside":  {false, msg('E'), "no block is open"},
		"no number":     {false, msg('S', uint32(0), byte(1)), "a block of transaction 0"},
		"cut":           {false, msg('c', uint32(5), byte(0)), "wanted"},
		"unknown flags": {false, msg('c', uint32(5), byte(1), uint64(100), uint64(108), uint64(0)), "flags 1"},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder()
			if c.open {
				decodeAll(t, d, msg('S', uint32(5), byte(1)))
			}
			_, err := d.Decode(c.m)
			require.ErrorContains(t, err, c.want)
		})
	}
}
