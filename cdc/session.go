package cdc

// Session is one uninterrupted stretch of streaming from a slot.
type Session struct {
	// Start is the slot's confirmed position on the server's present timeline:
	// everything committed after it is about to be sent.
	Start Position
	// Database is the OID of the database, which one that is created again under its name does not keep.
	Database uint32
	// SlotCreated reports that this very start made the slot, so that nothing
	// was ever confirmed through it.
	SlotCreated bool
	// SlotUnread reports that nobody has read the slot since it was made.
	SlotUnread bool
	// Inactive are slots that other pipelines left, with a table of this one published, and that no process
	// reads. They are read for a slot that is new or unread.
	Inactive []string
	// Open are the transactions that were running when this start looked: those of
	// them that the log has as committed before Start are not visible to others yet.
	Open []uint64
	// Leapt says why this very start moved the slot to the end of the log, without
	// reading what lies before. It is empty if it did not.
	Leapt GapReason
	// End is how far the server had its log on disk before the session began.
	End LSN
	// History are the timelines that the present one descends from.
	History []Ancestor
}

// Owner is the database that the session streams from.
func (s Session) Owner() Owner { return Owner{SystemID: s.Start.SystemID, Database: s.Database} }

// Ancestor is a timeline that the server's present one came from, directly or not.
type Ancestor struct {
	Timeline uint32
	// End is where it was left: what was logged on it beyond that, commits included, is
	// not in the server's log.
	End LSN
}

// Has reports whether the server's log has everything up to a position of its own
// cluster. It does not have what a promoted standby had not received.
func (s Session) Has(p Position) bool {
	if p.Timeline == s.Start.Timeline {
		return p.LSN <= s.End
	}
	for _, a := range s.History {
		if a.Timeline == p.Timeline {
			return p.LSN <= a.End
		}
	}
	return false
}

// Rest tells that the reader has nothing more at hand right now.
type Rest struct {
	// Idle is the server's log position if it lies beyond the last commit and no
	// transaction is open: everything committed before it has been handed over.
	// Otherwise it is zero.
	Idle LSN
	// Urgent reports that the server waits for an answer, as it does when it
	// shuts down.
	Urgent bool
	// Unproven reports that what was handed over since the last Rest that is not may lack changes of
	// others before it: it is published, and nothing may be claimed. A Rest that is not Unproven
	// follows, or the session ends.
	Unproven bool
	// Last reports that this session hands over nothing more. A transaction may
	// still be open: it comes again, whole, in the next session.
	Last bool
}

// Halt wraps an error after which trying again would lose purges or is against
// the configuration: the daemon must stop and say so.
type Halt struct{ Err error }

// Error returns the wrapped error's text.
func (h *Halt) Error() string { return h.Err.Error() }

// Unwrap returns the wrapped error.
func (h *Halt) Unwrap() error { return h.Err }
