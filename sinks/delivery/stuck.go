package delivery

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
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
// The messages stay unacknowledged, so that a restart reads them again. It belongs to the lane's
// goroutine.
type stuckKinds struct {
	kinds map[invalidation.Kind]*stuckKind
	// lacking has the messages with values that are set aside.
	lacking map[*entry]*incomplete
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
	ready ready
	lacks map[value]struct{}
	// finished: it lacks nothing else.
	finished bool
	// group is the one in which it first lacked something, so after its gates opened.
	group uint64
}

func newStuckKinds() *stuckKinds {
	return &stuckKinds{kinds: make(map[invalidation.Kind]*stuckKind), lacking: make(map[*entry]*incomplete), logged: make(map[invalidation.Kind]bool)}
}

// of returns a kind that fails, since then if it is new.
func (s *stuckKinds) of(kind invalidation.Kind, since time.Time) *stuckKind {
	k := s.kinds[kind]
	if k == nil {
		k = &stuckKind{Stuck: Stuck{Kind: kind, Since: since}, pause: minPause, every: make(map[value]time.Duration)}
		s.kinds[kind] = k
		s.others = false
	}
	return k
}

// fail records a failed purge of a kind.
func (s *stuckKinds) fail(kind invalidation.Kind, class sinks.Class, err error, after, took time.Duration, since, now time.Time) {
	k := s.of(kind, since)
	k.Err, k.Class = err.Error(), class.String()
	k.due = now.Add(max(after, k.pause/2+rand.N(k.pause/2), retryShare*took))
	k.pause = min(2*k.pause, maxPause)
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
func (s *stuckKinds) setAside(invs []invalidation.Invalidation, every map[value]time.Duration, group []ready, number uint64, lacks func(ready) []value, now time.Time) {
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
		if !r.final || r.skipped {
			continue // it comes again, or a flush replaces it
		}
		for _, v := range lacks(r) {
			s.lack(r, v, number)
		}
	}
}

func (s *stuckKinds) lack(r ready, v value, group uint64) {
	m := s.lacking[r.entry]
	if m == nil {
		m = &incomplete{ready: r, lacks: make(map[value]struct{}), group: group}
		s.lacking[r.entry] = m
	}
	m.lacks[v] = struct{}{}
}

