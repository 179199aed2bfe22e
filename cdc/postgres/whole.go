package postgres

import "github.com/walpurge/walpurge/cdc"

// whole remembers that transactions must be read once they have ended. A server that
// decodes one before that reads its catalog in the middle of changes, some of which are
// rolled back; where it loses its way, as it can after ALTER TABLE in a savepoint that was
// rolled back, it fails at the same place in every session. What was rolled back is not
// decoded after the end, so reading goes on then.
type whole struct {
	// next is set until the session after the failure has begun.
	next bool
	end  cdc.LSN
}

// until reports whether a session that begins there must do without what has not ended:
// as long as the log is not behind it that was there after the failure.
func (w *whole) until(s cdc.Session) bool {
	if w.next {
		w.next, w.end = false, s.End
	}
	return s.Start.LSN < w.end
}
