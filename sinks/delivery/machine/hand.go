package machine

import (
	"errors"
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// Job is a manual purge.
type Job struct {
	msg   invalidation.Message
	entry *Entry
	// left are the invalidations that the sink has not taken yet.
	left  []invalidation.Invalidation
	pause time.Duration
	// refused are those that were parked.
	refused []invalidation.Invalidation
	// group is the newest that was being purged, or had been, when the first attempt began.
	group uint64
}

// retry is a manual purge that waits for its next attempt.
type retry struct {
	job *Job
	due time.Time
}

// cover is a manual purge that replaces everything before it in the lane.
type cover struct {
	job  *Job
	upTo uint64 // in the lane
	all  []invalidation.Invalidation
	full bool // a flush: covers even those
}

// AddByHand registers a manual purge in the order of their stream. again: the stream has delivered it before, or it
// holds nothing.
func (m *Machine) AddByHand(msg invalidation.Message) (j *Job, again bool) {
	e, again := m.hand.add(msg)
	if again || msg.Batch == nil {
		return nil, true
	}
	return &Job{msg: msg, entry: e, left: m.valuesByHand(msg.Batch), pause: MinPause}, false
}

// ArriveByHand hands over a manual purge, where AcceptsByHand says so. They have no gates: an operator means what is visible now.
func (m *Machine) ArriveByHand(j *Job) { m.urgent = append(m.urgent, j) }

// AcceptsByHand reports whether the machine takes another manual purge.
func (m *Machine) AcceptsByHand() bool { return !m.stopping && len(m.urgent) < maxJobs }

func (m *Machine) valuesByHand(b *invalidation.Batch) []invalidation.Invalidation {
	all := b.Invalidations(nil)
	if b.Flush {
		all = append(all, m.cfg.Flush()...)
	}
	return Distinct(all)
}

// urge puts manual purges whose next attempt is due among those that wait.
func (m *Machine) urge() {
	m.retries = slices.DeleteFunc(m.retries, func(r retry) bool {
		due := !m.now.Before(r.due)
		if due {
			m.urgent = append(m.urgent, r.job)
		}
		return due
	})
}

// serve carries out the first manual purge that waits, ahead of whatever the machine is at.
func (m *Machine) serve() {
	j := m.urgent[0]
	m.urgent = m.urgent[1:]
	if j.msg.Unknown != nil {
		// It is never acknowledged: a version that knows it carries it out.
		m.observe(Note{Condition: UnknownKind, Attrs: []any{"err", j.msg.Unknown, "seq", j.msg.Seq}, Counted: "messages", N: 1})
		m.do(Effect{Verb: ShowUnknown, Err: j.msg.Unknown})
		return
	}
	m.push(&byHand{job: j, left: Split(j.left, m.cfg.Limits)})
}

// byHand tries a manual purge once. What the sink may take later comes back after a
// pause, without holding the queue; what it refuses, for whatever reason, is
// parked: a human is at hand.
type byHand struct {
	untimed
	job   *Job
	left  [][]invalidation.Invalidation
	begun bool
	// Of a call that failed: what may be tried again, and when.
	call, again []invalidation.Invalidation
	after       time.Duration
	class       sinks.Class
	err         error
	state       byHandState
}

type byHandState int

const (
	toCallByHand byHandState = iota
	callingByHand
	sortedByHand
)

func (h *byHand) run(m *Machine) (waits bool) {
	j := h.job
	if !h.begun {
		h.begun = true
		if j.pause == MinPause {
			j.group = m.group
		}
		if b := j.msg.Batch; b.Flush && j.pause == MinPause {
			m.flusher.last = m.now
			m.do(Effect{Verb: FlushBegan, Name: b.Reason})
			m.observe(Note{Condition: Flushes, Labels: []string{"reason", b.Reason}, Counted: "flushes", N: 1})
		}
	}
	switch h.state {
	case toCallByHand:
		if len(h.left) == 0 {
			m.pop()
			h.end(m)
			return false
		}
		h.call, h.left = h.left[0], h.left[1:]
		h.state = callingByHand
		m.do(Effect{Verb: Call, Invs: h.call, ByHand: true})
		return true
	case callingByHand:
		e := m.answered()
		if e == nil {
			return true
		}
		h.state, h.again, h.err = sortedByHand, nil, e.Err
		if e.Err == nil {
			m.refused.take(h.call)
			break
		}
		var refused []invalidation.Invalidation
		h.again, refused, h.after = sortByHand(h.call, e.Err)
		j.refused = append(j.refused, refused...)
		if len(refused) > 0 {
			m.park(parcel(m.cfg.Name, refused, []Ready{{entry: j.entry, Msg: j.msg}}), e.Err, len(refused))
		}
	case sortedByHand:
		if h.state = toCallByHand; len(h.again) > 0 {
			m.pop()
			h.retry(m)
		}
	}
	return false
}

// retry lets a manual purge wait for another attempt at what is left.
func (h *byHand) retry(m *Machine) {
	j := h.job
	j.left = h.again
	for _, call := range h.left {
		j.left = append(j.left, call...)
	}
	class, _ := sinks.ClassOf(h.err)
	m.observe(Note{Condition: ManualFails, Attrs: []any{"class", class.String(), "err", h.err}, Counted: "retries", N: 1})
	m.retries = append(m.retries, retry{j, m.now.Add(max(h.after, m.backOff(j.pause)))})
	j.pause = min(2*j.pause, MaxPause)
}

// end announces a manual purge that was carried out. One that replaces what waits in the lane is done
// when the lane has come past that.
func (h *byHand) end(m *Machine) {
	j := h.job
	m.end(ManualFails)
	m.announce(j.msg, true)
	upTo := j.msg.Batch.Supersedes
	switch {
	case upTo > 0 && len(j.refused) > 0:
		m.observe(Note{Condition: SupersedeRefused, Attrs: []any{"seq", upTo}})
	case upTo > 0:
		if m.superseded != nil {
			// The newer one replaces whatever the older one did.
			m.doneByHand(m.superseded.job)
		}
		m.superseded = &cover{job: j, upTo: upTo, all: m.valuesByHand(j.msg.Batch), full: j.msg.Batch.Flush}
		m.observe(Note{Condition: Superseded, Attrs: []any{"seq", upTo}})
		m.releaseStuck(func(i *incomplete) bool { return m.coveredBy(i.ready.Msg) && i.group <= j.group }, false)
		return
	}
	m.doneByHand(j)
}

// sortByHand divides a failed request into what may be tried again and what is
// refused until an operator acts.
func sortByHand(request []invalidation.Invalidation, err error) (again, refused []invalidation.Invalidation, after time.Duration) {
	var batch *sinks.BatchError
	if errors.As(err, &batch) {
		again, refused, _, after = sortOut(request, batch)
		return again, refused, after
	}
	class, after := sinks.ClassOf(err)
	if class == sinks.Item || class == sinks.Lane {
		return nil, request, 0
	}
	return request, nil, after
}

// doneByHand ends a manual purge, or keeps it until it was done a second time.
func (m *Machine) doneByHand(j *Job) {
	m.hand.purge(j.entry)
	if m.cfg.SecondPurge > 0 {
		invs := without(Distinct(j.msg.Batch.Invalidations(nil)), j.refused)
		m.again.push(m.now.Add(m.cfg.SecondPurge), invs, nil, j)
		return
	}
	m.ackByHand(j)
}

func (m *Machine) ackByHand(j *Job) {
	if floor, _ := m.hand.finish(j.entry); floor > 0 {
		m.do(Effect{Verb: Ack, Seq: floor, ByHand: true})
	}
}

// coveredBy reports whether a manual purge replaces the message.
func (m *Machine) coveredBy(msg invalidation.Message) bool {
	c := m.superseded
	return c != nil && msg.Seq <= c.upTo && (msg.Batch == nil || !msg.Batch.Flush || c.full)
}

// coveredIn reports whether a manual purge has replaced a message of this group: one that is carried out again with it, or
// one that was begun and carried out between its requests, and so after its gates opened.
func (m *Machine) coveredIn(r Ready) bool {
	return r.covered || m.coveredBy(r.Msg) && m.superseded.job.group == m.group
}

// coveredWhole reports whether nothing of a turn need be carried out any more, because a manual purge has replaced all of it meanwhile.
func (m *Machine) coveredWhole(p *purge) bool {
	if p.second || p.apart || len(p.group) == 0 || len(p.job.met) > 0 {
		return false
	}
	for _, r := range p.group {
		if r.covered || !m.coveredIn(r) {
			return false
		}
	}
	return true
}

// uncover ends the cover once the lane has come past it.
func (m *Machine) uncover(group []Ready) {
	c := m.superseded
	if c == nil {
		return
	}
	for _, r := range group {
		if r.Msg.Seq >= c.upTo {
			m.superseded = nil
			m.doneByHand(c.job)
			return
		}
	}
}
