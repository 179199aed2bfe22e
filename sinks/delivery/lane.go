package delivery

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Lane is one sink's queue. Run it once.
type Lane struct {
	cfg     Config
	tracker tracker
	pacer   *pacer
	queue   *queue
	again   *again
	flusher *flusher
	// inherited is for the lanes that wait for this one.
	inherited inherited
	// stuck and ahead belong to the lane's goroutine; ahead are messages that were taken from turn
	// to see what kinds they have.
	stuck   *stuckKinds
	ahead   []ready
	turn    chan ready
	metrics *laneMetrics
	// conditions is the lane's log of what repeats, failing the class of the newest failure
	// until the sink takes a purge.
	conditions *condition.Log
	failing    string

	mu sync.Mutex
	// status is what is shown: doing, or Gated where the lane would be OK but for a gate.
	status Status
	doing  State
	// slow counts for each gate the waits for it that have lasted for longer than slowGate.
	slow []int
	// shut says since when the gates were found closed, zero for an open one.
	shut []time.Time
	// early has for each gate the messages that were purged while it was closed, and that
	// still wait for it.
	early  []map[uint64]struct{}
	paused bool
	// throttled is the time in that state, up to the last time it was left.
	throttled time.Duration

	speed    speed
	refusals refusals
	// halted is why the lane stopped by itself, until it is resumed.
	halted error
	// unknown says which kind of value this version does not know, while a message that names
	// one is kept.
	unknown error
	// flushing: a flush waits or runs.
	flushing bool
	// restoring is what is purged again, nil for nothing.
	restoring *restoration

	// Manual purges; superseded belongs to the lane's goroutine.
	hand       tracker
	urgent     chan *handJob
	retries    sync.WaitGroup
	superseded *cover
	// traded is the newest flush that replaces a backlog, begun the newest whose
	// purge has begun behind open gates; newest the last message that was worked on.
	traded atomic.Uint64
	trades trades
	begun  atomic.Uint64
	newest uint64
	group  uint64 // counts what carryOut was called with
	// kept is the message of the queue that names a kind of value that this version does not
	// know. It belongs to the lane's goroutine.
	kept  *ready
	nudge chan struct{} // paused or retries has changed
	// hastened is closed when an operator ends the waits before retries, and replaced by another.
	hastened chan struct{}
}

// Status is a lane's condition for status pages.
type Status struct {
	State State
	// Err is the newest failure while the lane is not ok; it holds no secret.
	Err   string
	Since time.Time
	// Class is that of the failure, empty without one.
	Class string
	// Gates names those that a gated lane waits for.
	Gates []string
	// Stuck are kinds of values that wait because their purges fail; with OthersGo other kinds are
	// purged meanwhile.
	Stuck    []Stuck
	OthersGo bool
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
	Paused    State = "paused" // by an operator
)

// States lists them for metrics.
var states = []State{OK, Gated, Throttled, Blocked, Flushing, Paused}

// New returns a lane that does nothing until Run.
func New(cfg Config) *Lane {
	l := &Lane{
		cfg: cfg, pacer: newPacer(), queue: newQueue(), again: newAgain(cfg),
		flusher: &flusher{pace: cfg.FlushPace, atMost: cfg.FlushAtMost}, stuck: newStuckKinds(), turn: make(chan ready, maxGroup), metrics: cfg.Metrics.lane(cfg.Name, cfg.Gates), shut: make([]time.Time, len(cfg.Gates)),
		conditions: condition.NewLog(cfg.Logger), early: make([]map[uint64]struct{}, len(cfg.Gates)), slow: make([]int, len(cfg.Gates)),
		urgent: make(chan *handJob, maxJobs), nudge: make(chan struct{}, 1), hastened: make(chan struct{}),
	}
	if cfg.Inherited.Newest > cfg.Inherited.Acked {
		l.inherited.Inherited, l.tracker.inherited = cfg.Inherited, cfg.Inherited.Newest
	} else {
		l.inherited.purged.Store(true)
	}
	if seq := cfg.Overflow.PendingFlush; seq > 0 {
		l.trade(seq)
	}
	if cfg.Distrusted {
		l.Distrust(Restoration{Since: time.Now()})
	} else {
		l.trust()
	}
	l.enter(OK, nil)
	return l
}

