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

// purge begins to carry out what the turn comes to.
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
