package machine

import (
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// turn purges a group of messages, and what was deferred and is due, and gives up what is
// done with it.
type turn struct {
	untimed
	group []Ready
	state turnState
	began time.Time
	job   *job
	all   []invalidation.Invalidation
	// unbuilds are the conditions of what is parked.
	unbuilds []Note
}

type turnState int

const (
	toPurge turnState = iota
	purgedAll
	parkedAll
)

func (t *turn) run(m *Machine) bool {
	switch t.state {
	case toPurge:
		t.state = purgedAll
		t.purge(m)
	case purgedAll:
		t.state = parkedAll
		if len(t.all) > 0 && len(t.job.aside) < len(t.all) {
			m.do(Effect{Verb: Works})
		}
		m.do(Effect{Verb: Point, Name: "purged"})
		if !t.job.flush {
			t.unbuilds = m.parkUnbuilt(t.group)
		}
	case parkedAll:
		m.pop()
		t.settle(m)
	}
	return false
}

// purge begins to carry out what the turn amounts to.
func (t *turn) purge(m *Machine) {
	m.group++
	m.do(Effect{Verb: TurnBegan})
	if m.cfg.AckBeforePurge {
		m.giveUp(t.group)
	}
	m.do(Effect{Verb: Point, Name: "delivered"})
	t.group = m.spare(t.group)
	t.began = m.now
	t.job = m.plan(t.group, m.now)
	for _, r := range t.group {
		b := r.Msg.Batch
		if b == nil || !b.Flush || r.skipped {
			continue
		}
		if r.covered {
			m.beginning(r) // what the manual purge has is purged in its place now
		} else if !m.flusher.on() {
			m.beginning(r)
			m.do(Effect{Verb: FlushBegan, Name: b.Reason})
			m.observe(Note{Condition: Flushes, Labels: []string{"reason", b.Reason}, Attrs: []any{"lsn", b.Stamp.Position.LSN.String()}, Counted: "flushes", N: 1})
		}
	}
	if t.job.coalesced > 0 {
		m.do(Effect{Verb: Coalesced, N: t.job.coalesced})
	}
	for rule, values := range t.job.collapsed {
		m.do(Effect{Verb: Collapsed, Name: rule, N: values})
		m.observe(Note{Condition: Coarsened, Labels: []string{"rule", rule}, Counted: "values", N: values})
	}
	t.all = t.job.invs
	if t.job.flush {
		m.do(Effect{Verb: FlushesInTurn})
		t.all = append(t.all, m.cfg.Flush()...)
	}
	if len(t.all) > 0 {
		m.requests(t.all, &purge{group: t.job.sources(t.group), job: t.job})
	}
}

// settle notes what was purged, and gives up the messages that are done.
func (t *turn) settle(m *Machine) {
	for _, e := range t.unbuilds {
		m.observe(e)
	}
	for _, r := range t.group {
		if b := r.Msg.Batch; b != nil && b.Stamp.Trace != "" {
			m.do(Effect{Verb: Traced, Batch: b, At: t.began})
		}
	}
	m.again.note(without(t.job.invs, t.job.aside), t.began)
	m.setAside(t.group, t.job)
	m.finish(m.settle(t.group, t.job), m.repeats(t.group, t.job))
	m.passOn()
	m.bound()
	m.do(Effect{Verb: TurnEnded, N: len(t.group)})
	if m.cfg.JoinsInFlight || m.cfg.FlushAbsorbsLater && t.flushes() {
		m.do(Effect{Verb: AbsorbLater})
	}
}

func (t *turn) flushes() bool {
	for _, r := range t.group {
		if r.Msg.Batch != nil && r.Msg.Batch.Flush {
			return true
		}
	}
	return false
}

// Absorb is the seeded fault of AbsorbLater: messages that came later are taken as purged.
func (m *Machine) Absorb(later []Ready, now time.Time) []Effect {
	m.now, m.out = now, m.out[:0]
	m.finish(later, nil)
	return m.out
}

// besides carries out what is due beside the queue.
type besides struct {
	untimed
	done int
}

func (b *besides) run(m *Machine) bool {
	b.done++
	switch b.done {
	case 1:
		m.flushOn()
	case 2:
		m.repeat()
	case 3:
		m.retryStuck()
	default:
		m.pop()
	}
	return false
}

// settle notes what a turn has purged and what it has deferred, and returns the
// messages that have nothing left.
func (m *Machine) settle(group []Ready, j *job) []Ready {
	aside := make(map[value]bool, len(j.aside))
	for _, inv := range j.aside {
		aside[value{inv.Kind, inv.Value}] = true
	}
	for _, v := range j.paced {
		if !aside[v.value] {
			m.pacer.note(v.value, v.every, m.now)
		}
	}
	late := make(map[int]*deferral)
	for _, d := range j.later {
		o := late[d.ready]
		if o == nil {
			o = &deferral{ready: group[d.ready], values: group[d.ready].Size()}
			late[d.ready] = o
		}
		if m.pacer.putOff(o, d.value, d.item, d.due) {
			m.do(Effect{Verb: Coalesced, N: 1})
		}
	}
	done := m.pacer.done(j.met)
	for i, r := range group {
		if !r.skipped {
			m.newest = max(m.newest, r.Msg.Seq)
		}
		if m.defers(r) {
			m.flusher.waiting = append(m.flusher.waiting, r)
			m.showFlushing()
			m.putOff(r)
			continue
		}
		if !r.skipped {
			m.beginning(r) // a flush that a manual one has replaced during the turn
		}
		o := late[i]
		if o == nil {
			done = append(done, r)
			continue
		}
		// Listeners need not wait for the deferred values; they hear of them again.
		m.announce(r.Msg, false)
		m.pacer.deferrals = append(m.pacer.deferrals, o)
		m.putOff(r)
	}
	return done
}

// putOff notes that all that a message lacks is deferred.
func (m *Machine) putOff(r Ready) {
	if r.Final {
		m.tracker.putOff(r.entry, false)
	} else {
		m.tracker.workedOnEarly(r.entry, deferredEarly)
	}
}

// passOn acknowledges messages of which newer ones hold all that is deferred. Their lane's watermark
// stays before them until that is purged.
func (m *Machine) passOn() {
	entries := m.pacer.passedOn(m.again.on, m.stuck.lacking)
	if len(entries) == 0 {
		return
	}
	m.ack(m.tracker.passOn(entries...))
}

// ack acknowledges everything up to a message, if there is one.
func (m *Machine) ack(floor uint64) {
	if floor == 0 {
		return
	}
	m.do(Effect{Verb: Ack, Seq: floor})
	m.do(Effect{Verb: Point, Name: "acknowledged"})
}

// finish gives up messages that are done, or keeps them until what they named
// was purged a second time. Messages that lack values which are set aside stay until these are
// purged.
func (m *Machine) finish(group []Ready, invs []invalidation.Invalidation) {
	all := group
	group, withheld := m.stuck.withhold(group)
	for _, r := range withheld {
		m.tracker.putOff(r.entry, true)
	}
	var first []*Entry
	for _, r := range group {
		if b := r.Msg.Batch; b != nil && b.Origin == invalidation.FromWAL && !r.skipped {
			m.do(Effect{Verb: Latency, Batch: b, At: m.now})
		}
		if !r.skipped {
			m.announce(r.Msg, false)
		}
		switch {
		case r.Final:
			first = append(first, r.entry)
		case !r.skipped:
			m.tracker.workedOnEarly(r.entry, purgedEarly)
		}
	}
	m.purged(first)
	m.do(Effect{Verb: Point, Name: "announced"})
	at := m.now.Add(m.cfg.SecondPurge)
	owners, rest := m.again.owners(group)
	m.again.push(at, invs, owners, nil)
	m.giveUp(rest)
	m.uncover(all)
}

// purged marks messages as purged once, and moves the lane's watermark.
func (m *Machine) purged(first []*Entry) {
	if claim := m.tracker.purge(first...); claim != nil {
		m.do(Effect{Verb: Purged, Claim: claim})
	}
}

func (m *Machine) announce(msg invalidation.Message, byHand bool) {
	if msg.Batch != nil {
		m.do(Effect{Verb: Announce, Seq: msg.Seq, Batch: msg.Batch, ByHand: byHand})
	}
}

// giveUp marks the messages of a group that are final as purged and done,
// acknowledges as far as all are, and moves the lane's watermarks.
func (m *Machine) giveUp(group []Ready) {
	done := make([]*Entry, 0, len(group))
	for _, r := range group {
		if r.Final {
			done = append(done, r.entry)
		}
	}
	m.purged(done)
	floor, claim := m.tracker.finish(done...)
	m.ack(floor)
	if claim != nil {
		m.do(Effect{Verb: Settled, Claim: claim})
	}
}
