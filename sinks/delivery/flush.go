package delivery

import (
	"context"
	"time"

	"github.com/walpurge/walpurge/cdc/condition"
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
// or held apart. It belongs to the lane's goroutine.
type flusher struct {
	pace, atMost time.Duration
	// waiting are messages that wait for a flush which has not begun, run for the one
	// that has.
	waiting []ready
	run     []ready
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
func (f *flusher) end() []ready {
	done := f.run
	f.run, f.left = nil, nil
	f.hurried = false
	return done
}

// flushOn carries out the next step of a flush that is due.
func (l *Lane) flushOn(intake, work context.Context) {
	f := l.flusher
	now := time.Now()
	if at, some := f.next(); !some || now.Before(at) {
		return
	}
	if len(f.run) == 0 {
		f.begin(distinct(append([]invalidation.Invalidation(nil), l.cfg.Flush()...)), now)
		for _, r := range f.run {
			l.beginning(r)
		}
		reason := f.run[0].msg.Batch.Reason
		l.noteFlush(reason)
		l.conditions.At(flushes, "reason", reason).Observe("joined", len(f.run), "steps", len(f.left), "pace", f.pace, "flushes", condition.Sum(1))
	}
	t := &turn{group: f.run, job: &job{}, apart: true}
	if !l.requests(intake, work, f.left[0], t) {
		return
	}
	l.setAside(f.run, t.job)
	f.left = f.left[1:]
	if f.due = now.Add(f.step); f.hurried {
		f.due = now
	}
	if len(f.left) > 0 {
		l.enter(OK, nil)
		return
	}
	done := f.end()
	l.showFlushing()
	l.enter(OK, nil)
	l.finish(done, nil)
}

// defers reports whether a message's flush is carried out beside the queue.
func (l *Lane) defers(r ready) bool {
	b := r.msg.Batch
	return l.flusher.on() && b != nil && b.Flush && !r.skipped && !l.coveredIn(r)
}

// showFlushing shows whether a flush waits or runs.
func (l *Lane) showFlushing() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flushing = l.flusher.busy()
}

// bound keeps what is purged and not acknowledged within its limits: past them
// what holds it up goes before its time.
func (l *Lane) bound() {
	messages, values, bytes := l.tracker.behind()
	room := l.cfg.MaxPutOff > 0 && bytes > l.cfg.MaxPutOff
	if l.flusher.busy() || len(l.stuck.lacking) > 0 {
		if room || messages > maxHeld {
			l.flusher.hurry()
			l.pacer.hurry(time.Now())
		}
		return
	}
	passed, transactions := l.tracker.onlyHere()
	if room || messages > maxPutOff || values > maxPutOffValues || passed > maxPassed || transactions > maxPassedXIDs {
		l.pacer.hurry(time.Now())
	}
}
