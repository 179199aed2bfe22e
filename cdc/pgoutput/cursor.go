package pgoutput

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// cursor reads one message. The first failed read is kept and every later read
// returns zero, so that a decoder checks once, at the end.
type cursor struct {
	typ  Type
	data []byte
	off  int
	err  *FormatError
}

// epoch is PostgreSQL's time zero, 2000-01-01 UTC, in Unix microseconds.
const epoch = 946684800_000_000

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = &FormatError{Type: c.typ, Offset: c.off, Reason: fmt.Sprintf(format, args...)}
	}
}

// stale is fail with a reason that a new walsender removes.
func (c *cursor) stale(format string, args ...any) {
	if c.err == nil {
		c.err = &FormatError{Type: c.typ, Offset: c.off, Reason: fmt.Sprintf(format, args...), Stale: true}
	}
}

func (c *cursor) take(n int) []byte {
	if c.err != nil {
		return nil
	}
	if n < 0 || n > len(c.data)-c.off {
		c.fail("%d bytes wanted, %d left", n, len(c.data)-c.off)
		return nil
	}
	b := c.data[c.off : c.off+n : c.off+n]
	c.off += n
	return b
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() int {
	if b := c.take(2); b != nil {
		return int(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (c *cursor) lsn() cdc.LSN { return cdc.LSN(c.u64()) }

func (c *cursor) time() time.Time {
	return time.UnixMicro(int64(c.u64()) + epoch).UTC()
}

// text reads a zero-terminated string.
func (c *cursor) text() string {
	if c.err != nil {
		return ""
	}
	n := bytes.IndexByte(c.data[c.off:], 0)
	if n < 0 {
		c.fail("string without its closing zero")
		return ""
	}
	s := string(c.data[c.off : c.off+n])
	c.off += n + 1
	return s
}

// done returns the first failure; bytes left over are one.
func (c *cursor) done() error {
	if c.err == nil && c.off != len(c.data) {
		c.fail("%d bytes left over", len(c.data)-c.off)
	}
	if c.err != nil {
		return c.err
	}
	return nil
}
