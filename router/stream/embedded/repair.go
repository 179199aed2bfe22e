package embedded

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// What the server's store writes before a message (filestore.go of nats-server): the length
// of all, of which the highest bit tells of headers; the sequence, of which the two highest
// tell of deletions; a time; and the length of the subject. At least a checksum follows.
const (
	recordHeader = 4 + 8 + 8 + 2
	checksum     = 8
	headersBit   = 1 << 31
	tombstoneBit = 1 << 62
	erasedBit    = 1 << 63
	maxRecord    = 32 << 20
)

const (
	// repaired is how many of a stream's newest blocks are looked at: what is read at a
	// start, and what was written last when the power went.
	repaired = 4
	// maxHole is how far two sequences in a block may lie apart. The server fills such a hole
	// with four bytes for each, and does so before it looks at checksums: a single wrong
	// byte costs all the memory there is.
	maxHole = 1 << 24
)

// repair cuts off, from the newest blocks of every stream in a store, what begins with a
// sequence that cannot be true. The server finds its own record of the block to be wrong then, and
// counts what it has; lanes take what is missing for lost, and flush.
func repair(store string, log *slog.Logger) error {
	for _, block := range newest(store) {
		if err := mendBlock(block, log); err != nil {
			return fmt.Errorf("look at the store: %w", err)
		}
	}
	return nil
}

// newest lists the blocks that every stream began last.
func newest(store string) []string {
	blocks, _ := fs.Glob(os.DirFS(store), "*/streams/*/msgs/*.blk") // fails for a bad pattern alone
	number := func(block string) int {
		n, _ := strconv.Atoi(strings.TrimSuffix(path.Base(block), ".blk"))
		return n
	}
	slices.SortFunc(blocks, func(a, b string) int { return number(b) - number(a) })
	taken := make(map[string]int)
	var out []string
	for _, block := range blocks {
		if dir := path.Dir(block); taken[dir] < repaired {
			taken[dir]++
			out = append(out, filepath.Join(store, block))
		}
	}
	return out
}

func mendBlock(block string, log *slog.Logger) error {
	f, err := os.Open(block)
	if err != nil {
		return err
	}
	defer f.Close()
	at, err := falseSequence(bufio.NewReaderSize(f, 1<<20))
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	if err != nil {
		return err
	}
	log.Error("a block of the stream is damaged, what lies behind is given up", "path", block, "offset", at)
	return os.Truncate(block, at)
}

// falseSequence finds the first record whose sequence lies too far beyond the one before,
// and returns io.EOF or io.ErrUnexpectedEOF where the records end without one. A block that
// ends in anything but a record is the server's to repair.
func falseSequence(r *bufio.Reader) (at int64, err error) {
	var header [recordHeader]byte
	last := uint64(0)
	for {
		if _, err := io.ReadFull(r, header[:]); err != nil {
			return 0, err
		}
		length := int64(binary.LittleEndian.Uint32(header[0:]) &^ headersBit)
		seq := binary.LittleEndian.Uint64(header[4:])
		if length < recordHeader+checksum || length > maxRecord {
			return 0, io.EOF
		}
		if seq&tombstoneBit == 0 {
			seq &^= erasedBit
			if last > 0 && seq > last+maxHole {
				return at, nil
			}
			last = max(last, seq)
		}
		if _, err := r.Discard(int(length - recordHeader)); err != nil {
			return 0, err
		}
		at += length
	}
}
