package pgoutput

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"testing/iotest"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// msg builds messages: strings are zero-terminated, the rest is big-endian.
func msg(typ byte, parts ...any) []byte {
	b := []byte{typ}
	for _, p := range parts {
		switch v := p.(type) {
		case string:
			b = append(append(b, v...), 0)
		case []byte:
			b = append(b, v...)
		case byte:
			b = append(b, v)
		case uint16:
			b = binary.BigEndian.AppendUint16(b, v)
		case uint32:
			b = binary.BigEndian.AppendUint32(b, v)
		case uint64:
			b = binary.BigEndian.AppendUint64(b, v)
		default:
			panic(p)
		}
	}
	return b
}

func text(s string) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{'t'}, uint32(len(s))), s...)
}

func products() []byte {
	return msg('R', uint32(7), "public", "products", byte('d'), uint16(3),
		byte(1), "id", uint32(20), uint32(0xffffffff),
		byte(0), "slug", uint32(25), uint32(0xffffffff),
		byte(0), "body", uint32(25), uint32(0xffffffff))
}

func TestDecodeTransaction(t *testing.T) {
	d := NewDecoder()
	at := time.Date(2026, 11, 20, 12, 0, 0, 1000, time.UTC)
	micros := uint64(at.UnixMicro() - epoch)

	typ, err := d.Decode(msg('B', uint64(0x16B3748), micros, uint32(742)))
	require.NoError(t, err)
	require.Equal(t, BeginType, typ)
	require.Equal(t, Begin{Commit: 0x16B3748, Time: at, XID: 742}, d.Begin)

	_, err = d.Decode(products())
	require.NoError(t, err)
	require.Equal(t, "public.products", d.Relation.String())
	require.True(t, d.Relation.Columns[0].Key)
	require.Equal(t, int32(-1), d.Relation.Columns[0].TypeMod)

	_, err = d.Decode(msg('I', uint32(7), byte('N'), uint16(3), text("1"), text(""), byte('n')))
	require.NoError(t, err)
	require.Equal(t, cdc.Insert, d.Change.Op)
	require.Nil(t, d.Change.Old)
	require.Equal(t, cdc.Text, d.Change.New[1].Kind, "an empty string is a value")
	require.Empty(t, d.Change.New[1].Data)
	require.Equal(t, cdc.Null, d.Change.New[2].Kind)

	_, err = d.Decode(msg('U', uint32(7), byte('K'), uint16(3), text("1"), byte('n'), byte('n'),
		byte('N'), uint16(3), text("2"), text("b"), byte('u')))
	require.NoError(t, err)
	require.Equal(t, cdc.Update, d.Change.Op)
	require.Equal(t, "1", string(d.Change.Old[0].Data))
	require.Equal(t, cdc.Absent, d.Change.Old[1].Kind, "outside the identity is unknown, not null")
	require.Equal(t, cdc.Unchanged, d.Change.New[2].Kind)

	_, err = d.Decode(msg('U', uint32(7), byte('N'), uint16(3), text("2"), text("c"), byte('u')))
	require.NoError(t, err)
	require.Nil(t, d.Change.Old)

	_, err = d.Decode(msg('D', uint32(7), byte('O'), uint16(3), text("2"), byte('n'), text("x")))
	require.NoError(t, err)
	require.Equal(t, cdc.Delete, d.Change.Op)
	require.Nil(t, d.Change.New)
	require.Equal(t, cdc.Null, d.Change.Old[1].Kind, "a full image's null is a null")

	_, err = d.Decode(msg('T', uint32(1), byte(3), uint32(7)))
	require.NoError(t, err)
	require.True(t, d.Truncate.Cascade && d.Truncate.RestartIdentity)
	require.Equal(t, "products", d.Truncate.Relations[0].Name)

	_, err = d.Decode(msg('M', byte(1), uint64(99), "cache.purge", uint32(2), []byte("{}")))
	require.NoError(t, err)
	require.Equal(t, Logical{Transactional: true, LSN: 99, Prefix: "cache.purge", Content: []byte("{}")}, d.Logical)

	_, err = d.Decode(msg('O', uint64(5), "upstream"))
	require.NoError(t, err)
	require.Equal(t, Origin{Commit: 5, Name: "upstream"}, d.Origin)

	_, err = d.Decode(msg('Y', uint32(16400), "public", "mood"))
	require.NoError(t, err)
	require.Equal(t, DataType{OID: 16400, Schema: "public", Name: "mood"}, d.DataType)

	_, err = d.Decode(msg('C', byte(0), uint64(0x16B3748), uint64(0x16B3778), micros))
	require.NoError(t, err)
	require.Equal(t, Commit{Commit: 0x16B3748, End: 0x16B3778, Time: at}, d.Commit)
}

