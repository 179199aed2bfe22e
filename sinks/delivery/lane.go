package delivery

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules"
)

// Lane is one sink's queue. Run it once.
type Lane struct {
	cfg     Config
	tracker tracker
	pacer   *pacer
	queue   *queue
	metrics *laneMetrics

	mu     sync.Mutex
	status Status
	// shut says since when the gates were found closed, zero for an open one.
	shut   []time.Time
	paused bool

	// What was asked for by hand; superseded belongs to the lane's goroutine.
	hand       tracker
	urgent     chan *handJob
	retries    sync.WaitGroup
	superseded *cover
	group      uint64        // counts what carryOut was called with
	nudge      chan struct{} // paused has changed
}

// Status is a lane's condition for status pages.
type Status struct {
	State State
	// Err is the newest failure while the lane is not ok; it holds no secret.
	Err   string
	Since time.Time
}

// State says in one word what a lane is doing.
type State string

// The states.
const (
	OK        State = "ok"
	Gated     State = "gated"     // waits for a gate
	Throttled State = "throttled" // the provider asked for a pause
	Blocked   State = "blocked"   // the sink fails
	Flushing  State = "flushing"
	Paused    State = "paused" // by hand
)

// States lists them for metrics.
var states = []State{OK, Gated, Throttled, Blocked, Flushing, Paused}

// New returns a lane that does nothing until Run.
func New(cfg Config) *Lane {
	l := &Lane{
		cfg: cfg, pacer: newPacer(), queue: newQueue(), metrics: cfg.Metrics.lane(cfg.Name, cfg.Gates), shut: make([]time.Time, len(cfg.Gates)),
		urgent: make(chan *handJob, maxJobs), nudge: make(chan struct{}, 1),
	}
	l.enter(OK, nil)
	return l
}

// Status returns what the lane is doing.
func (l *Lane) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}

func (l *Lane) enter(s State, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s == OK && l.paused {
		s = Paused
	}
	text := ""
	if err != nil {
		text = err.Error()
	}
	if l.status.State != s {
		l.status.Since = time.Now()
		l.metrics.enter(s)
	}
	l.status.State, l.status.Err = s, text
}

// shift changes the state if it is the expected one: a gate that is slow must
// not hide a sink that fails.
func (l *Lane) shift(from, to State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.State == from {
		l.status = Status{State: to, Since: time.Now()}
		l.metrics.enter(to)
	}
}

// Oldest returns the first commit time that the lane has not purged, false if
// it holds nothing.
func (l *Lane) Oldest() (time.Time, bool) {
	if b := l.tracker.oldest(); b != nil {
		return b.Stamp.FirstCommit, true
	}
	return time.Time{}, false
}

// ready is a message whose turn has come.
type ready struct {
	entry *entry
	msg   rules.Message
	// final: with this purge the message is done. Otherwise its gates are still
	// closed and it comes again.
	final bool
}

// Limits of what lets itself be purged together. What a lane looks at when it
// counts the values of a rule that wait is as much, so they are generous; a queue
// of messages in turn may hold as much again.
const (
	maxGroup  = 4096
	maxValues = 24000
	// maxEarly bounds the messages that were purged early and wait for their
	// gates; past it the lane reads no further.
	maxEarly = 1024
	// maxJobs bounds the purges by hand that wait in memory.
	maxJobs = 64
)

// Run works until intake ends: it then finishes the purge in flight, or as much
// of it as work allows, acknowledges, and returns nil.
func (l *Lane) Run(intake, work context.Context) error {
	turn := make(chan ready, maxGroup)
	keeping, stop := context.WithCancel(intake)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { l.keep(keeping, turn); return nil })
	if l.cfg.Hand != nil {
		g.Go(func() error { l.keepHand(keeping); return nil })
	}
	defer l.retries.Wait()
	due := time.NewTimer(rules.MaxEvery)
	defer due.Stop()
	for intake.Err() == nil {
		wake := rules.MaxEvery
		if at, some := l.pacer.next(); some {
			wake = time.Until(at)
		}
		due.Reset(wake)
		next, putOff := turn, due.C
		if l.held() {
			next, putOff = nil, nil
		}
		select {
		case j := <-l.urgent:
			l.byHand(intake, work, j)
		case r := <-next:
			group := gather(r, turn)
			l.queue.release(group)
			l.carryOut(intake, work, group)
			l.absorb(group, turn)
		case <-putOff:
			l.carryOut(intake, work, nil)
		case <-l.nudge:
		case <-intake.Done():
		}
	}
	stop()
	return g.Wait()
}

// gather takes what else is ready, so that it goes together.
func gather(first ready, turn <-chan ready) []ready {
	group := []ready{first}
	values := size(first)
	for len(group) < maxGroup && values < maxValues {
		select {
		case r := <-turn:
			group = append(group, r)
			values += size(r)
		default:
			return group
		}
	}
	return group
}

func size(r ready) int { return sizeOf(r.msg.Batch) }