// Status returns what the lane is doing.
func (l *Lane) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	for i := range l.cfg.Gates {
		if s.State == Gated && l.closed(i) && !slices.Contains(s.Gates, l.cfg.Gates[i].Name) {
			s.Gates = append(s.Gates, l.cfg.Gates[i].Name)
		}
	}
	return s
}

// closed reports that a gate holds the lane back: a message waits for it, or was purged
// while it was closed and has not passed it yet. The caller holds the lock.
func (l *Lane) closed(gate int) bool { return l.slow[gate] > 0 || len(l.early[gate]) > 0 }

func (l *Lane) enter(s State, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case s == OK && l.paused:
		s = Paused
	case s == OK && l.halted != nil:
		s, err = Blocked, l.halted
	case s == OK && l.flushing:
		s = Flushing
	}
	l.status.Err, l.status.Class = "", ""
	if err != nil {
		l.status.Err = err.Error()
	}
	l.doing = s
	l.show()
}

// show derives the state from what the lane does and from its gates. A gate must not hide
// a sink that fails. The caller holds the lock.
func (l *Lane) show() {
	s := l.doing
	for i := range l.cfg.Gates {
		if s == OK && l.closed(i) {
			s = Gated
		}
	}
	if (s == OK || s == Gated) && l.unknown != nil {
		s, l.status.Err = Blocked, l.unknown.Error()
	}
	if (s == OK || s == Gated) && len(l.status.Stuck) > 0 {
		s, l.status.Err, l.status.Class = Blocked, stuckText(l.status.Stuck, l.status.OthersGo), l.status.Stuck[0].Class
	}
	if l.status.State != s {
		if l.status.State == Throttled {
			l.throttled += time.Since(l.status.Since)
		}
		l.status.Since = time.Now()
		l.metrics.enter(s)
		l.status.State = s
	}
}

// waits counts a slow wait for a gate that began (1) or ended (-1).
func (l *Lane) waits(gate, change int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slow[gate] += change
	l.show()
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
	msg   invalidation.Message
	// final: with this purge the message is done. Otherwise its gates are still
	// closed and it comes again.
	final bool
	// skipped: a flush further back replaces it.
	skipped bool
	// covered: a manual purge replaces it, and is carried out again in this turn.
	covered bool
	// passed: it is acknowledged, because a newer one holds what was deferred, and its batch has no
	// values any more.
	passed bool
}

// Limits of what lets itself be purged together. What a lane looks at when it
// counts the values of a rule that wait is as much, so they are generous; a queue
// of messages in turn may hold as much again.
const (
	maxGroup  = 4096
	maxValues = 12000
	// maxEarly bounds the messages that were purged early and wait for their
	// gates; past it the lane reads no further.
	maxEarly = 1024
	// maxJobs bounds the manual purges that wait in memory.
	maxJobs = 64
)

// Run works until intake ends: it then finishes the purge in flight, or as much
// of it as work allows, acknowledges, and returns nil.
func (l *Lane) Run(intake, work context.Context) error {
	keeping, stop := context.WithCancel(intake)
	defer stop()
	var g errgroup.Group
	g.Go(func() error { l.keep(keeping, l.turn); return nil })
	if l.cfg.Hand != nil {
		g.Go(func() error { l.keepHand(keeping); return nil })
	}
	if l.cfg.Overflow.MaxBacklog > 0 || l.cfg.Overflow.Pressing != nil {
		g.Go(func() error { l.watch(keeping); return nil })
	}
	defer l.conditions.Close()
	defer l.retries.Wait()
	due := time.NewTimer(invalidation.MaxEvery)
	defer due.Stop()
	for intake.Err() == nil {
		due.Reset(l.wake())
		hastened := l.untilHastened()
		if l.begun.Load() < l.traded.Load() {
			l.releaseStuck(func(m *incomplete) bool { return l.skips(m.ready.msg) }, true)
		}
		if l.kept != nil && l.replaced(l.kept.msg) {
			l.carryOut(intake, work, []ready{l.release()})
			continue
		}
		held, reads := l.held(), l.kept == nil
		next, timer := l.turn, due.C
		if held {
			timer = nil
			reads = reads && l.begun.Load() < l.traded.Load()
		}
		if reads = reads && l.readsOn(); reads && len(l.ahead) > 0 {
			first := l.ahead[0]
			l.ahead = l.ahead[1:]
			l.take(intake, work, first)
			continue
		}
		if !reads && (held || !l.peeks()) {
			next = nil
		}
		select {
		case j := <-l.urgent:
			l.byHand(intake, work, j)
		case r := <-next:
			if reads {
				l.take(intake, work, r)
			} else {
				l.ahead = append(l.ahead, r)
			}
		case <-timer:
			if at, some := l.pacer.next(); some && !time.Now().Before(at) {
				l.carryOut(intake, work, nil)
			}
			l.besides(intake, work)
		case <-hastened:
			l.stuck.hasten()
		case <-l.nudge:
		case <-intake.Done():
		}
	}
	stop()
	return g.Wait()
}