func TestDecodeErrorsNameTheMessage(t *testing.T) {
	row := msg('I', uint32(7), byte('N'), uint16(3), text("1"), text("a"), byte('n'))
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":            {nil, "empty message"},
		"unknown type":     {[]byte{'Z', 1}, `undecodable pgoutput message unknown type 'Z' at byte 0: protocol version 2 has no such message`},
		"short begin":      {msg('B', uint32(1)), "undecodable pgoutput message Begin at byte 1: 8 bytes wanted, 4 left"},
		"left over":        {append(msg('O', uint64(1), "x"), 9), "undecodable pgoutput message Origin at byte 11: 1 bytes left over"},
		"unknown relation": {msg('I', uint32(8), byte('N'), uint16(0)), "undecodable pgoutput message Insert at byte 5: relation 8, which no Relation message described"},
		"column count":     {msg('I', uint32(7), byte('N'), uint16(1), text("1")), "undecodable pgoutput message Insert at byte 8: row of public.products has 1 columns, its Relation message has 3"},
		"column mark":      {msg('I', uint32(7), byte('N'), uint16(3), byte('b')), `undecodable pgoutput message Insert at byte 9: column "id" of public.products is marked 'b', want 'n', 'u' or 't'`},
		"cut row":          {row[:len(row)-1], "undecodable pgoutput message Insert at byte 20: 1 bytes wanted, 0 left"},
		"length overflow":  {msg('I', uint32(7), byte('N'), uint16(3), byte('t'), uint32(0xffffffff)), "undecodable pgoutput message Insert at byte 13: -1 bytes wanted, 0 left"},
		"delete mark":      {msg('D', uint32(7), byte('N'), uint16(3)), `undecodable pgoutput message Delete at byte 6: old row marked 'N', want 'K' or 'O'`},
		"many columns":     {msg('R', uint32(9), "a", "b", byte('d'), uint16(60000)), "undecodable pgoutput message Relation at byte 12: 60000 columns announced in 0 bytes"},
		"many relations":   {msg('T', uint32(1<<31), byte(0)), "undecodable pgoutput message Truncate at byte 6: 2147483648 relations announced in 0 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder()
			_, err := d.Decode(products())
			require.NoError(t, err)
			_, err = d.Decode(tc.data)
			require.ErrorContains(t, err, tc.want)
		})
	}
}

func TestDecodeAllocatesNothingPerRow(t *testing.T) {
	d := NewDecoder()
	_, err := d.Decode(products())
	require.NoError(t, err)
	row := msg('U', uint32(7), byte('N'), uint16(3), text("1"), text("a"), byte('n'))
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = d.Decode(row) }))
}

