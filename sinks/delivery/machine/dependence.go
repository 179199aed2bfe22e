package machine

import (
	"math"
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Before returns the first message before seq that a message of another lane with this dependence waits for, nil without
// one. unread: messages before seq may not have been read yet.
func (m *Machine) Before(seq uint64, depends *Dependence, until Until) (first *Blocker, unread bool) {
	return m.tracker.before(seq, depends, until)
}

// PassedBefore returns a message before seq that was acknowledged and not purged, and that another lane's message depends on.
func (m *Machine) PassedBefore(seq uint64, depends *Dependence) *Entry {
	return m.tracker.passedBefore(seq, depends)
}

// Until says how much of a lane's work another lane waits for.
type Until int

const (
	// AllPurged: all of it, purged behind open gates.
	AllPurged Until = iota
	// AllPurgedOrDeferred: what is deferred because of a rule's period is left out.
	AllPurgedOrDeferred
	// AllPurgedOnce: so is what was purged while the lane's own gates were closed.
	AllPurgedOnce
	// AllSettled: all of it, second purges too.
	AllSettled
)

// Blocker is a message that another lane waits for. Off is set where it is deferred, Flush where it is
// a flush that is held back on purpose, Early where it was purged before its gates were open. Entry changes before that ends.
type Blocker struct {
	Off, Flush, Early bool
	Entry             *Entry
}

// before finds the first message before seq that is not purged; one that is
// deferred only if it is one to depend on, and only if there is no other, a flush that is held back before all else. With depends
// nil all are. With AllPurgedOnce, one that was purged early is found only if there is no other. With AllSettled, one that waits
// for its second purge is found, too. If messages before
// seq are not all known, unread is set.
func (t *tracker) before(seq uint64, depends *Dependence, until Until) (first *Blocker, unread bool) {
	watch := func(e *Entry) *Blocker {
		e.watched = true
		return &Blocker{Entry: e}
	}
	var early *Entry
	off := t.passedFor(seq, depends)
	for _, e := range t.queue[t.acks:] {
		if until == AllSettled && e.seq < seq && e.purged && !e.done {
			return watch(e), false
		}
		if e.seq >= seq || e.purged || e.batch == nil {
			continue
		}
		isEarly := until == AllPurgedOnce && e.early != notEarly
		if !e.putOff && !isEarly {
			return watch(e), false
		}
		if (e.putOff || e.early == deferredEarly) && (depends == nil || depends.on(e)) && (off == nil || e.heldBack()) {
			off = e
		}
		if early == nil && !e.putOff {
			early = e
		}
	}
	if t.read < seq {
		return nil, true
	}
	if off != nil {
		first = watch(off)
		first.Off, first.Flush = true, off.heldBack()
		return first, false
	}
	if early != nil {
		first = watch(early)
		first.Early = true
		return first, false
	}
	return nil, false
}

// passedFor finds a message before seq to depend on that is passed on and not purged. With depends nil all are.
func (t *tracker) passedFor(seq uint64, depends *Dependence) *Entry {
	if t.front < t.acks && t.queue[t.front].seq < seq && (depends == nil || t.queue[t.front].seq <= depends.upTo) {
		return t.queue[t.front] // all that are acknowledged and not purged are passed on
	}
	if depends == nil {
		return nil
	}
	for x := range depends.xids {
		// The stream holds a transaction more than once where it was published again.
		if i := slices.IndexFunc(t.byXID[x], func(e *Entry) bool { return e.seq < seq }); i >= 0 {
			return t.byXID[x][i]
		}
	}
	return nil
}

// passedBefore returns a message before seq that others depend on, and that is acknowledged already and not purged; nil
// without one.
func (t *tracker) passedBefore(seq uint64, depends *Dependence) *Entry {
	e := t.passedFor(seq, depends)
	if e != nil {
		e.watched = true
	}
	return e
}

// Dependence tells which messages that are deferred a batch of another lane must wait for: those of
// its transactions; for a flush, flushes; and all up to upTo. For a flush that replaces a backlog that is all of
// them, since what it replaces may depend on any.
type Dependence struct {
	xids  map[uint64]struct{}
	flush bool
	upTo  uint64
}

// Flush reports that it is that of a flush.
func (d *Dependence) Flush() bool { return d.flush }

// DependsOn returns what a batch of another lane depends on.
func DependsOn(of *invalidation.Batch, upTo uint64) *Dependence {
	d := &Dependence{xids: make(map[uint64]struct{}, len(of.Stamp.XIDs)), flush: of.Flush, upTo: upTo}
	if replacesBacklog(of) {
		d.upTo = math.MaxUint64
	}
	for _, x := range of.Stamp.XIDs {
		d.xids[x] = struct{}{}
	}
	return d
}

func (d *Dependence) on(e *Entry) bool {
	if e.seq <= d.upTo || d.flush && e.batch.Flush {
		return true
	}
	for _, x := range e.batch.Stamp.XIDs {
		if _, in := d.xids[x]; in {
			return true
		}
	}
	return false
}
