package delivery

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// handJob is a manual purge.
type handJob struct {
	msg   invalidation.Message
	entry *entry
	// left are the invalidations that the sink has not taken yet.
	left  []invalidation.Invalidation
	pause time.Duration
	// refused are those that were parked.
	refused []invalidation.Invalidation
	// group is the newest that was being purged, or had been, when the first attempt began.
	group uint64
}

// cover is a manual purge that replaces everything before it in the lane.
type cover struct {
	job  *handJob
	upTo uint64 // in the lane
	all  []invalidation.Invalidation
	full bool // a flush: covers even those
}

// keepHand reads manual purges. They have no gates: an operator means what is visible now.
func (l *Lane) keepHand(ctx context.Context) {
	for {
		if !l.again.handRoom.await(ctx) {
			return
		}
		m, err := l.cfg.Hand.Next(ctx)
		if err != nil {
			return
		}
		e, again := l.hand.add(m)
		if again || m.Batch == nil {
			continue
		}
		if m.Unknown != nil {
			// It is never acknowledged: a version that knows it carries it out.
			l.conditions.At(unknownKind).Observe("err", m.Unknown, "seq", m.Seq, "messages", condition.Sum(1))
			l.setUnknown(m.Unknown)
			continue
		}
		l.urge(ctx, &handJob{msg: m, entry: e, left: l.valuesByHand(m.Batch), pause: minPause})
	}
}

func (l *Lane) valuesByHand(b *invalidation.Batch) []invalidation.Invalidation {
	all := b.Invalidations(nil)
	if b.Flush {
		all = append(all, l.cfg.Flush()...)
	}
	return distinct(all)
}

func (l *Lane) urge(ctx context.Context, j *handJob) {
	select {
	case l.urgent <- j:
	case <-ctx.Done():
	}
}

// serve carries out the manual purges that wait, ahead of whatever the
// lane is at. It is called by the lane's goroutine between two requests.
func (l *Lane) serve(intake, work context.Context) {
	for {
		select {
		case j := <-l.urgent:
			l.byHand(intake, work, j)
		default:
			return
		}
	}
}

// byHand tries a job once. What the sink may take later comes back after a
// pause, without holding the queue; what it refuses, for whatever reason, is
// parked: a human is at hand.
func (l *Lane) byHand(intake, work context.Context, j *handJob) {
	if j.pause == minPause {
		j.group = l.group
	}
	if b := j.msg.Batch; b.Flush && j.pause == minPause {
		l.flusher.last = time.Now()
		l.noteFlush(b.Reason)
		l.conditions.At(flushes, "reason", b.Reason).Observe("flushes", condition.Sum(1))
	}
	all := j.left
	for _, request := range split(j.left, l.cfg.Limits) {
		if l.cfg.Pace.Wait(intake, request) != nil {
			return
		}
		began := time.Now()
		err := l.cfg.Sink.Purge(work, request)
		l.metrics.request(time.Since(began), len(request), err)
		again, refused := request[:0:0], request[:0:0]
		after := time.Duration(0)
		if err == nil {
			l.refusals.take(request)
		} else {
			again, refused, after = l.sortByHand(request, err)
		}
		if len(refused) > 0 && !l.park(intake, refused, []ready{{entry: j.entry, msg: j.msg}}, err) {
			return
		}
		j.refused = append(j.refused, refused...)
		if len(again) > 0 {
			rest := all[len(request):]
			j.left = append(again, rest...)
			class, _ := sinks.ClassOf(err)
			l.conditions.At(manualFails).Observe("class", class.String(), "err", err, "retries", condition.Sum(1))
			wait := max(after, j.pause/2+rand.N(j.pause/2))
			j.pause = min(2*j.pause, maxPause)
			l.retries.Go(func() {
				if l.sleepUnlessHastened(intake, wait) {
					l.urge(intake, j)
				}
			})
			return
		}
		all = all[len(request):]
	}
	l.conditions.At(manualFails).End()
	l.announce(l.cfg.Hand, j.msg)
	upTo := j.msg.Batch.Supersedes
	switch {
	case upTo > 0 && len(j.refused) > 0:
		l.cfg.Logger.Warn("the sink refuses a manual purge, so what waits in the lane is kept", "seq", upTo)
	case upTo > 0:
		if l.superseded != nil {
			// The newer one replaces whatever the older one did.
			l.doneByHand(l.superseded.job)
		}
		l.superseded = &cover{job: j, upTo: upTo, all: l.valuesByHand(j.msg.Batch), full: j.msg.Batch.Flush}
		l.cfg.Logger.Info("a manual purge replaces what waits in the lane", "seq", upTo)
		l.releaseStuck(func(m *incomplete) bool { return l.coveredBy(m.ready.msg) && m.group <= j.group }, false)
		return
	}
	l.doneByHand(j)
}