// FuzzDecode proves that no input panics, and that what we accept as a row is
// what the reference parser reads. The reference parser checks no bounds, so it
// only sees inputs that we accepted.
func FuzzDecode(f *testing.F) {
	f.Add(products())
	f.Add(msg('B', uint64(1), uint64(2), uint32(3)))
	f.Add(msg('I', uint32(7), byte('N'), uint16(3), text("1"), text("a"), byte('n')))
	f.Add(msg('U', uint32(7), byte('K'), uint16(3), text("1"), byte('n'), byte('n'), byte('N'), uint16(3), text("2"), byte('u'), byte('n')))
	f.Add(msg('D', uint32(7), byte('O'), uint16(3), text("1"), text("a"), byte('n')))
	f.Add(msg('T', uint32(1), byte(1), uint32(7)))
	f.Add(msg('M', byte(0), uint64(1), "p", uint32(1), []byte("x")))
	f.Add(append(products(), 0))
	f.Add(msg('U', uint32(7), byte('O'), uint16(3), text("1"), text("b"), text("c"), byte('N'), uint16(3), text("2"), byte('u'), byte('n'), byte(9)))
	f.Add(msg('M', byte(1), uint64(1), "other", uint32(2), []byte("xy")))
	f.Fuzz(func(t *testing.T, data []byte) {
		d := NewDecoder()
		if _, err := d.Decode(products()); err != nil {
			t.Fatal(err)
		}
		typ, err := d.Decode(data)
		thinned(t, d, data, err)
		if err != nil || typ != InsertType {
			return
		}
		ref, err := pglogrepl.Parse(data)
		require.NoError(t, err)
		cols := ref.(*pglogrepl.InsertMessage).Tuple.Columns
		require.Len(t, d.Change.New, len(cols))
		for i, v := range d.Change.New {
			require.Equal(t, map[uint8]cdc.ValueKind{'n': cdc.Null, 'u': cdc.Unchanged, 't': cdc.Text}[cols[i].DataType], v.Kind)
			require.Equal(t, string(cols[i].Data), string(v.Data))
		}
	})
}

// thinned requires that a message is decoded alike when it goes through Thin: the same values
// are there, less those that are not read. want has decoded it directly, with the error.
func thinned(t *testing.T, want *Decoder, data []byte, failed error) {
	t.Helper()
	for mask := range 8 {
		d := NewDecoder()
		_, err := d.Decode(products())
		require.NoError(t, err)
		reads := []bool{mask&1 != 0, mask&2 != 0, mask&4 != 0}
		r := bufio.NewReaderSize(iotest.HalfReader(bytes.NewReader(data)), ThinBuffer)
		thin, err := d.Thin(r, len(data), Interest{
			Columns: func(*cdc.Relation) []bool { return reads },
			Content: func(prefix string) int {
				if prefix == "p" {
					return 1 << 30
				}
				return 0
			},
		})
		require.NoError(t, err)
		require.Zero(t, r.Buffered(), "the message is read in full")
		typ, err := d.Decode(thin)
		if failed != nil {
			require.Error(t, err)
			continue
		}
		require.NoError(t, err)
		require.Equal(t, Type(data[0]), typ)
		switch typ {
		case InsertType, UpdateType, DeleteType:
			want, got := want.Change, d.Change
			require.Equal(t, want.Op, got.Op)
			require.Equal(t, without(want.Old, reads), without(got.Old, nil))
			require.Equal(t, without(want.New, reads), without(got.New, nil))
		case LogicalType:
			logical := want.Logical
			if !logical.Transactional || logical.Prefix != "p" {
				logical.Content = nil
			}
			require.Equal(t, logical.Prefix, d.Logical.Prefix)
			require.Equal(t, string(logical.Content), string(d.Logical.Content))
			require.Equal(t, logical.LSN, d.Logical.LSN)
		default:
			require.Equal(t, data, thin)
		}
	}
}

// without prints a row, as if columns that are not read had not been sent.
func without(row cdc.Tuple, reads []bool) (out []string) {
	for i, v := range row {
		if reads != nil && !reads[i] && v.Kind == cdc.Text {
			v = cdc.Value{Kind: cdc.Unchanged}
		}
		out = append(out, fmt.Sprintf("%d %q", v.Kind, v.Data))
	}
	return out
}

func BenchmarkDecodeUpdate(b *testing.B) {
	d := NewDecoder()
	_, err := d.Decode(products())
	require.NoError(b, err)
	row := msg('U', uint32(7), byte('N'), uint16(3), text("123456"), text("a-slug-of-some-length"), byte('n'))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = d.Decode(row)
	}
}
