package machine

import (
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

const (
	// MaxLate, maxLateValues and MaxPutOff bound the messages, the values in them
	// and the room that they take in the stream, that wait for their second purge.
	// Past them the lane reads no further: a second purge before its time is of no
	// use, and one that is left out breaks a promise. Manual purges are counted by
	// themselves, so that a storm does not hold them up.
	MaxLate       = 16384
	maxLateValues = 200_000
	// maxSlack is how much later than asked a second purge may begin, so that what
	// comes due at nearly the same time goes together.
	maxSlack = 100 * time.Millisecond
)

// again knows what is to be purged a second time, and when. It belongs to the
// machine.
//
// What is purged is pushed in the order of its first purges, and taken in the
// same order. So a message that was purged in several turns, because a value was
// deferred, is done with the entry of the last.
type again struct {
	on    bool
	slack time.Duration
	per   int // values in one turn
	queue []late
	// waits has for every value in the queue when its newest purge began.
	waits map[value]*waiting
	// stuck counts the entries that are. A message may be among those of several entries, so while
	// there are some, held keeps what entries behind them are done with.
	stuck int
	held  []late

	room, handRoom room
}

// late is what is purged again at some time, and what is done with that.
type late struct {
	at     time.Time
	invs   []invalidation.Invalidation
	owners []Ready
	hand   *Job
	// stuck: its values were due before, and are of a kind that failed.
	stuck bool
}

type waiting struct {
	entries int
	began   time.Time
}

func newAgain(cfg Config) *again {
	return &again{
		on: cfg.SecondPurge > 0, slack: min(maxSlack, cfg.SecondPurge/16), per: max(1, cfg.Limits.Items),
		waits: make(map[value]*waiting), room: room{maxBytes: cfg.MaxPutOff}, handRoom: room{maxBytes: cfg.MaxPutOff},
	}
}

// owners divides messages into those that wait for a second purge and those
// that have nothing to wait for.
func (a *again) owners(group []Ready) (owners, rest []Ready) {
	if !a.on {
		return nil, group
	}
	for _, r := range group {
		if r.Final && !r.skipped && (r.Size() > 0 || r.passed) {
			owners = append(owners, r)
		} else {
			rest = append(rest, r)
		}
	}
	return owners, rest
}

// push adds what was purged and is to be purged again. The owners are done with
// that.
func (a *again) push(at time.Time, invs []invalidation.Invalidation, owners []Ready, hand *Job) {
	if len(invs) == 0 && len(owners) == 0 && hand == nil {
		return
	}
	a.count(late{owners: owners, hand: hand}, 1)
	for _, inv := range invs {
		v := value{inv.Kind, inv.Value}
		if a.waits[v] == nil {
			a.waits[v] = &waiting{}
		}
		a.waits[v].entries++
	}
	for len(invs) > a.per {
		a.queue = append(a.queue, late{at: at, invs: invs[:a.per:a.per]})
		invs = invs[a.per:]
	}
	a.queue = append(a.queue, late{at: at, invs: invs, owners: owners, hand: hand})
}

// note remembers when a purge of values began that has been carried out: it is
// the second one for whatever was due by then.
func (a *again) note(invs []invalidation.Invalidation, began time.Time) {
	if len(a.queue) == 0 {
		return
	}
	for _, inv := range invs {
		if w := a.waits[value{inv.Kind, inv.Value}]; w != nil {
			w.began = began
		}
	}
}

// next returns when something is to be done.
func (a *again) next() (time.Time, bool) {
	if len(a.queue) == 0 {
		return time.Time{}, false
	}
	return a.queue[0].at.Add(a.slack), true
}

// take returns how many entries are due, as many as go in one turn, and what of
// them has not been purged since it was due.
func (a *again) take(now time.Time) (entries int, invs []invalidation.Invalidation) {
	if at, some := a.next(); !some || now.Before(at) {
		return 0, nil
	}
	for entries < len(a.queue) && !now.Before(a.queue[entries].at) && (entries == 0 || len(invs) < a.per) {
		e := a.queue[entries]
		for _, inv := range e.invs {
			if a.waits[value{inv.Kind, inv.Value}].began.Before(e.at) {
				invs = append(invs, inv)
			}
		}
		entries++
	}
	return entries, Distinct(invs)
}

// drop removes the first entries and returns them.
func (a *again) drop(entries int) []late {
	out := append([]late(nil), a.queue[:entries]...)
	clear(a.queue[:entries])
	a.queue = a.queue[entries:]
	for _, e := range out {
		for _, inv := range e.invs {
			v := value{inv.Kind, inv.Value}
			if a.waits[v].entries--; a.waits[v].entries == 0 {
				delete(a.waits, v)
			}
		}
		a.count(e, -1)
	}
	return out
}

// repeats is what of a turn is purged again: nothing if all its messages come
// again by themselves, because their gates are closed.
func (m *Machine) repeats(group []Ready, j *job) []invalidation.Invalidation {
	final := len(j.met) > 0
	for _, r := range group {
		final = final || r.Final
	}
	if !m.again.on || !final {
		return nil
	}
	return without(Distinct(append(without(j.twice, j.refused), j.instead...)), j.aside)
}

// second is a round of second purges.
type second struct {
	untimed
	of      *purge
	entries int
	invs    []invalidation.Invalidation
	began   time.Time
	asked   bool
}

// repeat begins second purges that are due, about as many as go in one
// call, so that first ones do not wait for long.
func (m *Machine) repeat() {
	entries, invs := m.again.take(m.now)
	if entries == 0 {
		return
	}
	p := &purge{job: &job{}, second: true}
	for _, e := range m.again.queue[:entries] {
		p.group = append(p.group, e.owners...)
	}
	m.push(&second{of: p, entries: entries, invs: invs, began: m.now})
}

func (s *second) run(m *Machine) bool {
	if !s.asked {
		s.asked = true
		m.requests(s.invs, s.of)
		return false
	}
	m.pop()
	if len(s.invs) > len(s.of.job.aside) {
		m.do(Effect{Verb: Works})
	}
	m.again.note(without(s.invs, s.of.job.aside), s.began)
	aside := make(map[value]bool, len(s.of.job.aside))
	for _, inv := range s.of.job.aside {
		aside[value{inv.Kind, inv.Value}] = true
	}
	a := m.again
	dropped := a.drop(s.entries)
	for _, e := range dropped {
		left := slices.DeleteFunc(e.invs, func(inv invalidation.Invalidation) bool { return !aside[value{inv.Kind, inv.Value}] })
		if e.stuck {
			a.stuck--
		}
		if len(left) > 0 {
			a.push(m.now.Add(m.cfg.SecondPurge), left, nil, nil)
			a.queue[len(a.queue)-1].stuck = true
			a.stuck++
		}
		e.invs = nil
		a.hold(e)
	}
	if a.stuck > 0 {
		return false
	}
	var done []Ready
	for _, e := range a.release() {
		done = append(done, e.owners...)
		if e.hand != nil {
			m.ackByHand(e.hand)
		}
	}
	m.giveUp(done)
	return false
}

// hold keeps the messages of an entry that is done.
func (a *again) hold(e late) {
	if len(e.owners) == 0 && e.hand == nil {
		return
	}
	a.held = append(a.held, e)
	a.count(e, 1)
}

// release returns the entries that were held.
func (a *again) release() []late {
	held := a.held
	a.held = nil
	for _, e := range held {
		a.count(e, -1)
	}
	return held
}

// count adds the messages of an entry to those that wait for their second purge, or removes them.
func (a *again) count(e late, n int) {
	for _, r := range e.owners {
		a.room.add(r.Msg.Batch, n)
	}
	if e.hand != nil {
		a.handRoom.add(e.hand.msg.Batch, n)
	}
}

// room counts what waits for its second purge.
type room struct {
	maxBytes         int64
	messages, values int
	bytes            int64
}

func (r *room) add(b *invalidation.Batch, n int) {
	r.messages += n
	r.values += n * SizeOf(b)
	r.bytes += int64(n) * bytesOf(b)
}

func (r *room) full() bool {
	return r.messages >= MaxLate || r.values >= maxLateValues || r.maxBytes > 0 && r.bytes >= r.maxBytes
}

// Full reports that so much waits for its second purge that no further messages, or manual purges, are to be read.
func (m *Machine) Full() (queue, byHand bool) { return m.again.room.full(), m.again.handRoom.full() }
