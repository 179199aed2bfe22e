package catchup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// signature begins a binary COPY, followed by flags and the length of an extension (manual, COPY, "Binary Format").
var signature = []byte("PGCOPY\n\xff\r\n\x00")

const (
	headerSize = 11 + 4 + 4
	// RowHead is the size of what precedes the data of a row: the number of fields, the length of lsn,
	// lsn, and the length of data.
	RowHead = 2 + 4 + 8 + 4
)

// Rows reads the CopyData messages of COPY (SELECT lsn, data ...) TO STDOUT (FORMAT binary). The server
// sends a row in one message; what is not in that form is an error.
type Rows struct {
	begun, ended bool
}

var errRow = errors.New("unexpected form of a binary COPY")

// Skip returns the size of what precedes the data in a CopyData message of which head has the beginning, and
// the length of the data. more is false for the end of the rows. It needs Head bytes of a message that is as long.
func (r *Rows) Skip(head []byte, size int) (skip, length int, more bool, err error) {
	if !r.begun {
		if len(head) < headerSize || !bytes.HasPrefix(head, signature) {
			return 0, 0, false, fmt.Errorf("%w: no signature", errRow)
		}
		if binary.BigEndian.Uint32(head[11:]) != 0 || binary.BigEndian.Uint32(head[15:]) != 0 {
			return 0, 0, false, fmt.Errorf("%w: flags or an extension", errRow)
		}
		r.begun, skip = true, headerSize
	}
	if r.ended {
		return 0, 0, false, fmt.Errorf("%w: a row after the end", errRow)
	}
	row := head[skip:]
	if len(row) == 2 && binary.BigEndian.Uint16(row) == 0xffff && size == skip+2 {
		r.ended = true
		return 0, 0, false, nil
	}
	if len(row) < RowHead || binary.BigEndian.Uint16(row) != 2 || binary.BigEndian.Uint32(row[2:]) != 8 {
		return 0, 0, false, fmt.Errorf("%w: a row of %d bytes", errRow, size-skip)
	}
	skip += RowHead
	length = int(int32(binary.BigEndian.Uint32(row[14:])))
	if length < 0 || skip+length != size {
		return 0, 0, false, fmt.Errorf("%w: data of %d bytes in a message of %d", errRow, length, size)
	}
	return skip, length, true, nil
}

// Head is how much of a message Skip needs at most.
const Head = headerSize + RowHead

// Data returns the data of the row in a message, valid as long as the message is; nil at the end of
// the rows.
func (r *Rows) Data(message []byte) ([]byte, error) {
	skip, length, more, err := r.Skip(message, len(message))
	if err != nil || !more {
		return nil, err
	}
	return message[skip : skip+length], nil
}

// Ended reports that all rows have come.
func (r *Rows) Ended() bool { return r.ended }
