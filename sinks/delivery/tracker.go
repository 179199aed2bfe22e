package delivery

import (
	"slices"
	"sync"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// tracker knows which messages of a lane are done, and so how far the lane is
// done without a hole.
type tracker struct {
	mu    sync.Mutex
	queue []*entry
	epoch uint64
	// floor is the sequence up to which all are done, read the newest known.
	floor, read uint64
	// front counts the messages at the head of the queue that were purged and wait
	// for their second purge; frontEpoch is for them what epoch is below the floor.
	front      int
	frontEpoch uint64
	// acks counts the messages at the head of the queue that are acknowledged: done, or held by
	// newer ones. newestClaim is the sequence of the newest claim.
	acks        int
	newestClaim uint64
	// passedOn counts the messages that newer ones hold and that are not purged; byXID has them by
	// their transactions.
	passedOn int
	byXID    map[uint64][]*entry
	// passed is the newest message before which all, and which itself, was purged.
	passed uint64
	// newer is closed when a message is added.
	newer chan struct{}
	// held is the message that claims are held back for, lifted closed when it was
	// purged. frontClaim and claim wait for that.
	held              uint64
	lifted            chan struct{}
	frontClaim, claim *cdc.Claim
	// distrusted: the sink may hold again what was purged, so claims are held back.
	distrusted bool
	// inherited is the newest message that may hold a value which an earlier run has deferred for a message
	// that is acknowledged. Claims are held back until everything up to it is purged; then it is 0.
	inherited uint64
	// stuck are the messages that were purged, or deferred, behind one that was not; stuckValues is the number of their values, stuckBytes about
	// what they take in the stream.
	stuck, stuckValues int
	stuckBytes         int64
}

type entry struct {
	seq   uint64
	claim *cdc.Claim
	batch *invalidation.Batch
	// purged: once, behind open gates. done: the second time too, where there is one.
	purged, done bool
	// putOff: all that it lacks are values that were deferred; refused: because the sink refuses their kind.
	putOff, refused bool
	// early says what became of it while its gates were closed.
	early earliness
	// passed: a newer message holds in the stream what was deferred. acked: it is acknowledged.
	passed, acked bool
	// counted: it is among those that are stuck.
	counted bool
	// moved is closed when purged, done, putOff or early changes.
	moved chan struct{}
	size  int
	bytes int64
}

// earliness is what became of a message while its gates were closed.
type earliness int

const (
	notEarly earliness = iota
	purgedEarly
	deferredEarly // because of a rule's period
)

// add registers a message in the order of the stream. One that is registered or
// done already is told by again: the stream delivered it once more.
func (t *tracker) add(m invalidation.Message) (e *entry, again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Seq <= t.floor {
		return nil, true
	}
	for i := len(t.queue) - 1; i >= 0 && t.queue[i].seq >= m.Seq; i-- {
		if t.queue[i].seq == m.Seq {
			return t.queue[i], true
		}
	}
	e = &entry{seq: m.Seq, claim: m.Claim, batch: m.Batch, size: sizeOf(m.Batch), bytes: bytesOf(m.Batch)}
	t.queue = append(t.queue, e)
	t.read = m.Seq
	if m.Claim != nil {
		t.newestClaim = m.Seq
	}
	if t.newer != nil {
		close(t.newer)
		t.newer = nil
	}
	return e, false
}

// purge marks messages as purged, and returns the newest claim among those
// before which everything is, if that moved.
// Claims of an epoch older than the newest seen are a zombie's and say nothing.
func (t *tracker) purge(entries ...*entry) (claim *cdc.Claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		if !e.purged {
			t.move(e)
			t.unpass(e)
			e.purged, e.batch = true, nil
		}
	}
	for t.front < len(t.queue) && t.queue[t.front].purged {
		e := t.queue[t.front]
		if e.claim != nil && e.claim.Epoch >= t.frontEpoch {
			t.frontEpoch, t.frontClaim = e.claim.Epoch, e.claim
		}
		if t.held > 0 && e.seq >= t.held {
			t.held = 0
			close(t.lifted)
			t.lifted = nil
		}
		if e.seq >= t.inherited {
			t.inherited = 0
		}
		t.release(e)
		t.passed = e.seq
		t.front++
	}
	if t.saysClaims() {
		claim, t.frontClaim = t.frontClaim, nil
	}
	return claim
}

// saysClaims reports that nothing holds claims back.
func (t *tracker) saysClaims() bool { return t.held == 0 && !t.distrusted && t.inherited == 0 }

