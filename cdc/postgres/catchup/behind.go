package catchup

import "time"

// Behind finds a stream that stays behind because the server sends no faster. Where the handler is what
// is slow, reading through SQL would change nothing. It belongs to one goroutine.
type Behind struct {
	Limits Limits
	// since is when the present window began, zero if the stream is not behind; waited is how much of it
	// the session waited for the server.
	since  time.Time
	waited time.Duration
}

const (
	// behindTime is how long a stream must be behind.
	behindTime = 10 * time.Second
	// leastWaited is the part of that time, as a divisor, for which the session must have waited for the server. Decoding
	// single-row transactions took half of the time where the server was the limit, with a handler that does nothing. A
	// blocked handler leaves no time to wait.
	leastWaited = 4
)

// Note takes how much of the log is left to read and how much lies between restart_lsn and
// confirmed_flush_lsn, in bytes, and for how long the session has waited for the server since the last call. It
// reports whether the backlog is to be read through SQL.
func (b *Behind) Note(now time.Time, left, rereading uint64, waited time.Duration) bool {
	if left <= 2*b.Limits.Begin || rereading > b.Limits.Reread {
		b.since = time.Time{}
		return false
	}
	if b.since.IsZero() {
		b.since, b.waited = now, 0
		return false
	}
	b.waited += waited
	window := now.Sub(b.since)
	if window < behindTime {
		return false
	}
	due := leastWaited*b.waited >= window
	b.since, b.waited = now, 0
	return due
}
