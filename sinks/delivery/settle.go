package delivery

import (
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// settle notes what a turn has purged and what it has deferred, and returns the
// messages that have nothing left.
func (l *Lane) settle(group []ready, j *job) []ready {
	now := time.Now()
	aside := make(map[value]bool, len(j.aside))
	for _, inv := range j.aside {
		aside[value{inv.Kind, inv.Value}] = true
	}
	for _, v := range j.paced {
		if !aside[v.value] {
			l.pacer.note(v.value, v.every, now)
		}
	}
	late := make(map[int]*deferral)
	for _, d := range j.later {
		o := late[d.ready]
		if o == nil {
			o = &deferral{ready: group[d.ready], values: size(group[d.ready])}
			late[d.ready] = o
		}
		if l.pacer.putOff(o, d.value, d.item, d.due) {
			l.metrics.coalesced.Inc()
		}
	}
	done := l.pacer.done(j.met)
	for i, r := range group {
		if !r.skipped {
			l.newest = max(l.newest, r.msg.Seq)
		}
		if l.defers(r) {
			l.flusher.waiting = append(l.flusher.waiting, r)
			l.showFlushing()
			l.putOff(r)
			continue
		}
		o := late[i]
		if o == nil {
			done = append(done, r)
			continue
		}
		// Listeners need not wait for the deferred values; they hear of them again.
		l.announce(l.cfg.Source, r.msg)
		l.pacer.deferrals = append(l.pacer.deferrals, o)
		l.putOff(r)
	}
	return done
}

// putOff notes that all that a message lacks is deferred.
func (l *Lane) putOff(r ready) {
	if r.final {
		l.tracker.putOff(r.entry, false)
	} else {
		l.tracker.workedOnEarly(r.entry, deferredEarly)
	}
}

// passOn acknowledges messages of which newer ones hold all that is deferred. Their lane's watermark
// stays before them until that is purged.
func (l *Lane) passOn() {
	entries := l.pacer.passedOn(l.again.on, l.stuck.lacking)
	if len(entries) == 0 {
		return
	}
	l.ack(l.tracker.passOn(entries...))
}

// ack acknowledges everything up to a message, if there is one.
func (l *Lane) ack(floor uint64) {
	if floor == 0 {
		return
	}
	if err := l.cfg.Source.Ack(floor); err != nil {
		l.conditions.At(ackFails).Observe("err", err, "acknowledgements", condition.Sum(1))
	} else {
		l.conditions.At(ackFails).End()
	}
	failpoint.Crash("acknowledged")
}

// finish gives up messages that are done, or keeps them until what they come to
// was purged a second time. Messages that lack values which are set aside stay until these are
// purged.
func (l *Lane) finish(group []ready, invs []invalidation.Invalidation) {
	now := time.Now()
	all := group
	group, withheld := l.stuck.withhold(group)
	for _, r := range withheld {
		l.tracker.putOff(r.entry, true)
	}
	var first []*entry
	for _, r := range group {
		if b := r.msg.Batch; b != nil && b.Origin == invalidation.FromWAL && !r.skipped {
			l.metrics.latent(b, now)
		}
		if !r.skipped {
			l.announce(l.cfg.Source, r.msg)
		}
		switch {
		case r.final:
			first = append(first, r.entry)
		case !r.skipped:
			l.tracker.workedOnEarly(r.entry, purgedEarly)
		}
	}
	l.purged(first)
	failpoint.Crash("announced")
	at := now.Add(l.cfg.SecondPurge)
	owners, rest := l.again.owners(group)
	l.again.push(at, invs, owners, nil)
	l.giveUp(rest)
	l.uncover(all)
}

// purged marks messages as purged once, and moves the lane's watermark.
func (l *Lane) purged(first []*entry) {
	if claim := l.tracker.purge(first...); claim != nil {
		l.cfg.Board.Advance(watermark.Mark{Stage: watermark.Purged, Target: l.cfg.Name}, claim.Position)
	}
}

func (l *Lane) announce(from Source, m invalidation.Message) {
	if m.Batch == nil {
		return
	}
	if err := from.Announce(m.Seq); err != nil {
		l.cfg.Logger.Debug("announce a purge", "err", err)
	}
}

// giveUp marks the messages of a group that are final as purged and done,
// acknowledges as far as all are, and moves the lane's watermarks.
func (l *Lane) giveUp(group []ready) {
	done := make([]*entry, 0, len(group))
	for _, r := range group {
		if r.final {
			done = append(done, r.entry)
		}
	}
	l.purged(done)
	floor, claim := l.tracker.finish(done...)
	l.ack(floor)
	if claim != nil {
		l.cfg.Board.Advance(watermark.Mark{Stage: watermark.Settled, Target: l.cfg.Name}, claim.Position)
	}
}
