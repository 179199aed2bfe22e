package catchup

import (
	"cmp"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// Limits say when a backlog is read through SQL, and in which chunks. All are in bytes of log.
type Limits struct {
	// Begin is the size of a backlog that is read through SQL if it is exceeded.
	Begin uint64
	// End is what may be left for the stream.
	End uint64
	// First is the size of the first chunk. Each chunk is twice as large as the one before, up to
	// Largest.
	First, Largest uint64
	// Sparse is the size of the largest chunk where the log has few rows to send, such as that of other databases. It
	// is Largest if it is less.
	Sparse uint64
	// Reread is how much of the log may lie between restart_lsn and confirmed_flush_lsn: each call reads that
	// again. For a chunk of more than half of it, twice the size of the chunk may.
	Reread uint64
	// Take is how long the rows of a chunk may take to be read from the connection; 10 seconds if it is 0. Until
	// then the server keeps a snapshot, which holds back vacuum.
	Take time.Duration
	// Wait is how long a call may take until its first row; 0 leaves it to Plan.Patience.
	Wait time.Duration
}

// TakeTime returns Take, or its default.
func (l Limits) TakeTime() time.Duration { return cmp.Or(l.Take, 10*time.Second) }

// Usual are the limits of a daemon.
var Usual = Limits{Begin: 64 << 20, End: 8 << 20, First: 64 << 20, Largest: 128 << 20, Sparse: 512 << 20, Reread: 128 << 20}

// Forced are limits for tests: whatever there is to read at the start of a session is read through SQL.
var Forced = Limits{First: 256 << 10, Largest: 64 << 20, Reread: 128 << 20}

// Slot is what the server says of the slot, and of its log.
type Slot struct {
	// Confirmed and Restart are confirmed_flush_lsn and restart_lsn.
	Confirmed, Restart cdc.LSN
	// Flushed is how far the log may be read: pg_current_wal_flush_lsn(), or what the standbys in
	// synchronized_standby_slots have of it, since a call waits for them.
	Flushed cdc.LSN
	// Spilled is how much of transactions was written to files since the server began to count, in bytes, and
	// SpilledTxns how many transactions that was of. The server writes the largest transaction to a file whenever all
	// of them together exceed logical_decoding_work_mem, so small ones are written, too.
	Spilled, SpilledTxns int64
	// Lacking names the slots in synchronized_standby_slots whose standbys lack more than a MiB of the log, with commas between.
	Lacking string
}

func (s Slot) left() uint64      { return distance(s.Confirmed, s.Flushed) }
func (s Slot) rereading() uint64 { return distance(s.Restart, s.Confirmed) }

func distance(from, to cdc.LSN) uint64 {
	if to <= from {
		return 0
	}
	return uint64(to - from)
}

// Begins reports whether a session that begins at a slot reads its backlog through SQL.
func (l Limits) Begins(s Slot) bool {
	return s.left() > l.Begin && s.rereading() <= l.Reread
}

// Action is what to do next.
type Action uint8

// The actions.
const (
	// Read reads the log up to Step.UpTo.
	Read Action = iota
	// Stream starts the stream.
	Stream
	// Abandon ends the session: the slot is not where the plan has put it, so changes may have
	// been skipped. The next session finds the gap.
	Abandon
)

// Reason says why a plan ends; it is empty for Read.
type Reason string

// The reasons.
const (
	// CaughtUp: what is left is little.
	CaughtUp Reason = "caught up"
	// Rereading: each call would read too much of the log again, since a transaction has been open for
	// long, or the server seldom logs which transactions run.
	Rereading Reason = "the server would read too much of its log again"
	// LargeTransaction: the server keeps a transaction that is larger than a chunk. The stream
	// brings it while it runs.
	LargeTransaction Reason = "a transaction is larger than a chunk"
	// Untaken: chunks were cancelled, since they were not taken in time.
	Untaken Reason = "chunks are not taken in time"
	// Moved: another process moved the slot.
	Moved Reason = "the slot was moved by another process"
)

// Step is the next action.
type Step struct {
	Do   Action
	UpTo cdc.LSN
	Why  Reason
}

// Plan says how a session reads its backlog. It belongs to one goroutine.
type Plan struct {
	limits Limits
	// at is where the plan has put the slot.
	at   cdc.LSN
	size uint64
	// upTo is the end of the chunk that is being read, before the slot as it was before.
	upTo   cdc.LSN
	before Slot
	// empty counts the chunks in a row that brought no commit while restart_lsn stood still.
	empty int
	// began is where the call for the chunk begins to read, and stood where restart_lsn was after the chunk before.
	began, stood cdc.LSN
	// cancelled counts the chunks in a row that were cancelled.
	cancelled int
	// roomy is the size of a chunk that the server decodes in sparseTime and whose rows are not more than
	// those of a chunk of Largest bytes full of rows, judging by the newest chunk. It is 0 while restart_lsn stands still.
	roomy uint64

	counts Counts
}

// Counts are what the calls of a plan have cost.
type Counts struct {
	// Read is how much of the log the server has read, and Drained how far the slot was advanced, in bytes.
	Read, Drained uint64
	// Chunks is the number of chunks after which the slot was advanced.
	Chunks int
}

// NewPlan returns a plan for a session that begins at a position.
func NewPlan(l Limits, at cdc.LSN) *Plan { return &Plan{limits: l, at: at, size: l.First} }

// Next returns the next step. The slot must have been read after the last advance.
func (p *Plan) Next(s Slot) Step {
	if s.Confirmed != p.at {
		return Step{Do: Abandon, Why: Moved}
	}
	switch {
	case s.left() <= p.limits.End:
		return Step{Do: Stream, Why: CaughtUp}
	case p.cancelled > mostCancelled:
		return Step{Do: Stream, Why: Untaken}
	case p.empty > 0 && p.spilled(s) > int64(p.limits.First/2):
		return Step{Do: Stream, Why: LargeTransaction}
	}
	size := p.size
	if p.roomy > 0 {
		size = max(size, min(sparseGrowth*s.rereading(), p.roomy, p.limits.Sparse))
	}
	upTo := min(s.Confirmed+cdc.LSN(size), s.Flushed)
	if distance(upTo, s.Flushed) <= size/2 {
		upTo = s.Flushed // the rest is not worth a call of its own
	}
	if s.rereading() > max(2*distance(s.Confirmed, upTo), p.limits.Reread) {
		return Step{Do: Stream, Why: Rereading}
	}
	p.before, p.upTo, p.began = s, upTo, s.Restart
	if p.counts.Chunks == 0 {
		p.stood = s.Restart
	}
	return Step{Do: Read, UpTo: upTo}
}

// spilled returns how many bytes the server wrote to files for the newest chunk, by transaction. A mean is enough to tell
// a transaction that is larger than a chunk from many small ones. Where both are written, the distance between
// restart_lsn and the chunks grows, which ends the plan, too.
func (p *Plan) spilled(s Slot) int64 {
	return (s.Spilled - p.before.Spilled) / max(s.SpilledTxns-p.before.SpilledTxns, 1)
}

// Copied returns the position that a chunk proves once it has arrived in full without an error. last is
// the end of its newest commit, 0 if it has none. s is the slot as it was read after the chunk. Where the slot
// is not where it was before, the chunk may lack changes, and ok is false.
//
// A call reads every record that begins before its upto_lsn. So the position is that, or the end of the
// last commit, whose record may extend beyond.
func (p *Plan) Copied(s Slot, last cdc.LSN) (at cdc.LSN, ok bool) {
	p.counts.Read += distance(p.before.Restart, p.upTo)
	if s.Confirmed != p.at {
		return 0, false
	}
	if last == 0 && s.Restart == p.before.Restart {
		p.empty++
	} else {
		p.empty = 0
	}
	p.before.Restart = s.Restart // the advance begins there
	return max(last, p.upTo), true
}

// Arrived notes how many bytes the rows of the chunk have had, and how long its call took. It is called after Copied.
//
// Two calls read each chunk, and each of them begins at restart_lsn, which follows the records of which transactions run. Where
// these are farther apart than a chunk is large, the server reads the same log in several chunks. A larger chunk avoids that. It
// costs memory only for the rows.
func (p *Plan) Arrived(rows uint64, took time.Duration, s Slot) {
	read, chunk := float64(distance(p.began, p.upTo)), float64(distance(p.before.Confirmed, p.upTo))
	moved := s.Restart > p.stood
	p.stood = s.Restart
	if p.roomy = 0; !moved || read == 0 || chunk == 0 {
		return
	}
	inTime := read / max(took.Seconds(), 0.001) * sparseTime.Seconds()
	inMemory := float64(p.limits.Largest) * chunk / max(float64(rows), 1)
	p.roomy = uint64(min(inTime, inMemory, 1<<40))
}

// Advanced notes that the slot was advanced to the position that Copied returned.
func (p *Plan) Advanced(at cdc.LSN) {
	p.counts.Read += distance(p.before.Restart, at)
	p.counts.Drained += distance(p.at, at)
	p.counts.Chunks++
	p.at, p.size, p.cancelled = at, min(2*p.size, p.limits.Largest), 0
}

// Cancelled notes that a chunk was not taken in time. The next one is smaller.
func (p *Plan) Cancelled() {
	p.size, p.roomy = max(p.size/4, smallest), 0
	p.cancelled++
}

const (
	// smallest is the least size of a chunk after one was cancelled.
	smallest = 1 << 20
	// mostCancelled is how many chunks in a row may be cancelled.
	mostCancelled = 2
	// sparseTime is for how long the server may decode a chunk that is larger than Largest. It keeps a snapshot meanwhile.
	sparseTime = 4 * time.Second
	// sparseGrowth is how much larger such a chunk is than what lies between restart_lsn and confirmed_flush_lsn.
	sparseGrowth = 3
)

// Counts returns what the calls have cost so far.
func (p *Plan) Counts() Counts { return p.counts }

const (
	// slowest is the rate of decoding, in bytes a second, that a call is allowed.
	slowest = 10 << 20
	// leastPatience and mostPatience bound how long a call may take until its first row.
	leastPatience = 5 * time.Second
	mostPatience  = 15 * time.Second
)

// Patience is how long the server may take for the chunk at hand until its first row.
func (p *Plan) Patience() time.Duration {
	if p.limits.Wait > 0 {
		return p.limits.Wait
	}
	read := time.Duration(distance(p.before.Restart, p.upTo)/slowest) * time.Second
	return min(max(read, leastPatience), mostPatience)
}
