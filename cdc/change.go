package cdc

import "time"

// Op is the kind of a change.
type Op uint8

// The operations of a published table.
const (
	Insert Op = iota + 1
	Update
	Delete
	Truncate
)

// String prints the operation in lower case, as rules write it.
func (o Op) String() string {
	switch o {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	}
	return "unknown"
}

// ValueKind tells the states of a column apart that must never be mixed up.
type ValueKind uint8

const (
	// Absent: the stream did not carry the column (it lies outside the replica
	// identity of an old row, or outside a column list). Its value is unknown.
	Absent ValueKind = iota
	// Null is SQL NULL.
	Null
	// Unchanged: a TOASTed value that the statement did not touch and
	// PostgreSQL did not send. Its value is unknown, and not empty.
	Unchanged
	// Text is a value in PostgreSQL's text form; an empty string is a value.
	Text
)

// Value is one column of a row. Data is set for Text only and aliases the
// decoder's buffer: it is valid until the next message is decoded.
type Value struct {
	Kind ValueKind
	Data []byte
}

// Known reports whether the stream carried the value (NULL is known).
func (v Value) Known() bool { return v.Kind == Null || v.Kind == Text }

// Tuple is a row image in the order of Relation.Columns. A nil Tuple means
// that the image was not sent at all.
type Tuple []Value

// Change is one row event, or a TRUNCATE of one table.
//
// Old is nil where PostgreSQL sent no old row: always for Insert, and for an
// Update that left the replica identity's columns as they were. Under identity
// DEFAULT or USING INDEX an old row carries identity columns only; the others
// are Absent. New is nil for Delete and Truncate, and for an Update that may have moved the row to a
// partition that is a foreign table.
type Change struct {
	Op  Op
	Rel *Relation
	Old Tuple
	New Tuple
}

// Txn identifies the transaction that a change belongs to.
type Txn struct {
	// XID is the top-level transaction id, widened to 64 bits.
	XID uint64
	// Commit is the place of the commit record, known from the transaction's first message
	// on unless it is streamed. End, the place just after it, is known at its last.
	Commit LSN
	End    LSN
	// Time is the server's commit time, microsecond resolution.
	Time time.Time
	// Streamed reports that the server sends the transaction before it ends: it may yet
	// be rolled back, and neither Commit nor Time is known before its last message.
	Streamed bool
	// Sub is the subtransaction that a change of a streamed transaction belongs to, widened
	// to 64 bits; XID itself at the top level. It may be rolled back by itself.
	Sub uint64
}