// sortByHand divides a failed request into what may be tried again and what is
// refused until somebody acts.
func (l *Lane) sortByHand(request []invalidation.Invalidation, err error) (again, refused []invalidation.Invalidation, after time.Duration) {
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
func (l *Lane) doneByHand(j *handJob) {
	l.hand.purge(j.entry)
	if l.cfg.SecondPurge > 0 {
		invs := without(distinct(j.msg.Batch.Invalidations(nil)), j.refused)
		l.again.push(time.Now().Add(l.cfg.SecondPurge), invs, nil, j)
		return
	}
	l.ackByHand(j)
}

func (l *Lane) ackByHand(j *handJob) {
	floor, _ := l.hand.finish(j.entry)
	if floor == 0 {
		return
	}
	if err := l.cfg.Hand.Ack(floor); err != nil {
		l.conditions.At(manualAck).Observe("err", err, "acknowledgements", condition.Sum(1))
	} else {
		l.conditions.At(manualAck).End()
	}
}

// coveredBy reports whether a manual purge replaces the message.
func (l *Lane) coveredBy(m invalidation.Message) bool {
	c := l.superseded
	return c != nil && m.Seq <= c.upTo && (m.Batch == nil || !m.Batch.Flush || c.full)
}

// coveredIn reports whether a manual purge has replaced a message of this group: one that is carried out again with it, or
// one that was begun and carried out between its requests, and so after its gates opened.
func (l *Lane) coveredIn(r ready) bool {
	return r.covered || l.coveredBy(r.msg) && l.superseded.job.group == l.group
}

// covered reports whether nothing of a turn need be carried out any more, because a manual purge has replaced all of it meanwhile.
func (l *Lane) covered(t *turn) bool {
	if t.second || t.apart || len(t.group) == 0 || len(t.job.met) > 0 {
		return false
	}
	for _, r := range t.group {
		if r.covered || !l.coveredIn(r) {
			return false
		}
	}
	return true
}

// uncover ends the cover once the lane has come past it.
func (l *Lane) uncover(group []ready) {
	c := l.superseded
	if c == nil {
		return
	}
	for _, r := range group {
		if r.msg.Seq >= c.upTo {
			l.superseded = nil
			l.doneByHand(c.job)
			return
		}
	}
}

// nap waits between two attempts, and serves manual purges meanwhile. It ends early where a message
// has come with a kind that does not fail. It reports whether the context lived through it.
func (l *Lane) nap(intake, work context.Context, d time.Duration, kinds []invalidation.Kind) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	traded := l.traded.Load()
	hastened := l.untilHastened()
	for {
		if l.traded.Load() != traded {
			return true // it may be spared
		}
		var next chan ready
		if len(kinds) == 1 && l.peeks() {
			next = l.turn
		}
		select {
		case j := <-l.urgent:
			l.byHand(intake, work, j)
		case r := <-next:
			if l.ahead = append(l.ahead, r); l.othersWait(kinds...) {
				return true
			}
		case <-l.nudge:
		case <-hastened:
			return true
		case <-t.C:
			return true
		case <-intake.Done():
			return false
		}
	}
}

// awaitResume blocks while the lane is paused, serves manual purges
// meanwhile, and reports whether the context lived through it.
func (l *Lane) awaitResume(intake, work context.Context, t *turn) bool {
	for l.held() && !l.overflown(t) {
		select {
		case j := <-l.urgent:
			l.byHand(intake, work, j)
		case <-l.nudge:
		case <-intake.Done():
			return false
		}
	}
	return true
}

// Pause holds the lane: what is in flight is finished, the rest waits until
// Resume. Manual purges are carried out all the same.
func (l *Lane) Pause() { l.hold(true) }

// Resume ends a Pause, and the wait before a retry.
func (l *Lane) Resume() {
	l.hold(false)
	l.Hasten()
}

// Hasten ends the waits before retries, also those that a provider asked for.
func (l *Lane) Hasten() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.hastened)
	l.hastened = make(chan struct{})
}

// untilHastened is closed by the next Hasten.
func (l *Lane) untilHastened() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.hastened
}

// sleepUnlessHastened waits, at most until Hasten, and reports whether the context lived through it.
func (l *Lane) sleepUnlessHastened(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-l.untilHastened():
		return true
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (l *Lane) hold(paused bool) {
	l.mu.Lock()
	changed := l.paused != paused
	l.paused = paused
	if !paused {
		changed = changed || l.halted != nil
		l.halted = nil
		l.conditions.At(stopped).End()
	}
	l.mu.Unlock()
	if !changed {
		return
	}
	if paused {
		l.enter(Paused, nil)
	} else {
		l.enter(OK, nil)
	}
	l.poke()
}

func (l *Lane) held() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.paused || l.halted != nil
}