// take works on a message and those behind it that are ready, and then on what is due.
func (l *Lane) take(intake, work context.Context, first ready) {
	group := l.gather(first)
	l.queue.release(group)
	if last := group[len(group)-1]; last.msg.Unknown != nil && !l.replaced(last.msg) {
		l.keepUnknown(last)
		group = group[:len(group)-1]
	}
	l.carryOut(intake, work, group)
	l.absorb(group)
	l.besides(intake, work)
}

// besides carries out what is due beside the queue.
func (l *Lane) besides(intake, work context.Context) {
	l.flushOn(intake, work)
	l.repeat(intake, work)
	l.retryStuck(intake, work)
}

// peeks reports whether the lane may take one more message to see what kinds it has.
func (l *Lane) peeks() bool {
	n := len(l.ahead)
	return l.kept == nil && n < maxGroup && (n == 0 || l.ahead[n-1].msg.Unknown == nil)
}

// wake is how long until something is due that no message brings.
func (l *Lane) wake() time.Duration {
	wake := invalidation.MaxEvery
	for _, next := range []func() (time.Time, bool){l.pacer.next, l.again.next, l.flusher.next, l.stuck.next} {
		if at, some := next(); some {
			wake = min(wake, time.Until(at))
		}
	}
	return wake
}

// gather takes what else is ready, so that it goes together. A message that is to be kept ends it.
func (l *Lane) gather(first ready) []ready {
	group := []ready{first}
	values := size(first)
	for len(group) < maxGroup && values < maxValues && group[len(group)-1].msg.Unknown == nil {
		var r ready
		if len(l.ahead) > 0 {
			r, l.ahead = l.ahead[0], l.ahead[1:]
		} else {
			select {
			case r = <-l.turn:
			default:
				return group
			}
		}
		group = append(group, r)
		values += size(r)
	}
	return group
}

func size(r ready) int { return sizeOf(r.msg.Batch) }

// carryOut purges a group, and what was deferred and is due, and gives up what is
// done with it.
func (l *Lane) carryOut(intake, work context.Context, group []ready) {
	l.group++
	finished := 0
	l.speed.begin()
	defer func() { l.speed.end(finished) }()
	if failpoint.On("ack_before_purge") {
		l.giveUp(group)
	}
	failpoint.Crash("delivered")
	group = l.spare(group)
	began := time.Now()
	j := l.plan(group, began)
	if !l.purge(intake, work, group, j) {
		return
	}
	failpoint.Crash("purged")
	if !j.flush && !l.parkUnbuilt(intake, group) {
		return
	}
	for _, r := range group {
		l.span(r.msg, "purge", began)
	}
	finished = len(group)
	l.again.note(without(j.invs, j.aside), began)
	l.setAside(group, j)
	l.finish(l.settle(group, j), l.repeats(group, j))
	l.passOn()
	l.bound()
}

