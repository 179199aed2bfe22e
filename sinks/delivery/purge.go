package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// purge carries out what a turn has come to, and returns true when the sink has
// acknowledged, or a durable place has taken, every invalidation. It returns
// false when the lane is stopping.
func (l *Lane) purge(intake, work context.Context, group []ready, j *job) bool {
	for _, r := range group {
		b := r.msg.Batch
		if b == nil || !b.Flush || r.skipped {
			continue
		}
		if r.covered {
			l.beginning(r) // what the manual purge has is purged in its place now
		} else if !l.flusher.on() {
			l.beginning(r)
			l.noteFlush(b.Reason)
			l.conditions.At(flushes, "reason", b.Reason).Observe("lsn", b.Stamp.Position.LSN.String(), "flushes", condition.Sum(1))
		}
	}
	l.metrics.coalesced.Add(float64(j.coalesced))
	for rule, values := range j.collapsed {
		l.collapsed(rule, values)
		l.conditions.At(coarsened, "rule", rule).Observe("values", condition.Sum(values))
	}
	all := j.invs
	if j.flush {
		l.enter(Flushing, nil)
		all = append(all, l.cfg.Flush()...)
	}
	if len(all) == 0 {
		return true
	}
	ok := l.requests(intake, work, all, &turn{group: j.sources(group), job: j})
	if ok && len(j.aside) < len(all) {
		l.enter(OK, nil)
	}
	return ok
}

// requests carries out invalidations in as few calls as the limits allow. What it sets aside of
// them is in the job then. It returns false when the lane is stopping.
func (l *Lane) requests(intake, work context.Context, all []invalidation.Invalidation, t *turn) bool {
	all, failing := l.stuck.partition(all)
	t.job.aside = append(t.job.aside, failing...)
	calls := split(all, l.cfg.Limits)
	for n, call := range calls {
		if n > 0 {
			failpoint.Crash("purging")
			// The kind may have failed in the calls before.
			call, failing = l.stuck.partition(call)
			t.job.aside = append(t.job.aside, failing...)
		}
		t.rest = calls[n+1:]
		if len(call) > 0 && !l.request(intake, work, call, t) {
			return false
		}
	}
	return true
}

// split cuts the invalidations into calls that keep within the limits.
func split(all []invalidation.Invalidation, limits sinks.Limits) [][]invalidation.Invalidation {
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
	minPause = 50 * time.Millisecond
	maxPause = 10 * time.Second
	// failuresOfAll is after how many transient failures of a call its kinds are tried one by one. Before, the
	// same call is repeated, which a service can recognize.
	failuresOfAll = 3
)

// request calls the sink until it has taken the invalidations, or they are parked, or set aside
// because another kind can be tried in their place. It returns false when the lane is stopping.
func (l *Lane) request(intake, work context.Context, invs []invalidation.Invalidation, t *turn) bool {
	pause, since := minPause, time.Time{}
	for failures := 1; ; failures++ {
		if !l.awaitResume(intake, work, t) {
			return false
		}
		l.serve(intake, work)
		if l.covered(t) || l.overflown(t) {
			return true
		}
		if l.cfg.Pace.Wait(intake, invs) != nil {
			return false
		}
		l.speed.request()
		began := time.Now()
		err := l.cfg.Sink.Purge(work, invs)
		took := time.Since(began)
		l.metrics.request(took, len(invs), err)
		err = l.answered(intake, work, invs, t.job.invs, err)
		if err == nil {
			l.succeeded()
			l.took(invs, t)
			return true
		}
		if failpoint.On("ack_on_failure") {
			return true
		}
		class, after := sinks.ClassOf(err)
		var batch *sinks.BatchError
		switch {
		case errors.As(err, &batch):
			var refused []invalidation.Invalidation
			all := invs
			invs, refused, class, after = sortOut(invs, batch)
			l.took(without(without(all, invs), refused), t)
			if !l.refuse(intake, work, t, refused, err) {
				return false
			}
			if len(invs) == 0 {
				return true
			}
		case class == sinks.Item && len(invs) == 1:
			return l.refuse(intake, work, t, invs, err)
		case class == sinks.Item:
			// One of them is at fault and the sink cannot say which.
			half := len(invs) / 2
			return l.request(intake, work, invs[:half], t) && l.request(intake, work, invs[half:], t)
		}
		if since.IsZero() {
			since = began
		}
		kinds := kindsOf(invs)
		if len(kinds) == 1 && (class != sinks.Throttled || t.retry) && l.setsAside(kinds[0], t) {
			l.failStuck(kinds[0], class, err, after, took, since, t)
			t.job.aside = append(t.job.aside, invs...)
			return true
		}
		l.fail(class, err)
		wait := max(after, pause/2+rand.N(pause/2))
		l.speed.pause(wait)
		if !l.nap(intake, work, wait, kinds) {
			return false
		}
		pause = min(2*pause, maxPause)
		if len(kinds) > 1 && (class == sinks.Lane || class == sinks.Transient && failures >= failuresOfAll) {
			return l.requestByKind(intake, work, invs, kinds, t)
		}
	}
}

// requestByKind calls the sink once for each kind of the invalidations, because a call with all of
// them failed.
func (l *Lane) requestByKind(intake, work context.Context, invs []invalidation.Invalidation, kinds []invalidation.Kind, t *turn) bool {
	rest := t.rest
	for n, kind := range kinds {
		t.rest = rest
		for _, later := range kinds[n+1:] {
			t.rest = append(t.rest[:len(t.rest):len(t.rest)], ofKind(invs, later))
		}
		if !l.request(intake, work, ofKind(invs, kind), t) {
			return false
		}
	}
	return true
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

// fail shows a failure.
func (l *Lane) fail(class sinks.Class, err error) {
	state := Blocked
	if class == sinks.Throttled {
		state = Throttled
	}
	l.enter(state, err)
	l.mu.Lock()
	l.status.Class = class.String()
	l.mu.Unlock()
	l.failed(class, err)
}

// park stores refused invalidations, and tries until that is durable.
func (l *Lane) park(intake context.Context, refused []invalidation.Invalidation, group []ready, cause error) bool {
	if len(refused) == 0 {
		return true
	}
	if !l.store(intake, parcel(l.cfg.Name, refused, group), cause) {
		return false
	}
	l.metrics.parkedTotal.Add(float64(len(refused)))
	l.conditions.At(parks).Observe("count", condition.Sum(len(refused)), "err", cause)
	return true
}

// store parks a batch, and tries until that is durable. It returns false when the lane is stopping.
func (l *Lane) store(intake context.Context, b *invalidation.Batch, cause error) bool {
	pause := minPause
	for {
		err := l.cfg.Park(intake, b, cause)
		if err == nil {
			l.succeeded()
			return true
		}
		l.fail(sinks.Transient, err)
		if !sleep(intake, pause) {
			return false
		}
		pause = min(2*pause, maxPause)
	}
}

// parcel makes a batch of the refused invalidations under the newest stamp of
// their group.
func parcel(sink string, refused []invalidation.Invalidation, group []ready) *invalidation.Batch {
	b := &invalidation.Batch{Sink: sink, Origin: invalidation.FromWAL}
	for _, r := range group {
		if r.msg.Batch != nil && b.Stamp.Position.Before(r.msg.Batch.Stamp.Position) {
			b.Stamp = r.msg.Batch.Stamp
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

// sleep waits and reports whether the context lived through it.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
