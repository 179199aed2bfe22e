package pgoutput

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// large is a text of n bytes as a column, of which most is made up while it is read.
func large(n int) io.Reader {
	return io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32([]byte{'t'}, uint32(n))), io.LimitReader(zeros{}, int64(n)))
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}

func readsFirst(*cdc.Relation) []bool { return []bool{true} }

// TestThinHoldsOnlyWhatIsRead: a message of 300 MiB needs no more memory than one of a few bytes,
// in both images, inside and outside of a block, and as the content of a message.
func TestThinHoldsOnlyWhatIsRead(t *testing.T) {
	const size = 100 << 20
	bytesOf := func(b []byte) io.Reader { return bytes.NewReader(b) }
	row := func(head []byte) (io.Reader, int) {
		image := func(mark byte) []io.Reader {
			return []io.Reader{bytesOf([]byte{mark, 0, 3}), bytesOf(text("7")), large(size), bytesOf([]byte{'n'})}
		}
		parts := append(append([]io.Reader{bytesOf(head)}, image('O')...), image('N')...)
		return io.MultiReader(parts...), len(head) + 2*(3+6+5+size+1)
	}
	for name, c := range map[string]struct {
		block bool
		head  []byte
	}{
		"update":            {false, msg('U', uint32(7))},
		"update in a block": {true, msg('U', uint32(742), uint32(7))},
	} {
		t.Run(name, func(t *testing.T) {
			d := NewDecoder()
			described := products()
			if c.block {
				decodeAll(t, d, msg('S', uint32(742), byte(1)))
				described = append([]byte{'R', 0, 0, 2, 0xe6}, described[1:]...)
			}
			decodeAll(t, d, described)
			in, n := row(c.head)
			thin, err := d.Thin(bufio.NewReaderSize(in, ThinBuffer), n, Interest{Columns: readsFirst})
			require.NoError(t, err)
			require.Less(t, cap(thin), 4<<10)
			_, err = d.Decode(thin)
			require.NoError(t, err)
			for _, row := range []cdc.Tuple{d.Change.Old, d.Change.New} {
				require.Equal(t, "7", string(row[0].Data))
				require.Equal(t, cdc.Unchanged, row[1].Kind)
				require.Equal(t, cdc.Null, row[2].Kind)
			}
			d.Release()
			require.Equal(t, cdc.Change{}, d.Change)
			require.Nil(t, d.old[0].Data)
			require.Nil(t, d.new[0].Data)
		})
	}
	for name, c := range map[string]struct {
		transactional byte
		prefix        string
		content       int
		kept          int
	}{
		"content that is read":                 {1, "p", 1 << 20, 1 << 20},
		"content that is not read":             {1, "q", size, 0},
		"the beginning of content":             {1, "cut", size, 7},
		"content outside of transactions":      {0, "p", size, 0},
		"a prefix that is larger than any one": {1, strings.Repeat("p", 3*ThinBuffer+5), 3, 0},
	} {
		t.Run(name, func(t *testing.T) {
			head := binary.BigEndian.AppendUint32(msg('M', c.transactional, uint64(1), c.prefix), uint32(c.content))
			in := io.MultiReader(bytes.NewReader(head), io.LimitReader(zeros{}, int64(c.content)))
			d := NewDecoder()
			thin, err := d.Thin(bufio.NewReaderSize(in, ThinBuffer), len(head)+c.content, Interest{Content: func(p string) int { return map[string]int{"p": 1 << 30, "cut": 7}[p] }})
			require.NoError(t, err)
			_, err = d.Decode(thin)
			require.NoError(t, err)
			require.Len(t, d.Logical.Content, c.kept)
			require.Equal(t, c.prefix[:min(len(c.prefix), ThinBuffer)], d.Logical.Prefix)
			require.Less(t, cap(thin), c.kept+3*ThinBuffer)
		})
	}
}

// TestThinReportsItsReader: an error of the connection is not one of the message.
func TestThinReportsItsReader(t *testing.T) {
	gone := errors.New("gone")
	whole := msg('I', uint32(7), byte('N'), uint16(3), text("1"), text("a"), byte('n'))
	for cut := range whole {
		d := NewDecoder()
		decodeAll(t, d, products())
		in := io.MultiReader(bytes.NewReader(whole[:cut]), iotest.ErrReader(gone))
		_, err := d.Thin(bufio.NewReaderSize(in, ThinBuffer), len(whole), Interest{Columns: readsFirst})
		require.ErrorIs(t, err, gone)
	}
}

// TestThinReadsByTheShapeOfTheChange: the columns are asked for by the relation that the change then
// has, also for the first row of a partition, which decides how old rows are read.
func TestThinReadsByTheShapeOfTheChange(t *testing.T) {
	d := NewDecoder()
	leaf := append([]byte{}, products()...)
	leaf[4] = 8                                              // the OID
	leaf[bytes.Index(leaf, []byte("products\x00d"))+9] = 'f' // the identity
	decodeAll(t, d, products(), leaf)
	row := msg('U', uint32(7), byte('O'), uint16(3), text("1"), text("a"), byte('n'), byte('N'), uint16(3), text("1"), text("b"), byte('n'))
	var asked *cdc.Relation
	thin, err := d.Thin(bufio.NewReaderSize(bytes.NewReader(row), ThinBuffer), len(row), Interest{Columns: func(rel *cdc.Relation) []bool {
		asked = rel
		return nil
	}})
	require.NoError(t, err)
	require.Equal(t, row, thin)
	decodeAll(t, d, thin)
	require.Same(t, asked, d.Change.Rel)
	require.True(t, asked.Partitioned)
}
