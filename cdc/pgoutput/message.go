package pgoutput

import (
	"fmt"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// Type is the first byte of a message.
type Type byte

// The message types of protocol version 1.
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

// FormatError is a message that does not follow the protocol. The reader must
// stop: whatever the message said cannot be known.
type FormatError struct {
	Type   Type
	Offset int
	Reason string
}

// Error names the message, the place in it, and what is wrong there.
func (e *FormatError) Error() string {
	return fmt.Sprintf("undecodable pgoutput message %s at byte %d: %s", e.Type, e.Offset, e.Reason)
}