// keep reads messages and hands each over when its gates are open, in order; or
// early when they stay closed, and then once more when they open.
func (l *Lane) keep(ctx context.Context, turn chan<- ready) {
	early := make(chan struct{}, maxEarly)
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		if !l.again.room.await(ctx) {
			return
		}
		m, err := l.cfg.Source.Next(ctx)
		if err != nil {
			return
		}
		e, again := l.tracker.add(m)
		if again {
			continue
		}
		r := ready{entry: e, msg: m, final: true}
		asked := time.Now()
		err = l.gates(ctx, m, m.Unknown == nil)
		l.span(m, "gates", asked)
		if err == nil || errors.Is(err, errReplaced) {
			l.pass(ctx, turn, r)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		early <- struct{}{}
		// A flush that another lane spreads or holds back is not run ahead of.
		if !errors.Is(err, ErrFlushHeldBack) {
			l.pass(ctx, turn, ready{entry: e, msg: m})
		}
		waiting.Go(func() {
			defer func() {
				<-early
				for gate := range l.cfg.Gates {
					if ctx.Err() == nil {
						l.passed(gate, m)
					}
				}
			}()
			if err := l.gates(ctx, m, false); err == nil || errors.Is(err, errReplaced) {
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

// errEarly says that a gate stayed closed for longer than the patience with it.
var errEarly = errors.New("the gate is still closed")

// gates waits for every gate of a message and returns nil when all have opened, or
// errReplaced when a flush replaces the message. It waits for ever unless its
// patience is bounded. Then a gate that stays closed does not end the wait for the others: what the
// message is purged ahead of is that gate alone.
func (l *Lane) gates(ctx context.Context, m invalidation.Message, bounded bool) error {
	if m.Batch == nil || m.Batch.Origin == invalidation.FromHand {
		return nil
	}
	var early error
	var began time.Time
	timedOut := ""
	for i := range l.cfg.Gates {
		gate, metrics := &l.cfg.Gates[i], &l.metrics.gates[i]
		if failpoint.On("visible_gate_ignored") && gate.Name == "visible" ||
			failpoint.On("after_gate_ignored") && gate.Name != "visible" {
			continue
		}
		if i == 0 || l.cfg.Gates[i-1].Name != gate.Name {
			began = time.Now()
		}
		err := errReplaced
		for errors.Is(err, errReplaced) {
			if gate.Ordered && l.skips(m) {
				metrics.waited.Observe(time.Since(began).Seconds())
				if early != nil {
					return early // the gates before this one are not open, and the flush does not say so of them
				}
				return errReplaced
			}
			err = l.wait(ctx, i, m, bounded, early != nil)
		}
		if errors.Is(err, errEarly) && ctx.Err() == nil && timedOut != gate.Name {
			timedOut = gate.Name
			metrics.timeouts.Inc()
		}
		if i+1 == len(l.cfg.Gates) || l.cfg.Gates[i+1].Name != gate.Name || ctx.Err() != nil {
			metrics.waited.Observe(time.Since(began).Seconds())
		}
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return err
		case early == nil || errors.Is(err, ErrPutOff) && !errors.Is(early, ErrFlushHeldBack):
			early = err
		}
	}
	return early
}

// slowGate is how long a gate may stay closed before the lane counts as gated.
const slowGate = time.Second

// shortWait is what is left of the patience with a gate that has used it up.
const shortWait = 100 * time.Millisecond

// patience is how long to wait for a gate. It is counted from when the gate was
// first found closed: a backlog behind it must not wait once for each message.
// Gates of one name are asked one after the other, and the patience with all that follow begins with the first.
func (l *Lane) patience(gate int) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := gate; i < len(l.cfg.Gates) && l.cfg.Gates[i].Name == l.cfg.Gates[gate].Name; i++ {
		if l.shut[i].IsZero() {
			l.shut[i] = time.Now()
		}
	}
	return max(min(shortWait, l.cfg.MaxWait), l.cfg.MaxWait-time.Since(l.shut[gate]))
}

func (l *Lane) opened(gate int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut[gate] = time.Time{}
}

func (l *Lane) wait(ctx context.Context, i int, m invalidation.Message, bounded, early bool) error {
	gate := &l.cfg.Gates[i]
	began := time.Now()
	slow := time.AfterFunc(slowGate, func() { l.waits(i, 1) })
	defer func() {
		if !slow.Stop() {
			l.waits(i, -1)
		}
	}()
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	if bounded {
		var end context.CancelFunc
		waiting, end = context.WithTimeout(waiting, l.patience(i))
		defer end()
	}
	trade := context.Background()
	if gate.Ordered {
		trade = l.trades.until()
		defer context.AfterFunc(trade, cancel)()
	}
	open := gate.Wait
	switch {
	case bounded && early && gate.Early != nil:
		open = gate.Early
	case bounded && gate.Brief != nil:
		open = gate.Brief
	}
	err := open(waiting, m)
	if errors.Is(err, ErrPurgedEarly) {
		l.opened(i)
		return err
	}
	if err == nil || errors.Is(err, ErrPutOff) {
		l.opened(i)
		l.passed(i, m)
		return err
	}
	if ctx.Err() == nil && trade.Err() != nil {
		return errReplaced
	}
	if ctx.Err() == nil {
		l.purgedEarly(i, m, time.Since(began))
	}
	return errEarly
}
