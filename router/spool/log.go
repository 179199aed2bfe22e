package spool

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"os"
)

const (
	// held is how much of a log is in memory at most, in bytes, apart from one record
	// that is larger.
	held = 60 << 10
	// window is how many of the newest records a repetition is looked for among.
	window = 2048
)

// Log is a list of records, each with the number of its owner. It drops a record that
// repeats a recent one of the same owner. One goroutine at a time.
type Log struct {
	pool *Pool
	buf  []byte
	file *os.File
	// size is what the file has, in bytes.
	size int64
	// recent has for each hash where the newest frame with it begins in buf, plus one.
	recent [window]uint16
	frame  []byte
}

// Append adds a record. It blocks for no longer than the file system does. After an error,
// as after ErrFull, the log lacks records and is only good for Close.
func (l *Log) Append(owner uint64, record []byte) error {
	l.frame = append(binary.AppendUvarint(l.frame[:0], owner), record...)
	slot := &l.recent[maphash.Bytes(l.pool.seed, l.frame)%window]
	if *slot > 0 && bytes.Equal(frameAt(l.buf[*slot-1:]), l.frame) {
		return nil
	}
	*slot = uint16(len(l.buf) + 1)
	l.buf = binary.AppendUvarint(l.buf, uint64(len(l.frame)))
	l.buf = append(l.buf, l.frame...)
	if len(l.buf) < held {
		return nil
	}
	return l.spill()
}

func frameAt(b []byte) []byte {
	n, size := binary.Uvarint(b)
	return b[size : size+int(n)]
}

// ErrFull tells that the files of all logs have reached their limit.
var ErrFull = errors.New("the spool is full")

func (l *Log) spill() error {
	n := int64(len(l.buf))
	if !l.pool.take(n) {
		return ErrFull
	}
	l.size += n
	if l.file == nil {
		var err error
		if l.file, err = l.pool.create(); err != nil {
			return err
		}
	}
	if _, err := l.file.Write(l.buf); err != nil {
		return fmt.Errorf("write to the spool: %w", err)
	}
	l.buf = l.buf[:0]
	clear(l.recent[:])
	return nil
}

// Each hands over the records in their order, each valid during the call only. It ends at
// the function's first error, and returns it.
func (l *Log) Each(hand func(owner uint64, record []byte) error) error {
	var from io.Reader = bytes.NewReader(l.buf)
	if l.file != nil {
		from = io.MultiReader(io.NewSectionReader(l.file, 0, l.size), from)
	}
	in := bufio.NewReaderSize(from, held)
	var frame []byte
	for {
		n, err := binary.ReadUvarint(in)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			if uint64(cap(frame)) < n {
				frame = make([]byte, n)
			}
			frame = frame[:n]
			_, err = io.ReadFull(in, frame)
		}
		if err != nil {
			return fmt.Errorf("read the spool: %w", err)
		}
		owner, size := binary.Uvarint(frame)
		if err := hand(owner, frame[size:]); err != nil {
			return err
		}
	}
}

// Close gives up what the log has.
func (l *Log) Close() {
	l.pool.give(l.size)
	if l.file != nil {
		_ = l.file.Close() // it has no name: this is its end
	}
	l.buf, l.file, l.size = nil, nil, 0
}
