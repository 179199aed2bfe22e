package pgoutput

import (
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// Type is the first byte of a message.
type Type byte

// The message types of protocol version 2.
const (
	BeginType    Type = 'B'
	CommitType   Type = 'C'
	OriginType   Type = 'O'
	RelationType Type = 'R'
	TypeType     Type = 'Y'
	InsertType   Type = 'I'
	UpdateType   Type = 'U'
	DeleteType   Type = 'D'
	TruncateType Type = 'T'
	LogicalType  Type = 'M'

	StreamStartType  Type = 'S'
	StreamStopType   Type = 'E'
	StreamCommitType Type = 'c'
	StreamAbortType  Type = 'A'
)

// String names the type as the manual does.
func (t Type) String() string {
	switch t {
	case BeginType:
		return "Begin"
	case CommitType:
		return "Commit"
	case OriginType:
		return "Origin"
	case RelationType:
		return "Relation"
	case TypeType:
		return "Type"
	case InsertType:
		return "Insert"
	case UpdateType:
		return "Update"
	case DeleteType:
		return "Delete"
	case TruncateType:
		return "Truncate"
	case LogicalType:
		return "Message"
	case StreamStartType:
		return "Stream Start"
	case StreamStopType:
		return "Stream Stop"
	case StreamCommitType:
		return "Stream Commit"
	case StreamAbortType:
		return "Stream Abort"
	}
	return fmt.Sprintf("unknown type %q", byte(t))
}

// Begin opens a transaction.
type Begin struct {
	// Commit is the place of the commit record ("final LSN"), not the end of it.
	Commit cdc.LSN
	Time   time.Time
	XID    uint32
}

// Commit closes a transaction.
type Commit struct {
	// XID is set by Stream Commit only: it closes no Begin.
	XID    uint32
	Commit cdc.LSN
	// End is the place just after the commit record: the only position of the
	// transaction that may be confirmed.
	End  cdc.LSN
	Time time.Time
}

// Origin tells that the transaction was replicated from elsewhere.
type Origin struct {
	Commit cdc.LSN
	Name   string
}

// DataType describes a type that is not built in.
type DataType struct {
	OID    uint32
	Schema string
	Name   string
}

// Truncate lists the published tables that one TRUNCATE emptied.
type Truncate struct {
	Cascade         bool
	RestartIdentity bool
	Relations       []*cdc.Relation
}

// Logical is a message written by pg_logical_emit_message. A message that is
// not transactional arrives outside Begin and Commit, even from a transaction
// that was rolled back.
type Logical struct {
	Transactional bool
	LSN           cdc.LSN
	Prefix        string
	// Content aliases the input.
	Content []byte
}

// StreamStart opens a block of changes of a transaction that has not ended. Blocks of
// several transactions, and whole transactions, come one after another, never inside
// each other.
type StreamStart struct {
	XID uint32
	// First reports that it is the transaction's first block.
	First bool
}

// StreamAbort tells that a streamed transaction, or one of its subtransactions, was
// rolled back. Of a subtransaction that held others, each that was streamed is told.
type StreamAbort struct {
	XID uint32
	// Sub is the subtransaction, or XID itself.
	Sub uint32
}

// FormatError is a message that does not follow the protocol. The reader must
// stop: whatever the message said cannot be known.
type FormatError struct {
	Type   Type
	Offset int
	Reason string
	// Stale reports that the server has not described a table as it is. What it sends in another session
	// can be decoded.
	Stale bool
}

// Error names the message, the place in it, and what is wrong there.
func (e *FormatError) Error() string {
	return fmt.Sprintf("undecodable pgoutput message %s at byte %d: %s", e.Type, e.Offset, e.Reason)
}