// finish marks messages that were purged as done and returns the sequence up to
// which all are, 0 if that did not move, with the newest claim among those that
// became so.
func (t *tracker) finish(entries ...*entry) (floor uint64, claim *cdc.Claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		e.done = true
		if e.moved != nil {
			close(e.moved)
			e.moved = nil
		}
	}
	floor = t.acknowledge()
	n := 0
	for n < t.front && t.queue[n].done {
		e := t.queue[n]
		if e.claim != nil && e.claim.Epoch >= t.epoch {
			t.epoch, t.claim = e.claim.Epoch, e.claim
		}
		n++
	}
	clear(t.queue[:n])
	t.queue = t.queue[n:]
	t.front -= n
	t.acks -= n
	if t.saysClaims() {
		claim, t.claim = t.claim, nil
	}
	return floor, claim
}

// passOn notes that newer messages hold what was deferred, and returns the sequence up to which all
// may be acknowledged, 0 if that did not move.
func (t *tracker) passOn(entries ...*entry) (floor uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		if e.passed || e.purged || e.batch == nil {
			continue
		}
		e.passed = true
		e.batch = &invalidation.Batch{Sink: e.batch.Sink, Origin: e.batch.Origin, Stamp: e.batch.Stamp}
		t.passedOn++
		for _, x := range e.batch.Stamp.XIDs {
			if t.byXID == nil {
				t.byXID = make(map[uint64][]*entry)
			}
			t.byXID[x] = append(t.byXID[x], e)
		}
	}
	return t.acknowledge()
}

// unpass forgets a message that was passed on.
func (t *tracker) unpass(e *entry) {
	if !e.passed {
		return
	}
	t.passedOn--
	for _, x := range e.batch.Stamp.XIDs {
		if t.byXID[x] = slices.DeleteFunc(t.byXID[x], func(o *entry) bool { return o == e }); len(t.byXID[x]) == 0 {
			delete(t.byXID, x)
		}
	}
}

// acknowledge moves the floor. The newest claim is not acknowledged while something before it is to
// be purged: after a restart, a lane that has it behind itself has purged all before it.
func (t *tracker) acknowledge() (floor uint64) {
	for t.acks < len(t.queue) {
		e := t.queue[t.acks]
		if !e.done && !e.passed || e.seq == t.newestClaim && t.front <= t.acks {
			break
		}
		floor, e.acked = e.seq, true
		t.release(e)
		t.acks++
	}
	t.floor = max(t.floor, floor)
	return floor
}

// release takes an entry from those that are stuck.
func (t *tracker) release(e *entry) {
	if e.counted {
		t.stuck, t.stuckValues, t.stuckBytes = t.stuck-1, t.stuckValues-e.size, t.stuckBytes-e.bytes
		e.counted = false
	}
}

// oldest returns the first batch that is not purged, or nil.
func (t *tracker) oldest() *invalidation.Batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.queue {
		if !e.purged && e.batch != nil {
			return e.batch
		}
	}
	return nil
}

// move counts an entry as stuck, and tells who waits for it.
func (t *tracker) move(e *entry) {
	if !e.putOff && !e.acked {
		t.stuck, t.stuckValues, t.stuckBytes = t.stuck+1, t.stuckValues+e.size, t.stuckBytes+e.bytes
		e.counted = true
	}
	if e.moved != nil {
		close(e.moved)
		e.moved = nil
	}
}

// heldBack reports that it is a flush which the lane holds back on purpose, because it spreads flushes or holds
// them apart.
func (e *entry) heldBack() bool { return e.batch.Flush && !e.refused }

// putOff notes that all a message lacks are values that were deferred, or with refused, whose purges fail.
func (t *tracker) putOff(e *entry, refused bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !e.purged && (!e.putOff || e.refused != refused) {
		t.move(e)
		e.putOff, e.refused = true, refused
	}
}

// workedOnEarly notes what became of a message while its gates were closed.
func (t *tracker) workedOnEarly(e *entry, how earliness) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e.purged || e.early == purgedEarly {
		return
	}
	e.early = how
	if e.moved != nil {
		close(e.moved)
		e.moved = nil
	}
}

// onlyHere is the number of messages that are acknowledged and not purged, and of the transactions
// in them.
func (t *tracker) onlyHere() (messages, transactions int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.passedOn, len(t.byXID)
}

// behind is the number of messages, and of values in them, that one before them
// keeps from being acknowledged, and about the room they take in the stream.
func (t *tracker) behind() (messages, values int, bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stuck, t.stuckValues, t.stuckBytes
}