// carryOut purges a group, and what was put off and is due, and gives up what is
// done with it.
func (l *Lane) carryOut(intake, work context.Context, group []ready) {
	l.group++
	if failpoint.On("ack_before_purge") {
		l.giveUp(group)
	}
	failpoint.Crash("delivered")
	j := l.plan(group, time.Now())
	if !l.purge(intake, work, group, j) {
		return
	}
	failpoint.Crash("purged")
	l.finish(l.settle(group, j))
	messages, values, bytes := l.tracker.behind()
	if messages > maxPutOff || values > maxPutOffValues || l.cfg.MaxPutOff > 0 && bytes > l.cfg.MaxPutOff {
		l.pacer.hurry(time.Now())
	}
}

// finish gives up messages that are done.
func (l *Lane) finish(group []ready) {
	now := time.Now()
	for _, r := range group {
		if b := r.msg.Batch; b != nil && b.Origin == rules.FromWAL {
			l.metrics.latency.Observe(now.Sub(b.Stamp.FirstCommit).Seconds())
		}
		l.announce(l.cfg.Source, r.msg)
	}
	failpoint.Crash("announced")
	l.giveUp(group)
	l.uncover(group)
}

func (l *Lane) announce(from Source, m rules.Message) {
	if m.Batch == nil {
		return
	}
	if err := from.Announce(m.Seq); err != nil {
		l.cfg.Logger.Debug("announce a purge", "err", err)
	}
}

// giveUp marks the messages of a group that are final as done, acknowledges as
// far as all are, and moves the lane's watermarks.
func (l *Lane) giveUp(group []ready) {
	done := make([]*entry, 0, len(group))
	for _, r := range group {
		if r.final {
			done = append(done, r.entry)
		}
	}
	floor, claim := l.tracker.finish(done...)
	if floor == 0 {
		return
	}
	if err := l.cfg.Source.Ack(floor); err != nil {
		l.cfg.Logger.Warn("acknowledgement failed, the purges will be repeated after a restart", "err", err)
	}
	failpoint.Crash("acknowledged")
	if claim != nil {
		l.cfg.Board.Advance(watermark.Mark{Stage: watermark.Purged, Target: l.cfg.Name}, claim.Position)
		l.cfg.Board.Advance(watermark.Mark{Stage: watermark.Settled, Target: l.cfg.Name}, claim.Position)
	}
}

// keep reads messages and hands each over when its gates are open, in order; or
// early when they stay closed, and then once more when they open.
func (l *Lane) keep(ctx context.Context, turn chan<- ready) {
	early := make(chan struct{}, maxEarly)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		m, err := l.cfg.Source.Next(ctx)
		if err != nil {
			return
		}
		e, again := l.tracker.add(m)
		if again {
			continue
		}
		r := ready{entry: e, msg: m, final: true}
		if l.gates(ctx, m, true) {
			l.pass(ctx, turn, r)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		early <- struct{}{}
		l.pass(ctx, turn, ready{entry: e, msg: m})
		waiting.Go(func() {
			defer func() { <-early }()
			if l.gates(ctx, m, false) {
				l.pass(ctx, turn, r)
			}
		})
	}
}

func (l *Lane) pass(ctx context.Context, turn chan<- ready, r ready) {
	if !l.queue.acquire(ctx, r) {
		return
	}
	select {
	case turn <- r:
	case <-ctx.Done():
	}
}

// gates waits for every gate of a message and reports whether all opened. It
// waits for ever unless its patience is bounded.
func (l *Lane) gates(ctx context.Context, m rules.Message, bounded bool) bool {
	if m.Batch == nil || m.Batch.Origin == rules.FromHand {
		return true
	}
	for i := range l.cfg.Gates {
		if failpoint.On("visible_gate_ignored") && l.cfg.Gates[i].Name == "visible" ||
			failpoint.On("after_gate_ignored") && l.cfg.Gates[i].Name != "visible" {
			continue
		}
		if !l.wait(ctx, i, m, bounded) {
			return false
		}
	}
	return true
}

// shortWait is what is left of the patience with a gate that has used it up.
const shortWait = 100 * time.Millisecond

// patience is how long to wait for a gate. It is counted from when the gate was
// first found closed: a backlog behind it must not wait once for each message.
func (l *Lane) patience(gate int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shut[gate].IsZero() {
		l.shut[gate] = time.Now()
	}
	return max(min(shortWait, l.cfg.MaxWait), l.cfg.MaxWait-time.Since(l.shut[gate]))
}

func (l *Lane) opened(gate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut[gate] = time.Time{}
}

func (l *Lane) wait(ctx context.Context, i int, m rules.Message, bounded bool) bool {
	gate, metrics := l.cfg.Gates[i], l.metrics.gates[i]
	began := time.Now()
	slow := time.AfterFunc(time.Second, func() { l.shift(OK, Gated) })
	defer func() {
		if !slow.Stop() {
			l.shift(Gated, OK)
		}
		metrics.waited.Observe(time.Since(began).Seconds())
	}()
	waiting, cancel := ctx, context.CancelFunc(func() {})
	if bounded {
		waiting, cancel = context.WithTimeout(ctx, l.patience(i))
	}
	defer cancel()
	open := gate.Wait
	if bounded && gate.Brief != nil {
		open = gate.Brief
	}
	err := open(waiting, m)
	if err == nil || errors.Is(err, ErrPutOff) {
		l.opened(i)
		return err == nil
	}
	if ctx.Err() == nil {
		metrics.timeouts.Inc()
		l.cfg.Logger.Warn("gate stayed closed, purging early and again when it opens", "gate", gate.Name, "after", time.Since(began))
	}
	return false
}
