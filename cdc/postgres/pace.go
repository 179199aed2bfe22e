package postgres

import "time"

// pace decides how long to leave the server alone between two reads. PostgreSQL
// sends every message by a call of its own, and a reader that waits for each one
// is woken for each one, which costs both sides more than the decoding. Behind a
// backlog every read finds something at once; then a nap lets the messages of a
// millisecond gather. A read that has to wait means that there is no backlog,
// and ends the naps, so that a change on a quiet line is handed on at once.
type pace struct {
	nap time.Duration
	// eager counts reads in a row that found something at once.
	eager int
}

const (
	// atOnce is the longest that a read takes which did not have to wait.
	atOnce = 100 * time.Microsecond
	// eagerReads make a backlog.
	eagerReads = 16
	firstNap   = 50 * time.Microsecond
	longestNap = time.Millisecond
)

// read notes how long a read took.
func (p *pace) read(took time.Duration) {
	if took > atOnce {
		*p = pace{}
		return
	}
	if p.eager++; p.eager < eagerReads {
		return
	}
	p.nap = min(max(firstNap, p.nap*2), longestNap)
	p.eager = 0
}
