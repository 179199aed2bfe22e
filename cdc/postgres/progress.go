package postgres

import (
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/postgres/catchup"
)

// Results of chunks; they are metric labels.
const (
	chunkDone      = "done"
	chunkCancelled = "cancelled"
	chunkRefused   = "refused"
)

// CatchUp is how far a backlog is read through SQL.
type CatchUp struct {
	// Left is how much of the log lies before the end, and Total how much did when the session began, in bytes.
	Left, Total uint64
	// Remaining is the time until it is read, at the rate so far; negative while that is not known.
	Remaining time.Duration
	// ChangesPerSecond is the rate of rows so far.
	ChangesPerSecond float64
	// Read is how much of its log the server has read for that, and Drained how far the slot was advanced.
	Read, Drained uint64
}

// progress is what the status shows of catching up. It is safe for concurrent use.
type progress struct {
	mu     sync.Mutex
	now    CatchUp
	began  time.Time
	counts catchup.Counts
	// before are the counts of earlier sessions.
	before catchup.Counts
	// changes are the rows of the session.
	changes uint64
	chunks  map[string]uint64
}

func (p *progress) begin(s catchup.Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.before = catchup.Counts{Read: p.before.Read + p.counts.Read, Drained: p.before.Drained + p.counts.Drained}
	p.began, p.counts = time.Now(), catchup.Counts{}
	left := left(s)
	p.now, p.changes = CatchUp{Left: left, Total: left, Remaining: -1}, 0
}

func left(s catchup.Slot) uint64 {
	if s.Flushed < s.Confirmed {
		return 0
	}
	return uint64(s.Flushed - s.Confirmed)
}

func (p *progress) note(s catchup.Slot, plan *catchup.Plan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts = plan.Counts()
	p.now.Left = left(s)
	p.now.Total = max(p.now.Total, p.now.Left+p.counts.Drained)
	elapsed := time.Since(p.began)
	p.now.ChangesPerSecond = float64(p.changes) / elapsed.Seconds()
	if p.counts.Drained > 0 {
		p.now.Remaining = time.Duration(float64(p.now.Left) / float64(p.counts.Drained) * float64(elapsed))
	}
}

// arrived notes rows that were handed over.
func (p *progress) arrived(changes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changes += changes
	p.now.ChangesPerSecond = float64(p.changes) / time.Since(p.began).Seconds()
}

func (p *progress) chunk(result string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.chunks == nil {
		p.chunks = make(map[string]uint64)
	}
	p.chunks[result]++
}

// CatchUp returns how far the backlog is read. It reports false while the reader does not catch up.
func (r *Reader) CatchUp() (CatchUp, bool) {
	r.progress.mu.Lock()
	defer r.progress.mu.Unlock()
	c := r.progress.now
	c.Read, c.Drained = r.progress.before.Read+r.progress.counts.Read, r.progress.before.Drained+r.progress.counts.Drained
	return c, r.State().Phase == CatchingUp
}

// Chunks returns by result how many parts of a backlog were read through SQL since the start.
func (r *Reader) Chunks() map[string]uint64 {
	r.progress.mu.Lock()
	defer r.progress.mu.Unlock()
	out := map[string]uint64{chunkDone: 0, chunkCancelled: 0, chunkRefused: 0}
	for result, n := range r.progress.chunks {
		out[result] = n
	}
	return out
}
