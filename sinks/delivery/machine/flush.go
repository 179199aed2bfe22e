package machine

import (
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

const (
	// maxSteps is in how many steps a flush is spread at most.
	maxSteps = 60
	// maxHeld bounds the messages that are purged and not acknowledged behind a
	// flush that waits or runs. Past it, or past MaxPutOff, what is left of the flush goes
	// at once.
	maxHeld = 32768
)

// flusher knows the flushes that a lane has to carry out, where they are spread over a time
// or held apart. It belongs to the machine.
type flusher struct {
	pace, atMost time.Duration
	// waiting are messages that wait for a flush which has not begun, run for the one
	// that has.
	waiting []Ready
	run     []Ready
	// left are the steps to come, the next one at due.
	left [][]invalidation.Invalidation
	due  time.Time
	step time.Duration
	last time.Time // when the newest flush began
	// hurried: the bound is passed.
	hurried bool
}

// on reports whether flushes wait beside the queue, or carried out in turn.
func (f *flusher) on() bool { return f.pace > 0 || f.atMost > 0 }

func (f *flusher) busy() bool { return len(f.waiting)+len(f.run) > 0 }

// next returns when something is to be done.
func (f *flusher) next() (time.Time, bool) {
	switch {
	case len(f.run) > 0:
		return f.due, true
	case len(f.waiting) == 0:
		return time.Time{}, false
	case f.last.IsZero() || f.hurried:
		return time.Time{}, true
	}
	return f.last.Add(f.atMost), true
}

// begin starts a flush for all that wait.
func (f *flusher) begin(plan []invalidation.Invalidation, now time.Time) {
	f.run, f.waiting = f.waiting, nil
	f.last, f.due, f.step = now, now, 0
	f.left = [][]invalidation.Invalidation{plan}
	if f.pace == 0 || len(plan) == 0 {
		return
	}
	n := min(maxSteps, len(plan))
	f.step = f.pace / time.Duration(n)
	f.left = nil
	for i := range n {
		f.left = append(f.left, plan[i*len(plan)/n:(i+1)*len(plan)/n])
	}
}

// hurry ends all pauses of the flushes that wait now.
func (f *flusher) hurry() {
	f.hurried, f.due = true, time.Time{}
}

// end returns the messages that the flush was for.
func (f *flusher) end() []Ready {
	done := f.run
	f.run, f.left = nil, nil
	f.hurried = false
	return done
}

// flushPart is a part of a flush that goes on beside the queue.
type flushPart struct {
	untimed
	of    *purge
	began time.Time
	asked bool
}

// flushOn begins the next part of a flush that is due.
func (m *Machine) flushOn() {
	f := m.flusher
	if at, some := f.next(); !some || m.now.Before(at) {
		return
	}
	if len(f.run) == 0 {
		f.begin(Distinct(append([]invalidation.Invalidation(nil), m.cfg.Flush()...)), m.now)
		for _, r := range f.run {
			m.beginning(r)
		}
		reason := f.run[0].Msg.Batch.Reason
		m.do(Effect{Verb: FlushBegan, Name: reason})
		m.observe(Note{Condition: Flushes, Labels: []string{"reason", reason}, Attrs: []any{"joined", len(f.run), "steps", len(f.left), "pace", f.pace}, Counted: "flushes", N: 1})
	}
	m.push(&flushPart{of: &purge{group: f.run, job: &job{}, apart: true}, began: m.now})
}

func (p *flushPart) run(m *Machine) bool {
	f := m.flusher
	if !p.asked {
		p.asked = true
		m.requests(f.left[0], p.of)
		return false
	}
	m.pop()
	m.setAside(f.run, p.of.job)
	f.left = f.left[1:]
	if f.due = p.began.Add(f.step); f.hurried {
		f.due = p.began
	}
	if len(f.left) > 0 {
		m.do(Effect{Verb: Works})
		return false
	}
	done := f.end()
	m.showFlushing()
	m.do(Effect{Verb: Works})
	m.finish(done, nil)
	return false
}

// defers reports whether a message's flush is carried out beside the queue.
func (m *Machine) defers(r Ready) bool {
	b := r.Msg.Batch
	return m.flusher.on() && b != nil && b.Flush && !r.skipped && !m.coveredIn(r)
}

// showFlushing shows whether a flush waits or runs.
func (m *Machine) showFlushing() { m.do(Effect{Verb: ShowFlushing, On: m.flusher.busy()}) }

// bound keeps what is purged and not acknowledged within its limits: past them
// what holds it up goes before its time.
func (m *Machine) bound() {
	messages, values, bytes := m.tracker.behind()
	room := m.cfg.MaxPutOff > 0 && bytes > m.cfg.MaxPutOff
	if m.flusher.busy() || len(m.stuck.lacking) > 0 {
		if room || messages > maxHeld {
			m.flusher.hurry()
			m.pacer.hurry(m.now)
		}
		return
	}
	passed, transactions := m.tracker.onlyHere()
	if room || messages > MaxDeferred || values > maxDeferredValues || passed > maxPassed || transactions > maxPassedXIDs {
		m.pacer.hurry(m.now)
	}
}

// Trade makes a flush replace every message before it. No watermark moves
// until that is done.
func (m *Machine) Trade(seq uint64) {
	m.tracker.hold(seq)
	m.traded = seq
}

// replacesBacklog reports whether a batch is a flush that replaces all that its lane had in the stream
// before it.
func replacesBacklog(b *invalidation.Batch) bool {
	return b.Flush && b.Reason == invalidation.FlushOverflow
}

// Skips reports whether a flush that has not begun replaces the message.
func (m *Machine) Skips(msg invalidation.Message) bool {
	return msg.Seq < m.traded && m.begun < m.traded
}

// spare gives up the messages of a group that a flush replaces, before that
// may keep the others waiting, and returns those.
func (m *Machine) spare(group []Ready) []Ready {
	var rest, skipped []Ready
	for _, r := range group {
		if r.skipped = m.Skips(r.Msg); r.skipped {
			skipped = append(skipped, r)
		} else {
			rest = append(rest, r)
		}
	}
	if len(skipped) > 0 {
		m.finish(skipped, nil)
	}
	return rest
}

// overflown reports whether a flush that has not begun replaces all of a turn,
// so that it need not be carried out.
func (m *Machine) overflown(p *purge) bool {
	if m.begun >= m.traded {
		return false
	}
	if p.second && m.newest >= m.traded {
		return false
	}
	for _, r := range p.group {
		if !m.Skips(r.Msg) {
			return false
		}
	}
	return true
}

// beginning notes that the flush of a message begins. One that runs early is followed by
// another behind open gates, which replaces the backlog as before.
func (m *Machine) beginning(r Ready) {
	if b := r.Msg.Batch; b != nil && b.Flush && r.Final {
		m.begun = max(m.begun, r.Msg.Seq)
	}
}

// hold keeps claims back until a message was purged, which it may have been already: who
// put it into the stream says so after the lane could read it.
func (t *tracker) hold(seq uint64) {
	if seq > t.passed {
		t.held = max(t.held, seq)
	}
}
