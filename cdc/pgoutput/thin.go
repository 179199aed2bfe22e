package pgoutput

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/walpurge/walpurge/cdc"
)

// Interest says what the consumer of a message reads.
type Interest struct {
	// Columns returns which columns of a table are read, in the order of Relation.Columns; nil
	// means all of them.
	Columns func(rel *cdc.Relation) []bool
	// Content returns how many bytes of the content of logical messages with the prefix are read.
	Content func(prefix string) int
}

// ThinBuffer is the least size of the buffer of a reader that is given to Thin.
const ThinBuffer = 64 << 10

// Thin reads a message of n bytes from r and returns the bytes to give to Decode. Values of columns
// that are not read are left out, and become cdc.Unchanged; so is what of the content of a logical
// message is not read, and what of a prefix exceeds ThinBuffer. So the memory needed depends on what
// is read only. Parts that do not follow the protocol are returned as they are, so that Decode
// reports them. The error is that of the reader.
func (d *Decoder) Thin(r *bufio.Reader, n int, in Interest) ([]byte, error) {
	t := thinner{r: r, left: n}
	if typ, ok := t.number(1); ok {
		inBlock := d.relations.block != 0
		switch typ := Type(typ); typ {
		case InsertType, UpdateType, DeleteType:
			if inBlock {
				t.number(4)
			}
			if oid, ok := t.number(4); ok {
				d.relations.rowOf(uint32(oid))
				t.row(d, uint32(oid), in)
			}
		case LogicalType:
			if inBlock {
				t.number(4)
			}
			t.logical(in.Content)
		}
	}
	t.copy(t.left)
	return t.out, t.err
}

// thinner copies a message from r to out, except for what is left out.
type thinner struct {
	r    *bufio.Reader
	left int
	out  []byte
	err  error
}

// copy takes over the next n bytes.
func (t *thinner) copy(n int) {
	t.out = slices.Grow(t.out, n)
	for t.err == nil && n > 0 {
		var b []byte
		if b, t.err = t.r.Peek(min(n, ThinBuffer)); t.err == nil {
			t.out = append(t.out, b...)
			n -= len(b)
			t.skip(len(b))
		}
	}
}

// skip leaves out the next n bytes.
func (t *thinner) skip(n int) {
	if t.err == nil {
		var skipped int
		skipped, t.err = t.r.Discard(n)
		t.left -= skipped
	}
}

// peek returns the big-endian number in the next bytes, false if they are not there.
func (t *thinner) peek(bytes int) (n uint64, ok bool) {
	if t.err != nil || bytes > t.left {
		return 0, false
	}
	var b []byte
	if b, t.err = t.r.Peek(bytes); t.err != nil {
		return 0, false
	}
	var wide [8]byte
	copy(wide[8-bytes:], b)
	return binary.BigEndian.Uint64(wide[:]), true
}

// number takes over the next bytes, and returns the number in them.
func (t *thinner) number(bytes int) (n uint64, ok bool) {
	if n, ok = t.peek(bytes); ok {
		t.copy(bytes)
	}
	return n, ok
}

// row takes over the images of a row of a table, less what is not read.
func (t *thinner) row(d *Decoder, table uint32, in Interest) {
	rel, _ := d.relations.get(table)
	if rel == nil {
		return
	}
	reads := in.Columns(rel)
	for t.image(len(rel.Columns), reads) { // the old row, the new row
	}
}

// image takes over one image of a row, without the columns that are not read. It returns false at
// the end of the message, and where the message does not follow the protocol.
func (t *thinner) image(columns int, reads []bool) bool {
	if _, ok := t.number(1); !ok {
		return false
	}
	if n, ok := t.number(2); !ok || int(n) != columns {
		return false
	}
	for i := range columns {
		kind, ok := t.peek(1)
		switch {
		case !ok:
			return false
		case kind == 'n' || kind == 'u':
			t.copy(1)
			continue
		case kind != 't':
			return false
		}
		head, ok := t.peek(5)
		size := int(int32(uint32(head)))
		if !ok || size < 0 || size > t.left-5 {
			return false
		}
		if reads == nil || i < len(reads) && reads[i] {
			t.copy(5 + size)
			continue
		}
		t.out = append(t.out, 'u')
		t.skip(5 + size)
	}
	return true
}

// logical takes over flags, LSN and prefix of a logical message, and as much of its content as is read.
func (t *thinner) logical(read func(prefix string) int) {
	flags, ok := t.number(1)
	if !ok || t.left < 8 {
		return
	}
	t.copy(8)
	prefix, ok := t.prefix()
	if !ok {
		return
	}
	size, ok := t.peek(4)
	if !ok || int(size) != t.left-4 {
		return
	}
	keep := 0
	if flags&1 != 0 {
		keep = min(read(prefix), int(size))
	}
	t.out = binary.BigEndian.AppendUint32(t.out, uint32(keep))
	t.skip(4)
	t.copy(keep)
	t.skip(t.left)
}

// prefix takes over a string and its closing zero, and cuts it after ThinBuffer bytes.
func (t *thinner) prefix() (string, bool) {
	start := len(t.out)
	for t.err == nil && t.left > 0 {
		var b []byte
		if b, t.err = t.r.Peek(min(t.left, ThinBuffer)); t.err != nil {
			break
		}
		end := bytes.IndexByte(b, 0)
		part := b
		if end >= 0 {
			part = b[:end]
		}
		t.out = append(t.out, part[:min(len(part), ThinBuffer-(len(t.out)-start))]...)
		if end < 0 {
			t.skip(len(b))
			continue
		}
		t.skip(end + 1)
		prefix := string(t.out[start:])
		t.out = append(t.out, 0)
		return prefix, true
	}
	return "", false
}
