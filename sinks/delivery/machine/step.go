package machine

import (
	"errors"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// step is a part of what is under way.
type step interface {
	// run goes on as far as it can, and reports whether it waits: for the answer of a call, for a time or for a change. It
	// returns false when it has put another step above itself, or has ended and taken itself from the stack.
	run(m *Machine) (waits bool)
	// wakes is when a step that waits for a time goes on.
	wakes() (at time.Time, some bool)
}

func (m *Machine) push(s step) { m.stack = append(m.stack, s) }

func (m *Machine) pop() {
	n := len(m.stack) - 1
	m.stack[n] = nil
	m.stack = m.stack[:n]
}

// answered returns the answer of a call, nil if it has not come.
func (m *Machine) answered() *Event {
	e := m.answer
	m.answer = nil
	return e
}

// purge is what the calls of one turn share.
type purge struct {
	group []Ready
	job   *job
	// spare is set where coarser values are tried for refused ones: failed then tells that they were refused as well.
	spare, failed bool
	// second is set where it is the second purge, apart where it is a flush beside the queue.
	second, apart bool
	// retry is set where it is what was set aside. rest are the calls to come in this turn.
	retry bool
	rest  [][]invalidation.Invalidation
	// took are the kinds that the sink has taken in this turn.
	took invalidation.KindSet
}

// calls carries out the calls of a purge one after the other.
type calls struct {
	untimed
	of   *purge
	left [][]invalidation.Invalidation
	// whole: they are all of a turn. What fails meanwhile is left out of those to come, and rest is what is left of them.
	whole bool
	// after is what follows these calls in the turn, where they are the parts of one; nil where rest stays as it is.
	after [][]invalidation.Invalidation
	parts bool
	begun bool
}

// requests carries out invalidations in as few calls as the limits allow. What it sets aside of
// them is in the job then.
func (m *Machine) requests(all []invalidation.Invalidation, p *purge) {
	all, failing := m.stuck.partition(all)
	p.job.aside = append(p.job.aside, failing...)
	m.push(&calls{of: p, left: Split(all, m.cfg.Limits), whole: true})
}

func (c *calls) run(m *Machine) bool {
	if len(c.left) == 0 {
		m.pop()
		return false
	}
	call := c.left[0]
	c.left = c.left[1:]
	switch {
	case c.whole:
		if c.begun {
			m.do(Effect{Verb: Point, Name: "purging"})
			// The kind may have failed in the calls before.
			var failing []invalidation.Invalidation
			call, failing = m.stuck.partition(call)
			c.of.job.aside = append(c.of.job.aside, failing...)
		}
		c.of.rest = c.left
	case c.parts:
		c.of.rest = append(c.after[:len(c.after):len(c.after)], c.left...)
	}
	c.begun = true
	if len(call) > 0 {
		m.push(&attempt{of: c.of, invs: call})
	}
	return false
}

// Split cuts the invalidations into calls that keep within the limits.
func Split(all []invalidation.Invalidation, limits sinks.Limits) [][]invalidation.Invalidation {
	groups := [][]invalidation.Invalidation{all}
	if limits.OneKind {
		var byKind [invalidation.NumKinds][]invalidation.Invalidation
		for _, inv := range all {
			byKind[inv.Kind] = append(byKind[inv.Kind], inv)
		}
		groups = byKind[:]
	}
	var out [][]invalidation.Invalidation
	for _, g := range groups {
		for len(g) > 0 {
			n := min(len(g), max(1, most(g, limits)))
			out = append(out, g[:n:n])
			g = g[n:]
		}
	}
	return out
}

// most is how many of the invalidations one call may carry.
func most(g []invalidation.Invalidation, limits sinks.Limits) int {
	if limits.OneKind {
		return limits.ItemsOf(g[0].Kind)
	}
	return limits.Items
}

// Back-off between attempts.
const (
	MinPause = 50 * time.Millisecond
	MaxPause = 10 * time.Second
	// failuresOfAll is after how many transient failures of a call its kinds are tried one by one. Before, the
	// same call is repeated, which a service can recognize.
	failuresOfAll = 3
)

// attempt calls the sink until it has taken the invalidations, or they are parked, or set aside
// because another kind can be tried in their place.
type attempt struct {
	of       *purge
	invs     []invalidation.Invalidation
	state    attemptState
	failures int
	pause    time.Duration
	since    time.Time // when the first call that failed began
	// Of the newest call: when it began, how long it took, what it came to, and for how long the sink wants to be left alone.
	began time.Time
	took  time.Duration
	err   error
	class sinks.Class
	after time.Duration
	doubt *doubt
	// Of the wait before the next one.
	until    time.Time
	kinds    []invalidation.Kind
	traded   uint64
	hastened uint64
}

type attemptState int

const (
	toCall attemptState = iota
	calling
	asking // whether the sink refuses everything
	sorting
	napping
)

func (a *attempt) wakes() (time.Time, bool) { return a.until, a.state == napping }

func (a *attempt) run(m *Machine) (waits bool) {
	switch a.state {
	case toCall:
		return a.call(m)
	case calling:
		e := m.answered()
		if e == nil {
			return true
		}
		a.began, a.took, a.err = e.Began, e.Took, e.Err
		var question []invalidation.Invalidation
		if a.doubt = m.doubt(a.invs, a.of.job.invs, a.err); a.doubt != nil {
			question, a.err = a.doubt.question, a.doubt.err
		}
		if len(question) > 0 {
			a.state = asking
			m.do(Effect{Verb: Call, Invs: question})
			return true
		}
		a.sort(m)
	case asking:
		e := m.answered()
		if e == nil {
			return true
		}
		a.err = m.resolve(a.doubt, a.invs, e.Err)
		a.sort(m)
	case sorting:
		a.fail(m)
	case napping:
		return a.nap(m)
	}
	return false
}

// call calls the sink, once manual purges have been served and the lane is not held, if it is still needed.
func (a *attempt) call(m *Machine) (waits bool) {
	switch {
	case len(m.urgent) > 0:
		m.serve()
		return false
	case m.held && !m.overflown(a.of):
		if m.stopping {
			m.stopped = true
		}
		return true
	case m.coveredWhole(a.of) || m.overflown(a.of):
		m.pop()
		return false
	}
	a.state = calling
	m.do(Effect{Verb: Call, Invs: a.invs})
	return true
}

// sort decides what the outcome of a call means for its invalidations.
func (a *attempt) sort(m *Machine) {
	if a.err == nil {
		m.do(Effect{Verb: Succeeded})
		m.took(a.invs, a.of)
		m.pop()
		return
	}
	a.class, a.after = sinks.ClassOf(a.err)
	a.state = sorting
	var batch *sinks.BatchError
	switch {
	case errors.As(a.err, &batch):
		var refused []invalidation.Invalidation
		all := a.invs
		a.invs, refused, a.class, a.after = sortOut(all, batch)
		m.took(without(without(all, a.invs), refused), a.of)
		m.refuse(a.of, refused, a.err)
	case a.class == sinks.Item && len(a.invs) == 1:
		m.pop()
		m.refuse(a.of, a.invs, a.err)
	case a.class == sinks.Item:
		// One of them is at fault and the sink cannot say which.
		half := len(a.invs) / 2
		m.pop()
		m.push(&calls{of: a.of, left: [][]invalidation.Invalidation{a.invs[:half], a.invs[half:]}})
	}
}

// fail sets what failed aside, or waits before the next call.
func (a *attempt) fail(m *Machine) {
	if len(a.invs) == 0 {
		m.pop()
		return
	}
	if a.since.IsZero() {
		a.since, a.pause = a.began, MinPause
	}
	a.kinds = kindsOf(a.invs)
	if len(a.kinds) == 1 && (a.class != sinks.Throttled || a.of.retry) && m.setsAside(a.kinds[0], a.of) {
		m.failStuck(a)
		a.of.job.aside = append(a.of.job.aside, a.invs...)
		m.pop()
		return
	}
	m.do(Effect{Verb: Failed, Class: a.class, Err: a.err})
	wait := max(a.after, m.backOff(a.pause))
	m.do(Effect{Verb: Waits, For: wait})
	a.state, a.until, a.traded, a.hastened = napping, m.now.Add(wait), m.traded, m.hastened
}

// backOff is a pause between half and all of one.
func (m *Machine) backOff(pause time.Duration) time.Duration {
	return pause/2 + m.cfg.Jitter(pause/2)
}

// nap waits between two calls, and serves manual purges meanwhile. It ends early when a flush may replace the values,
// and where a message has come with a kind that does not fail.
func (a *attempt) nap(m *Machine) (waits bool) {
	switch {
	case m.stopping:
		m.stopped = true
		return true
	case len(m.urgent) > 0:
		m.serve()
		return false
	case m.traded == a.traded && m.hastened == a.hastened && m.now.Before(a.until) && !(len(a.kinds) == 1 && m.othersWait(a.kinds...)):
		return true
	}
	a.pause = min(2*a.pause, MaxPause)
	a.failures++
	if len(a.kinds) > 1 && (a.class == sinks.Lane || a.class == sinks.Transient && a.failures >= failuresOfAll) {
		m.pop()
		c := &calls{of: a.of, parts: true, after: a.of.rest}
		for _, kind := range a.kinds {
			c.left = append(c.left, ofKind(a.invs, kind))
		}
		m.push(c)
		return false
	}
	a.state = toCall
	return false
}

// sortOut divides what failed into what may be tried again and what was
// refused for good, with the most patient class and pause of the former.
func sortOut(invs []invalidation.Invalidation, batch *sinks.BatchError) (again, refused []invalidation.Invalidation, class sinks.Class, after time.Duration) {
	for i, inv := range invs {
		err, failed := batch.Failed[i]
		if !failed {
			continue
		}
		c, a := sinks.ClassOf(err)
		if c == sinks.Item {
			refused = append(refused, inv)
			continue
		}
		again = append(again, inv)
		class, after = max(class, c), max(after, a)
	}
	if told := len(again) + len(refused); told == 0 || told < len(batch.Failed) {
		// A sink that names what it was not given has mixed something up.
		return invs, nil, sinks.Transient, 0
	}
	return again, refused, class, after
}

// refusal deals with invalidations that the sink refuses for good: what the first
// step of their rule's collapse has for their items is tried once in their
// place; what has nothing, and what the sink refuses even so, is parked.
type refusal struct {
	untimed
	of    *purge
	left  []invalidation.Invalidation
	park  []invalidation.Invalidation
	cause error
	// instead is tried by again for the first of left.
	instead []invalidation.Invalidation
	again   *purge
}

// refuse begins that, if there is something refused.
func (m *Machine) refuse(p *purge, refused []invalidation.Invalidation, cause error) {
	switch {
	case len(refused) == 0:
	case p.spare:
		p.failed = true
	default:
		m.push(&refusal{of: p, left: refused, cause: cause})
	}
}

func (r *refusal) run(m *Machine) bool {
	if r.again != nil {
		inv := r.left[0]
		r.left = r.left[1:]
		if r.again.failed {
			r.park = append(r.park, inv)
		} else {
			r.of.job.instead = append(r.of.job.instead, r.instead...)
			m.do(Effect{Verb: Collapsed, Name: inv.Rule, N: 1})
			m.observe(Note{Condition: Replaced, Labels: []string{"rule", inv.Rule}, Attrs: []any{"err", r.cause}, Counted: "values", N: 1})
		}
		r.again = nil
	}
	for len(r.left) > 0 {
		inv := r.left[0]
		r.of.job.refused = append(r.of.job.refused, inv)
		items := r.of.job.coarser[value{inv.Kind, inv.Value}]
		if len(items) == 0 {
			r.park = append(r.park, inv)
			r.left = r.left[1:]
			continue
		}
		r.instead = coarserOf(items, inv.Rule)
		r.again = &purge{group: r.of.group, job: r.of.job, spare: true, retry: r.of.retry, rest: r.of.rest}
		m.push(&calls{of: r.again, left: Split(r.instead, m.cfg.Limits)})
		return false
	}
	m.pop()
	if len(r.park) > 0 {
		m.park(parcel(m.cfg.Name, r.park, r.of.group), r.cause, len(r.park))
	}
	return false
}

// coarserOf lists the values of the first step of collapse of items.
func coarserOf(items []*invalidation.Item, rule string) (out []invalidation.Invalidation) {
	for _, item := range items {
		for k, texts := range item.Coarser[0].Values {
			for _, text := range texts {
				out = append(out, invalidation.Invalidation{Kind: invalidation.Kind(k), Value: text, Rule: rule})
			}
		}
	}
	return Distinct(out)
}

// parking stores a batch of refused invalidations, and tries until that is durable.
type parking struct {
	batch  *invalidation.Batch
	cause  error
	values int
	asked  bool
	pause  time.Duration
	until  time.Time
}

func (m *Machine) park(b *invalidation.Batch, cause error, values int) {
	m.push(&parking{batch: b, cause: cause, values: values, pause: MinPause})
}

func (p *parking) wakes() (time.Time, bool) { return p.until, !p.asked }

func (p *parking) run(m *Machine) bool {
	if !p.asked {
		switch {
		case m.now.Before(p.until) && m.stopping:
			m.stopped = true
			return true
		case m.now.Before(p.until):
			return true
		}
		p.asked = true
		m.do(Effect{Verb: Park, Batch: p.batch, Err: p.cause})
		return true
	}
	e := m.answered()
	if e == nil {
		return true
	}
	if p.asked = false; e.Err != nil {
		m.do(Effect{Verb: Failed, Class: sinks.Transient, Err: e.Err})
		p.until = m.now.Add(p.pause)
		p.pause = min(2*p.pause, MaxPause)
		return false
	}
	m.do(Effect{Verb: Succeeded})
	m.do(Effect{Verb: ParkedValues, N: p.values})
	if !errors.Is(p.cause, errUnbuilt) {
		m.observe(Note{Condition: Parks, Attrs: []any{"err", p.cause}, Counted: "count", N: p.values})
	}
	m.pop()
	return false
}

// parcel makes a batch of the refused invalidations under the newest stamp of
// their group.
func parcel(sink string, refused []invalidation.Invalidation, group []Ready) *invalidation.Batch {
	b := &invalidation.Batch{Sink: sink, Origin: invalidation.FromWAL}
	for _, r := range group {
		if r.Msg.Batch != nil && b.Stamp.Position.Before(r.Msg.Batch.Stamp.Position) {
			b.Stamp = r.Msg.Batch.Stamp
		}
	}
	place := make(map[string]int)
	for _, inv := range refused {
		i, found := place[inv.Rule]
		if !found {
			i = len(b.Items)
			place[inv.Rule] = i
			b.Items = append(b.Items, invalidation.Item{Rule: inv.Rule})
		}
		values := &b.Items[i].Values[inv.Kind]
		*values = append(*values, inv.Value)
	}
	return b
}

// untimed is a step that waits for no time.
type untimed struct{}

func (untimed) wakes() (time.Time, bool) { return time.Time{}, false }
