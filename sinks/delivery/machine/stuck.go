package machine

import (
	"maps"
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

const (
	// maxStuckValues bounds the values that are set aside. Past it, past maxHeld messages or past
	// MaxPutOff the lane reads no further.
	maxStuckValues = 100_000
	// retryShare: a retry of a stuck kind is followed by a pause of at least so many times its
	// duration, so that retries that run into a timeout leave the lane to the other kinds.
	retryShare = 4
)

// Stuck is a kind of value that the sink does not take, while it takes others.
type Stuck struct {
	Kind invalidation.Kind
	// Since is when the first purge of the kind failed. Err is the newest failure, Class its class.
	Since      time.Time
	Err, Class string
	// Values is how many of the kind wait.
	Values int
}

// stuckKinds holds what a lane has set aside: the values of kinds whose purges fail, and the
// messages that lack them. A kind is set aside only where another kind can be tried in its place.
// The messages stay unacknowledged, so that a restart reads them again. It belongs to the machine.
type stuckKinds struct {
	kinds map[invalidation.Kind]*stuckKind
	// lacking has the messages with values that are set aside.
	lacking map[*Entry]*incomplete
	// others: the sink has taken a kind that does not fail since the newest of kinds began to fail.
	others bool
	// logged are the kinds whose failure is logged and not yet its end.
	logged map[invalidation.Kind]bool
}

// stuckKind is a kind whose newest purge failed. Without values, it is being retried in its turn.
type stuckKind struct {
	Stuck
	due   time.Time
	pause time.Duration
	// order lists the values that are set aside, every has their rules' periods.
	order []invalidation.Invalidation
	every map[value]time.Duration
}

// incomplete is a message that lacks values which are set aside.
type incomplete struct {
	ready Ready
	lacks map[value]struct{}
	// finished: it lacks nothing else.
	finished bool
	// group is the one in which it first lacked something, so after its gates opened.
	group uint64
}

func newStuckKinds() *stuckKinds {
	return &stuckKinds{kinds: make(map[invalidation.Kind]*stuckKind), lacking: make(map[*Entry]*incomplete), logged: make(map[invalidation.Kind]bool)}
}

// of returns a kind that fails, since then if it is new.
func (s *stuckKinds) of(kind invalidation.Kind, since time.Time) *stuckKind {
	k := s.kinds[kind]
	if k == nil {
		k = &stuckKind{Stuck: Stuck{Kind: kind, Since: since}, pause: MinPause, every: make(map[value]time.Duration)}
		s.kinds[kind] = k
		s.others = false
	}
	return k
}

// fail records a failed purge of a kind.
func (s *stuckKinds) fail(kind invalidation.Kind, class sinks.Class, err error, after, took time.Duration, since, now time.Time, backOff func(time.Duration) time.Duration) {
	k := s.of(kind, since)
	k.Err, k.Class = err.Error(), class.String()
	k.due = now.Add(max(after, backOff(k.pause), retryShare*took))
	k.pause = min(2*k.pause, MaxPause)
}

// took records a purge that the sink has carried out.
func (s *stuckKinds) took(invs []invalidation.Invalidation) {
	for _, inv := range invs {
		k := s.kinds[inv.Kind]
		if k == nil {
			s.others = len(s.kinds) > 0
			continue
		}
		if len(k.order) == 0 {
			delete(s.kinds, inv.Kind)
		}
	}
}

// partition divides invalidations into those of kinds that do not fail and those of kinds that do.
func (s *stuckKinds) partition(all []invalidation.Invalidation) (rest, failing []invalidation.Invalidation) {
	if len(s.kinds) == 0 {
		return all, nil
	}
	for _, inv := range all {
		if s.kinds[inv.Kind] == nil {
			rest = append(rest, inv)
		} else {
			failing = append(failing, inv)
		}
	}
	return rest, failing
}

// values is how many are set aside.
func (s *stuckKinds) values() (n int) {
	for _, k := range s.kinds {
		n += len(k.order)
	}
	return n
}

// setAside keeps values for a retry, and notes which of the messages lack them.
func (s *stuckKinds) setAside(invs []invalidation.Invalidation, every map[value]time.Duration, group []Ready, number uint64, lacks func(Ready) []value, now time.Time) {
	if len(invs) == 0 {
		return
	}
	for _, inv := range invs {
		v := value{inv.Kind, inv.Value}
		k := s.of(inv.Kind, now)
		if _, known := k.every[v]; !known {
			k.every[v] = every[v]
			k.order = append(k.order, inv)
		}
	}
	for _, r := range group {
		if !r.Final || r.skipped {
			continue // it comes again, or a flush replaces it
		}
		for _, v := range lacks(r) {
			s.lack(r, v, number)
		}
	}
}

func (s *stuckKinds) lack(r Ready, v value, group uint64) {
	m := s.lacking[r.entry]
	if m == nil {
		m = &incomplete{ready: r, lacks: make(map[value]struct{}), group: group}
		s.lacking[r.entry] = m
	}
	m.lacks[v] = struct{}{}
}

// withhold takes messages that lack something out of a group that is done otherwise.
func (s *stuckKinds) withhold(group []Ready) (done, withheld []Ready) {
	if len(s.lacking) == 0 {
		return group, nil
	}
	for _, r := range group {
		switch m := s.lacking[r.entry]; {
		case m == nil || !r.Final:
			done = append(done, r)
		case r.skipped:
			delete(s.lacking, r.entry)
			done = append(done, r)
		default:
			m.ready, m.finished = r, true
			withheld = append(withheld, r)
		}
	}
	return done, withheld
}

// remove takes values out that were purged or parked, and returns the messages that lack nothing
// any more, in the order of the stream.
func (s *stuckKinds) remove(invs []invalidation.Invalidation) (done []Ready) {
	gone := make(map[value]struct{}, len(invs))
	for _, inv := range invs {
		v := value{inv.Kind, inv.Value}
		gone[v] = struct{}{}
		if k := s.kinds[inv.Kind]; k != nil {
			delete(k.every, v)
		}
	}
	for _, k := range s.kinds {
		k.order = slices.DeleteFunc(k.order, func(inv invalidation.Invalidation) bool {
			_, is := gone[value{inv.Kind, inv.Value}]
			return is
		})
	}
	for e, m := range s.lacking {
		maps.DeleteFunc(m.lacks, func(v value, _ struct{}) bool { _, is := gone[v]; return is })
		if len(m.lacks) > 0 {
			continue
		}
		delete(s.lacking, e)
		if m.finished {
			done = append(done, m.ready)
		}
	}
	slices.SortFunc(done, func(a, b Ready) int { return int(a.entry.seq) - int(b.entry.seq) })
	return done
}

// replace drops the messages that another purge covers, and the values that no other message
// lacks. It returns the messages.
func (s *stuckKinds) replace(covers func(*incomplete) bool) (done []Ready) {
	dropped := false
	left := make(map[value]struct{})
	for e, m := range s.lacking {
		if covers(m) {
			delete(s.lacking, e)
			dropped = true
			if m.finished {
				done = append(done, m.ready)
			}
			continue
		}
		maps.Copy(left, m.lacks)
	}
	if !dropped {
		return nil
	}
	var drop []invalidation.Invalidation
	for _, k := range s.kinds {
		for _, inv := range k.order {
			if _, lacks := left[value{inv.Kind, inv.Value}]; !lacks {
				drop = append(drop, inv)
			}
		}
	}
	s.remove(drop)
	slices.SortFunc(done, func(a, b Ready) int { return int(a.entry.seq) - int(b.entry.seq) })
	return done
}

// next returns when the first stuck kind is due.
func (s *stuckKinds) next() (at time.Time, some bool) {
	for _, k := range s.kinds {
		if !some || k.due.Before(at) {
			at, some = k.due, true
		}
	}
	return at, some
}

// hasten makes all kinds due.
func (s *stuckKinds) hasten() {
	for _, k := range s.kinds {
		k.due, k.pause = time.Time{}, MinPause
	}
}

// sorted lists the kinds, the one that has failed for longest first.
func (s *stuckKinds) sorted() []*stuckKind {
	return slices.SortedFunc(maps.Values(s.kinds), func(a, b *stuckKind) int {
		if c := a.Since.Compare(b.Since); c != 0 {
			return c
		}
		return int(a.Kind) - int(b.Kind)
	})
}

// lacksOf returns the function that says which of the values that are set aside a message names
// itself or for a collapse. A flush, and a message that a manual purge covers, lacks all of them.
func (m *Machine) lacksOf(invs []invalidation.Invalidation) func(Ready) []value {
	aside := make(map[value]struct{}, len(invs))
	var all []value
	var kinds invalidation.KindSet
	for _, inv := range invs {
		v := value{inv.Kind, inv.Value}
		aside[v] = struct{}{}
		all = append(all, v)
		kinds |= invalidation.Kinds(inv.Kind)
	}
	return func(r Ready) (out []value) {
		b := r.Msg.Batch
		switch {
		case b == nil:
			return nil
		case b.Flush, r.covered:
			return all
		}
		add := func(values *invalidation.Values) {
			for k, texts := range values {
				if !kinds.Has(invalidation.Kind(k)) {
					continue
				}
				for _, text := range texts {
					v := value{invalidation.Kind(k), text}
					if _, is := aside[v]; is {
						out = append(out, v)
					}
				}
			}
		}
		for i := range b.Items {
			add(&b.Items[i].Values)
			for s := range b.Items[i].Coarser {
				add(&b.Items[i].Coarser[s].Values)
			}
		}
		return out
	}
}

// setAside keeps what a turn could not purge for a retry, and the messages that lack it.
func (m *Machine) setAside(group []Ready, j *job) {
	if len(j.aside) == 0 {
		return
	}
	every := make(map[value]time.Duration)
	for _, p := range j.paced {
		every[p.value] = p.every
	}
	lacks := m.lacksOf(j.aside)
	m.stuck.setAside(j.aside, every, group, m.group, lacks, m.now)
	aside := make(map[value]bool, len(j.aside))
	for _, inv := range j.aside {
		aside[value{inv.Kind, inv.Value}] = true
	}
	// Values that were deferred are in messages of earlier turns, some of which hold nothing else
	// of their batch any more.
	for _, w := range j.met {
		lacking := aside[w.value]
		for _, item := range w.items {
			for s := range item.Coarser {
				for k, texts := range item.Coarser[s].Values {
					lacking = lacking || slices.ContainsFunc(texts, func(text string) bool { return aside[value{invalidation.Kind(k), text}] })
				}
			}
		}
		if !lacking {
			continue
		}
		for _, o := range w.deferrals {
			for v := range aside {
				m.stuck.lack(o.ready, v, m.group)
			}
		}
	}
	m.showStuck()
}

// setsAside reports whether values of a kind that fails wait beside the queue: because the
// sink has taken another kind in this turn, or because another kind can be tried, in this turn,
// later, or in a message that waits.
func (m *Machine) setsAside(kind invalidation.Kind, p *purge) bool {
	if p.retry || len(p.job.aside) > 0 || p.took&^invalidation.Kinds(kind) != 0 {
		return true
	}
	for k, s := range m.stuck.kinds {
		if k != kind || len(s.order) > 0 {
			return true
		}
	}
	for _, request := range p.rest {
		if slices.ContainsFunc(request, func(inv invalidation.Invalidation) bool { return inv.Kind != kind }) {
			return true
		}
	}
	// What is deferred, in this turn or before, due a second time, or to be flushed beside the queue.
	if slices.ContainsFunc(p.job.later, func(d putOff) bool { return d.kind != kind }) {
		return true
	}
	for v := range m.pacer.waits {
		if v.kind != kind {
			return true
		}
	}
	for v := range m.again.waits {
		if v.kind != kind {
			return true
		}
	}
	flushes := m.flusher.busy() || m.flusher.on() && slices.ContainsFunc(p.group, func(r Ready) bool { return r.Msg.Batch != nil && r.Msg.Batch.Flush })
	if flushes && !p.apart && slices.ContainsFunc(m.cfg.Flush(), func(inv invalidation.Invalidation) bool { return inv.Kind != kind }) {
		return true
	}
	return m.othersWait(kind)
}

// othersWait reports whether a message that waits has a value of a kind that does not fail. failing
// are those that fail beside the stuck ones.
func (m *Machine) othersWait(failing ...invalidation.Kind) bool {
	fails := func(kind invalidation.Kind) bool { return m.stuck.kinds[kind] != nil || slices.Contains(failing, kind) }
	for _, r := range m.ahead {
		b := r.Msg.Batch
		if b == nil || r.Msg.Unknown != nil {
			continue
		}
		// A flush in place of the backlog is read once the lane knows that it is one.
		if b.Flush && (!replacesBacklog(b) || r.Msg.Seq <= m.traded) {
			if slices.ContainsFunc(m.cfg.Flush(), func(inv invalidation.Invalidation) bool { return !fails(inv.Kind) }) {
				return true
			}
		}
		for i := range b.Items {
			for k, texts := range b.Items[i].Values {
				if len(texts) > 0 && !fails(invalidation.Kind(k)) {
					return true
				}
			}
		}
	}
	return false
}

// readsOn reports whether the lane works on messages of its queue: not while all kinds of it fail,
// and not past the bounds of what is set aside.
func (m *Machine) readsOn() bool {
	if len(m.stuck.kinds) == 0 || m.begun < m.traded {
		return true
	}
	messages, _, bytes := m.tracker.behind()
	if messages > maxHeld || m.stuck.values() > maxStuckValues || m.cfg.MaxPutOff > 0 && bytes > m.cfg.MaxPutOff {
		return false
	}
	return m.stuck.others || m.othersWait()
}

// retries begins to purge what is set aside of kinds that are due.
type retryKinds struct {
	untimed
	kinds []*stuckKind
}

func (m *Machine) retryStuck() {
	if !m.held && len(m.stuck.kinds) > 0 {
		m.push(&retryKinds{kinds: m.stuck.sorted()})
	}
}

func (r *retryKinds) run(m *Machine) bool {
	for len(r.kinds) > 0 {
		k := r.kinds[0]
		r.kinds = r.kinds[1:]
		switch {
		case m.now.Before(k.due) || m.stuck.kinds[k.Kind] != k:
		case len(k.order) == 0:
			// What failed is a second purge, which is tried by itself; or another purge covers it.
			delete(m.stuck.kinds, k.Kind)
			m.showStuck()
		default:
			m.push(&retryKind{kind: k, left: Split(slices.Clone(k.order), m.cfg.Limits)})
			return false
		}
	}
	m.pop()
	return false
}

// retryKind purges what is set aside of one kind, until the sink refuses some of it again.
type retryKind struct {
	untimed
	kind *stuckKind
	left [][]invalidation.Invalidation
	// call is being purged since began.
	call  []invalidation.Invalidation
	of    *purge
	began time.Time
}

func (r *retryKind) run(m *Machine) bool {
	k := r.kind
	if r.call != nil {
		if m.stuck.kinds[k.Kind] != k {
			m.pop() // replaced meanwhile by a manual purge
			m.showStuck()
			return false
		}
		done := without(r.call, r.of.job.aside)
		for _, inv := range done {
			v := value{inv.Kind, inv.Value}
			if every := k.every[v]; every > 0 {
				m.pacer.note(v, every, m.now)
			}
		}
		m.again.note(done, r.began)
		m.finish(m.stuck.remove(done), m.secondPurges(without(done, r.of.job.refused)))
		if len(r.of.job.aside) > 0 {
			m.pop()
			m.showStuck()
			return false
		}
	}
	if len(r.left) > 0 {
		r.call, r.left, r.began = r.left[0], r.left[1:], m.now
		r.of = &purge{group: m.stuck.lackingAny(r.call), job: &job{}, retry: true}
		m.push(&attempt{of: r.of, invs: r.call})
		return false
	}
	m.pop()
	if len(k.order) == 0 {
		delete(m.stuck.kinds, k.Kind)
		m.recovered(k.Kind)
		// Whatever the reason was, it may be gone for the others, too.
		m.stuck.others = true
		m.stuck.hasten()
	}
	m.showStuck()
	return false
}

// secondPurges is what of purged values is purged again later.
func (m *Machine) secondPurges(invs []invalidation.Invalidation) []invalidation.Invalidation {
	if !m.again.on {
		return nil
	}
	return invs
}

// lackingAny lists the messages that lack one of the values.
func (s *stuckKinds) lackingAny(invs []invalidation.Invalidation) (out []Ready) {
	any := make(map[value]struct{}, len(invs))
	for _, inv := range invs {
		any[value{inv.Kind, inv.Value}] = struct{}{}
	}
	for _, m := range s.lacking {
		for v := range m.lacks {
			if _, is := any[v]; is {
				out = append(out, m.ready)
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b Ready) int { return int(a.entry.seq) - int(b.entry.seq) })
	return out
}

// releaseStuck gives up messages whose values another purge covers.
func (m *Machine) releaseStuck(covers func(*incomplete) bool, skipped bool) {
	if len(m.stuck.lacking) == 0 {
		return
	}
	done := m.stuck.replace(covers)
	for i := range done {
		done[i].skipped = skipped
	}
	if len(done) > 0 {
		m.finish(done, nil)
	}
	m.showStuck()
}

// failStuck records and logs that purges of a kind fail, beside which others go on.
func (m *Machine) failStuck(a *attempt) {
	kind := a.kinds[0]
	m.stuck.fail(kind, a.class, a.err, a.after, a.took, a.since, m.now, m.backOff)
	m.stuck.others = m.stuck.others || a.of.took&^invalidation.Kinds(kind) != 0
	m.stuck.logged[kind] = true
	m.observe(Note{Condition: KindFails, Labels: []string{"kind", kind.String()}, Attrs: []any{"class", a.class.String(), "err", a.err}, Counted: "retries", N: 1})
}

// recovered logs that the sink takes a kind again, if it failed before.
func (m *Machine) recovered(kind invalidation.Kind) {
	if m.stuck.logged[kind] {
		delete(m.stuck.logged, kind)
		m.end(KindFails, "kind", kind.String())
	}
}

// took notes that the sink has taken invalidations.
func (m *Machine) took(invs []invalidation.Invalidation, p *purge) {
	for _, inv := range invs {
		p.took |= invalidation.Kinds(inv.Kind)
	}
	if len(m.stuck.kinds) == 0 && len(m.stuck.logged) == 0 || len(invs) == 0 {
		return
	}
	others := m.stuck.others
	m.stuck.took(invs)
	for _, kind := range kindsOf(invs) {
		if m.stuck.kinds[kind] == nil {
			m.recovered(kind)
		}
	}
	if others != m.stuck.others {
		m.showStuck()
	}
}

// showStuck shows which kinds are stuck.
func (m *Machine) showStuck() {
	var shown []Stuck
	for _, k := range m.stuck.sorted() {
		if len(k.order) > 0 {
			one := k.Stuck
			one.Values = len(k.order)
			shown = append(shown, one)
		}
	}
	m.do(Effect{Verb: ShowStuck, Stuck: shown, On: m.stuck.others})
}
