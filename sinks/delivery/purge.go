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
		if b := r.msg.Batch; b != nil && b.Flush && !l.coveredBy(r.msg) && !l.flusher.on() && !r.skipped {
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
	ok := true
	t := &turn{group: j.sources(group), job: j}
	for n, request := range split(all, l.cfg.Limits) {
		if n > 0 {
			failpoint.Crash("purging")
		}
		if ok = l.request(intake, work, request, t); !ok {
			break
		}
	}
	if ok {
		l.enter(OK, nil)
	}
	return ok
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
)

// request calls the sink until it has taken the invalidations or they are
// parked. It returns false when the lane is stopping.
func (l *Lane) request(intake, work context.Context, invs []invalidation.Invalidation, t *turn) bool {
	pause := minPause
	for {
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
		l.metrics.request(time.Since(began), len(invs), err)
		err = l.answered(intake, work, invs, t.job.invs, err)
		if err == nil {
			l.succeeded()
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
			invs, refused, class, after = sortOut(invs, batch)
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
		l.fail(class, err)
		wait := max(after, pause/2+rand.N(pause/2))
		l.speed.pause(wait)
		if !l.nap(intake, work, wait) {
			return false
		}
		pause = min(2*pause, maxPause)
	}
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
