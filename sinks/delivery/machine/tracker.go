package machine

import (
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// tracker knows which messages of a lane are done, and so how far the lane is
// done without a hole.
type tracker struct {
	queue []*Entry
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
	byXID    map[uint64][]*Entry
	// passed is the newest message before which all, and which itself, was purged.
	passed uint64
	// held is the message that claims are held back for, 0 when it was purged. frontClaim and claim wait for that.
	held              uint64
	frontClaim, claim *cdc.Claim
	// changed are the messages that were watched and have changed.
	changed []*Entry
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

// Entry is a message of a lane and what became of it.
type Entry struct {
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
	// watched: another lane wants to know when purged, done, putOff or early changes.
	watched bool
	size    int
	bytes   int64
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
func (t *tracker) add(m invalidation.Message) (e *Entry, again bool) {
	if m.Seq <= t.floor {
		return nil, true
	}
	for i := len(t.queue) - 1; i >= 0 && t.queue[i].seq >= m.Seq; i-- {
		if t.queue[i].seq == m.Seq {
			return t.queue[i], true
		}
	}
	e = &Entry{seq: m.Seq, claim: m.Claim, batch: m.Batch, size: SizeOf(m.Batch), bytes: bytesOf(m.Batch)}
	t.queue = append(t.queue, e)
	t.read = m.Seq
	if m.Claim != nil {
		t.newestClaim = m.Seq
	}
	return e, false
}

// purge marks messages as purged, and returns the newest claim among those
// before which everything is, if that moved.
// Claims of an epoch older than the newest seen are a zombie's and say nothing.
func (t *tracker) purge(entries ...*Entry) (claim *cdc.Claim) {
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
func (t *tracker) finish(entries ...*Entry) (floor uint64, claim *cdc.Claim) {
	for _, e := range entries {
		e.done = true
		t.notify(e)
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
func (t *tracker) passOn(entries ...*Entry) (floor uint64) {
	for _, e := range entries {
		if e.passed || e.purged || e.batch == nil {
			continue
		}
		e.passed = true
		e.batch = &invalidation.Batch{Sink: e.batch.Sink, Origin: e.batch.Origin, Stamp: e.batch.Stamp}
		t.passedOn++
		for _, x := range e.batch.Stamp.XIDs {
			if t.byXID == nil {
				t.byXID = make(map[uint64][]*Entry)
			}
			t.byXID[x] = append(t.byXID[x], e)
		}
	}
	return t.acknowledge()
}

// unpass forgets a message that was passed on.
func (t *tracker) unpass(e *Entry) {
	if !e.passed {
		return
	}
	t.passedOn--
	for _, x := range e.batch.Stamp.XIDs {
		if t.byXID[x] = slices.DeleteFunc(t.byXID[x], func(o *Entry) bool { return o == e }); len(t.byXID[x]) == 0 {
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
func (t *tracker) release(e *Entry) {
	if e.counted {
		t.stuck, t.stuckValues, t.stuckBytes = t.stuck-1, t.stuckValues-e.size, t.stuckBytes-e.bytes
		e.counted = false
	}
}

// oldest returns the first batch that is not purged, or nil.
func (t *tracker) oldest() *invalidation.Batch {
	for _, e := range t.queue {
		if !e.purged && e.batch != nil {
			return e.batch
		}
	}
	return nil
}

// move counts an entry as stuck, and tells who waits for it.
func (t *tracker) move(e *Entry) {
	if !e.putOff && !e.acked {
		t.stuck, t.stuckValues, t.stuckBytes = t.stuck+1, t.stuckValues+e.size, t.stuckBytes+e.bytes
		e.counted = true
	}
	t.notify(e)
}

// notify tells who watches an entry that it has changed.
func (t *tracker) notify(e *Entry) {
	if e.watched {
		e.watched = false
		t.changed = append(t.changed, e)
	}
}

// heldBack reports that it is a flush which the lane holds back on purpose, because it spreads flushes or holds
// them apart.
func (e *Entry) heldBack() bool { return e.batch.Flush && !e.refused }

// putOff notes that all a message lacks are values that were deferred, or with refused, whose purges fail.
func (t *tracker) putOff(e *Entry, refused bool) {
	if !e.purged && (!e.putOff || e.refused != refused) {
		t.move(e)
		e.putOff, e.refused = true, refused
	}
}

// workedOnEarly notes what became of a message while its gates were closed.
func (t *tracker) workedOnEarly(e *Entry, how earliness) {
	if e.purged || e.early == purgedEarly {
		return
	}
	e.early = how
	t.notify(e)
}

// onlyHere is the number of messages that are acknowledged and not purged, and of the transactions
// in them.
func (t *tracker) onlyHere() (messages, transactions int) {
	return t.passedOn, len(t.byXID)
}

// behind is the number of messages, and of values in them, that one before them
// keeps from being acknowledged, and about the room they take in the stream.
func (t *tracker) behind() (messages, values int, bytes int64) {
	return t.stuck, t.stuckValues, t.stuckBytes
}

// Inherit says that messages up to newest may hold what an earlier run has deferred. Claims are held back until they are purged.
func (m *Machine) Inherit(newest uint64) { m.tracker.inherited = newest }

// Oldest returns the first batch that is not purged, or nil.
func (m *Machine) Oldest() *invalidation.Batch { return m.tracker.oldest() }

// ReadUpTo is the newest message that was registered.
func (m *Machine) ReadUpTo() uint64 { return m.tracker.read }

// PassedUpTo is the newest message up to which everything was purged.
func (m *Machine) PassedUpTo() uint64 { return m.tracker.passed }

// HoldClaims keeps claims back until the message at seq was purged.
func (m *Machine) HoldClaims(seq uint64) { m.tracker.hold(seq) }

// Holding reports that claims are kept back for a message that is not purged.
func (m *Machine) Holding() bool { return m.tracker.held > 0 }

// Distrust keeps claims back until Trust.
func (m *Machine) Distrust() { m.tracker.distrusted = true }

// Trust ends Distrust, and returns the claims that were kept back for it, for what was purged and what has settled.
func (m *Machine) Trust() (purged, settled *cdc.Claim) {
	t := &m.tracker
	if t.distrusted = false; t.saysClaims() {
		purged, settled = t.frontClaim, t.claim
		t.frontClaim, t.claim = nil, nil
	}
	return purged, settled
}

// Changed returns the messages of Before and PassedBefore that have changed, and forgets them.
func (m *Machine) Changed() []*Entry {
	changed := m.tracker.changed
	m.tracker.changed = nil
	return changed
}
