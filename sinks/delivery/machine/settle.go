package machine

import (
	"github.com/walpurge/walpurge/rules/invalidation"
)

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
			o = &deferral{ready: group[d.ready], values: group[d.ready].size()}
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

// finish gives up messages that are done, or keeps them until what they come to
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
