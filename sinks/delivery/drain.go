package delivery

import (
	"sync"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// Drain is an estimate of what a lane's backlog takes.
type Drain struct {
	// Requests are the calls of the sink that the backlog may come to.
	Requests float64
	// PerSecond is how fast they can go: by the budget where that is what holds
	// the lane back, else as fast as the latest went; a pause that the lane is in
	// counts.
	PerSecond float64
	// Time is what the backlog takes at that speed. 0 without a backlog.
	Time time.Duration
}

// Drain estimates what a backlog of so many messages takes, from the lane's
// latest turns and its budget. It returns false if there is nothing to tell from:
// the lane has finished no message since the start and has no budget.
func (l *Lane) Drain(backlog uint64) (Drain, bool) {
	return l.speed.estimate(backlog, l.cfg.Pace, time.Now())
}

// Calls divides invalidations into calls of the sink, and says how long its budgets hold them
// back from now on.
func (l *Lane) Calls(invs []invalidation.Invalidation) (calls [][]invalidation.Invalidation, held time.Duration) {
	calls = machine.Split(machine.Distinct(invs), l.cfg.Limits)
	return calls, l.cfg.Pace.Duration(calls)
}

// Throttled returns how long the lane has spent in the state throttled since the
// start, up to now.
func (l *Lane) Throttled() time.Duration {
	l.display.mu.Lock()
	defer l.display.mu.Unlock()
	if l.display.State == Throttled {
		return l.display.throttled + time.Since(l.display.Since)
	}
	return l.display.throttled
}

// Budget returns the tokens in the lane's tightest bucket, false if it has no
// budget. It is negative where calls wait for tokens.
func (l *Lane) Budget() (tokens float64, limited bool) {
	tokens, _, limited = l.cfg.Pace.tightest()
	return tokens, limited
}

// turns is how many of a lane's latest turns its speed is told from.
const turns = 16

// speed remembers a lane's latest turns.
type speed struct {
	mu       sync.Mutex
	latest   [turns]pastTurn
	next     int
	began    time.Time // of the turn that goes on, else zero
	requests float64   // of the turn that goes on
	resumes  time.Time // when the latest pause ends
}

type pastTurn struct {
	took               time.Duration
	messages, requests float64
}

func (s *speed) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.began, s.requests = time.Now(), 0
}

func (s *speed) request() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.requests++
}

// pause notes that the lane does nothing for so long.
func (s *speed) pause(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resumes = time.Now().Add(d)
}

// end notes a turn that came to so many messages. One that had none, or was
// not finished, says nothing about a backlog.
func (s *speed) end(messages int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if messages > 0 {
		s.latest[s.next] = pastTurn{time.Since(s.began), float64(messages), s.requests}
		s.next = (s.next + 1) % turns
	}
	s.began, s.requests = time.Time{}, 0
}

func (s *speed) estimate(backlog uint64, pace Pace, now time.Time) (Drain, bool) {
	if backlog == 0 {
		return Drain{}, true
	}
	s.mu.Lock()
	paused := max(0, s.resumes.Sub(now))
	s.mu.Unlock()
	d, known := s.working(backlog, pace, now)
	if known && paused > 0 {
		d.Time += paused
		d.PerSecond = d.Requests / d.Time.Seconds()
	}
	return d, known
}

// working is the estimate without the pause that the lane is in.
func (s *speed) working(backlog uint64, pace Pace, now time.Time) (Drain, bool) {
	var sum pastTurn
	s.mu.Lock()
	for _, t := range s.latest {
		sum.took += t.took
		sum.messages += t.messages
		sum.requests += t.requests
	}
	if !s.began.IsZero() {
		// A turn that does not end is what the lane is slow with.
		sum.took += now.Sub(s.began)
	}
	s.mu.Unlock()

	tokens, perSecond, limited := pace.tightest()
	if sum.messages == 0 {
		// Nothing is known but the budget. A call for each message is the most.
		if !limited {
			return Drain{}, false
		}
		return bucketed(float64(backlog), tokens, perSecond), true
	}
	d := Drain{Requests: float64(backlog) * sum.requests / sum.messages}
	d.Time = time.Duration(float64(backlog) * float64(sum.took) / sum.messages)
	if seconds := d.Time.Seconds(); seconds > 0 {
		d.PerSecond = d.Requests / seconds
	}
	if limited {
		if slower := bucketed(d.Requests, tokens, perSecond); slower.Time > d.Time {
			return slower, true
		}
	}
	return d, true
}

// bucketed is what requests take that are held back by nothing but a bucket.
func bucketed(requests, tokens, perSecond float64) Drain {
	left := max(0, requests-max(0, tokens))
	return Drain{Requests: requests, PerSecond: perSecond, Time: time.Duration(left / perSecond * float64(time.Second))}
}