// withhold takes messages that lack something out of a group that is done otherwise.
func (s *stuckKinds) withhold(group []ready) (done, withheld []ready) {
	if len(s.lacking) == 0 {
		return group, nil
	}
	for _, r := range group {
		switch m := s.lacking[r.entry]; {
		case m == nil || !r.final:
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
func (s *stuckKinds) remove(invs []invalidation.Invalidation) (done []ready) {
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
	slices.SortFunc(done, func(a, b ready) int { return int(a.entry.seq) - int(b.entry.seq) })
	return done
}

// replace drops the messages that another purge covers, and the values that no other message
// lacks. It returns the messages.
func (s *stuckKinds) replace(covers func(*incomplete) bool) (done []ready) {
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
	slices.SortFunc(done, func(a, b ready) int { return int(a.entry.seq) - int(b.entry.seq) })
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
		k.due, k.pause = time.Time{}, minPause
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

// kindsOf lists the kinds of invalidations, each once, in order.
func kindsOf(invs []invalidation.Invalidation) (kinds []invalidation.Kind) {
	for _, inv := range invs {
		if !slices.Contains(kinds, inv.Kind) {
			kinds = append(kinds, inv.Kind)
		}
	}
	return kinds
}

// ofKind returns the invalidations of a kind.
func ofKind(invs []invalidation.Invalidation, kind invalidation.Kind) (out []invalidation.Invalidation) {
	for _, inv := range invs {
		if inv.Kind == kind {
			out = append(out, inv)
		}
	}
	return out
}

// lacksOf returns the function that says which of the values that are set aside a message names
// itself or for a collapse. A flush, and a message that a manual purge covers, lacks all of them.
func (l *Lane) lacksOf(invs []invalidation.Invalidation) func(ready) []value {
	aside := make(map[value]struct{}, len(invs))
	var all []value
	var kinds invalidation.KindSet
	for _, inv := range invs {
		v := value{inv.Kind, inv.Value}
		aside[v] = struct{}{}
		all = append(all, v)
		kinds |= invalidation.Kinds(inv.Kind)
	}
	return func(r ready) (out []value) {
		b := r.msg.Batch
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
func (l *Lane) setAside(group []ready, j *job) {
	if len(j.aside) == 0 {
		return
	}
	every := make(map[value]time.Duration)
	for _, p := range j.paced {
		every[p.value] = p.every
	}
	lacks := l.lacksOf(j.aside)
	l.stuck.setAside(j.aside, every, group, l.group, lacks, time.Now())
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
				l.stuck.lack(o.ready, v, l.group)
			}
		}
	}
	l.showStuck()
}

// setsAside reports whether values of a kind that fails wait beside the queue: because the
// sink has taken another kind in this turn, or because another kind can be tried, in this turn,
// later, or in a message that waits.
func (l *Lane) setsAside(kind invalidation.Kind, t *turn) bool {
	if t.retry || len(t.job.aside) > 0 || t.took&^invalidation.Kinds(kind) != 0 {
		return true
	}
	for k, s := range l.stuck.kinds {
		if k != kind || len(s.order) > 0 {
			return true
		}
	}
	for _, request := range t.rest {
		if slices.ContainsFunc(request, func(inv invalidation.Invalidation) bool { return inv.Kind != kind }) {
			return true
		}
	}
	// What is deferred, in this turn or before, due a second time, or to be flushed beside the queue.
	if slices.ContainsFunc(t.job.later, func(d putOff) bool { return d.kind != kind }) {
		return true
	}
	for v := range l.pacer.waits {
		if v.kind != kind {
			return true
		}
	}
	for v := range l.again.waits {
		if v.kind != kind {
			return true
		}
	}
	flushes := l.flusher.busy() || l.flusher.on() && slices.ContainsFunc(t.group, func(r ready) bool { return r.msg.Batch != nil && r.msg.Batch.Flush })
	if flushes && !t.apart && slices.ContainsFunc(l.cfg.Flush(), func(inv invalidation.Invalidation) bool { return inv.Kind != kind }) {
		return true
	}
	return l.othersWait(kind)
}

// othersWait reports whether a message that waits has a value of a kind that does not fail. failing
// are those that fail beside the stuck ones.
func (l *Lane) othersWait(failing ...invalidation.Kind) bool {
	fails := func(kind invalidation.Kind) bool { return l.stuck.kinds[kind] != nil || slices.Contains(failing, kind) }
	for _, r := range l.ahead {
		b := r.msg.Batch
		if b == nil || r.msg.Unknown != nil {
			continue
		}
		// A flush in place of the backlog is read once the lane knows that it is one.
		if b.Flush && (!replacesBacklog(b) || r.msg.Seq <= l.traded.Load()) {
			if slices.ContainsFunc(l.cfg.Flush(), func(inv invalidation.Invalidation) bool { return !fails(inv.Kind) }) {
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
func (l *Lane) readsOn() bool {
	if len(l.stuck.kinds) == 0 || l.begun.Load() < l.traded.Load() {
		return true
	}
	messages, _, bytes := l.tracker.behind()
	if messages > maxHeld || l.stuck.values() > maxStuckValues || l.cfg.MaxPutOff > 0 && bytes > l.cfg.MaxPutOff {
		return false
	}
	return l.stuck.others || l.othersWait()
}

// retryStuck purges what is set aside of kinds that are due.
func (l *Lane) retryStuck(intake, work context.Context) {
	if l.held() {
		return
	}
	for _, k := range l.stuck.sorted() {
		if time.Now().Before(k.due) || l.stuck.kinds[k.Kind] != k {
			continue
		}
		if !l.retryKind(intake, work, k) {
			return
		}
	}
}

// retryKind purges what is set aside of one kind, until the sink refuses some of it again. It
// returns false when the lane is stopping.
func (l *Lane) retryKind(intake, work context.Context, k *stuckKind) bool {
	defer l.showStuck()
	if len(k.order) == 0 {
		// What failed is a second purge, which is tried by itself; or another purge covers it.
		delete(l.stuck.kinds, k.Kind)
		return true
	}
	for _, request := range split(slices.Clone(k.order), l.cfg.Limits) {
		began := time.Now()
		t := &turn{group: l.stuck.lackingAny(request), job: &job{}, retry: true}
		if !l.request(intake, work, request, t) {
			return false
		}
		if l.stuck.kinds[k.Kind] != k {
			return true // replaced meanwhile by a manual purge
		}
		done := without(request, t.job.aside)
		for _, inv := range done {
			v := value{inv.Kind, inv.Value}
			if every := k.every[v]; every > 0 {
				l.pacer.note(v, every, time.Now())
			}
		}
		l.again.note(done, began)
		l.finish(l.stuck.remove(done), l.secondPurges(without(done, t.job.refused)))
		if len(t.job.aside) > 0 {
			return true
		}
	}
	if len(k.order) == 0 {
		delete(l.stuck.kinds, k.Kind)
		l.recovered(k.Kind)
		// Whatever the reason was, it may be gone for the others, too.
		l.stuck.others = true
		l.stuck.hasten()
	}
	return true
}

// secondPurges is what of purged values is purged again later.
func (l *Lane) secondPurges(invs []invalidation.Invalidation) []invalidation.Invalidation {
	if !l.again.on {
		return nil
	}
	return invs
}

// lackingAny lists the messages that lack one of the values.
func (s *stuckKinds) lackingAny(invs []invalidation.Invalidation) (out []ready) {
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
	slices.SortFunc(out, func(a, b ready) int { return int(a.entry.seq) - int(b.entry.seq) })
	return out
}

// releaseStuck gives up messages whose values another purge covers.
func (l *Lane) releaseStuck(covers func(*incomplete) bool, skipped bool) {
	if len(l.stuck.lacking) == 0 {
		return
	}
	done := l.stuck.replace(covers)
	for i := range done {
		done[i].skipped = skipped
	}
	if len(done) > 0 {
		l.finish(done, nil)
	}
	l.showStuck()
}

// failStuck records and logs that purges of a kind fail, beside which others go on.
func (l *Lane) failStuck(kind invalidation.Kind, class sinks.Class, err error, after, took time.Duration, since time.Time, t *turn) {
	l.stuck.fail(kind, class, err, after, took, since, time.Now())
	l.stuck.others = l.stuck.others || t.took&^invalidation.Kinds(kind) != 0
	l.stuck.logged[kind] = true
	l.conditions.At(kindFails, "kind", kind.String()).Observe("class", class.String(), "err", err, "retries", condition.Sum(1))
}

// recovered logs that the sink takes a kind again, if it failed before.
func (l *Lane) recovered(kind invalidation.Kind) {
	if l.stuck.logged[kind] {
		delete(l.stuck.logged, kind)
		l.conditions.At(kindFails, "kind", kind.String()).End()
	}
}

// took notes that the sink has taken invalidations.
func (l *Lane) took(invs []invalidation.Invalidation, t *turn) {
	for _, inv := range invs {
		t.took |= invalidation.Kinds(inv.Kind)
	}
	if len(l.stuck.kinds) == 0 && len(l.stuck.logged) == 0 || len(invs) == 0 {
		return
	}
	others := l.stuck.others
	l.stuck.took(invs)
	for _, kind := range kindsOf(invs) {
		if l.stuck.kinds[kind] == nil {
			l.recovered(kind)
		}
	}
	if others != l.stuck.others {
		l.showStuck()
	}
}

// showStuck shows which kinds are stuck.
func (l *Lane) showStuck() {
	var shown []Stuck
	for _, k := range l.stuck.sorted() {
		if len(k.order) > 0 {
			one := k.Stuck
			one.Values = len(k.order)
			shown = append(shown, one)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.metrics.setStuck(shown)
	if len(l.status.Stuck) > 0 && len(shown) == 0 {
		l.status.Err, l.status.Class = "", ""
	}
	l.status.Stuck, l.status.OthersGo = shown, l.stuck.others
	l.show()
}

// stuckText says what is stuck.
func stuckText(all []Stuck, others bool) string {
	var names []string
	for _, s := range all {
		names = append(names, s.Kind.Plural())
	}
	meanwhile := ""
	if others {
		meanwhile = ", while other kinds are purged"
	}
	return fmt.Sprintf("purges of %s fail since %s%s: %s", strings.Join(names, " and "), all[0].Since.UTC().Format(time.RFC3339), meanwhile, all[0].Err)
}
