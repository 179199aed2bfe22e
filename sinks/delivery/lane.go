package delivery

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// maxJobs bounds the manual purges that wait in memory.
const maxJobs = 64

// Lane is one sink's queue. Run it once.
type Lane struct {
	cfg Config
	// mu guards machine, which decides what the lane does, what waits for it, and restoring, which is what is purged
	// again, nil for nothing.
	mu        sync.Mutex
	machine   *machine.Machine
	signals   signals
	restoring *restoration
	// inherited is for the lanes that wait for this one.
	inherited inherited

	// turn has messages whose gates are open, as many as queue lets pass, urgent manual purges.
	turn   chan machine.Ready
	queue  *queue
	urgent chan *machine.Job
	// room and roomByHand stop the reading of messages, and of manual purges.
	room, roomByHand valve
	nudge            chan struct{} // a setting of the machine has changed
	trades           trades

	display display
	metrics *laneMetrics
	speed   speed
	// conditions is the lane's log of what repeats, failing the class of the newest failure
	// until the sink takes a purge.
	conditions *condition.Log
	failing    string
}

// New returns a lane that does nothing until Run.
func New(cfg Config) *Lane {
	l := &Lane{
		cfg: cfg, queue: newQueue(), turn: make(chan machine.Ready, machine.MaxGroup), urgent: make(chan *machine.Job, maxJobs), nudge: make(chan struct{}, 1),
		metrics: cfg.Metrics.lane(cfg.Name, cfg.Gates), conditions: condition.NewLog(cfg.Logger),
		display: display{shut: make([]time.Time, len(cfg.Gates)), early: make([]map[uint64]struct{}, len(cfg.Gates)), slow: make([]int, len(cfg.Gates))},
		machine: machine.New(machine.Config{
			Name: cfg.Name, Limits: cfg.Limits, MaxPutOff: cfg.MaxPutOff, SecondPurge: cfg.SecondPurge,
			FlushPace: cfg.FlushPace, FlushAtMost: cfg.FlushAtMost, Flush: cfg.Flush, Jitter: rand.N[time.Duration],
			AckBeforePurge: failpoint.On("ack_before_purge"), JoinsInFlight: failpoint.On("join_in_flight"), FlushAbsorbsLater: failpoint.On("flush_absorbs_later"),
		}),
	}
	if cfg.Inherited.Newest > cfg.Inherited.Acked {
		l.inherited.Inherited = cfg.Inherited
		l.machine.Inherit(cfg.Inherited.Newest)
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

// Oldest returns the first commit time that the lane has not purged, false if
// it holds nothing.
func (l *Lane) Oldest() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if b := l.machine.Oldest(); b != nil {
		return b.Stamp.FirstCommit, true
	}
	return time.Time{}, false
}

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
	due := time.NewTimer(invalidation.MaxEvery)
	defer due.Stop()
	e := machine.Event{Kind: machine.Tick}
	for {
		answer, stopped := l.step(intake, work, e)
		if stopped {
			break
		}
		if answer != nil {
			e = *answer
			continue
		}
		l.await(intake, due)
		e = machine.Event{Kind: machine.Tick}
	}
	stop()
	return g.Wait()
}

// await waits for something that the machine is to know of, and hands messages over to it.
func (l *Lane) await(intake context.Context, due *time.Timer) {
	l.mu.Lock()
	due.Reset(l.machine.Wake(time.Now()))
	turn, urgent := l.turn, l.urgent
	if !l.machine.Accepts() {
		turn = nil
	}
	if !l.machine.AcceptsByHand() {
		urgent = nil
	}
	l.mu.Unlock()
	select {
	case j := <-urgent:
		l.mu.Lock()
		l.machine.ArriveByHand(j)
		l.mu.Unlock()
	case r := <-turn:
		l.arrive(r)
	case <-due.C:
	case <-l.nudge:
	case <-intake.Done():
	}
}

// arrive hands over a message, and those behind it that are ready, so that they go together.
func (l *Lane) arrive(r machine.Ready) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.machine.Arrive(r)
	for l.machine.Accepts() {
		select {
		case r := <-l.turn:
			l.machine.Arrive(r)
		default:
			return
		}
	}
}

// step tells the machine of an event and does what it wants. It returns the answer to a call, nil if there was none.
func (l *Lane) step(intake, work context.Context, e machine.Event) (answer *machine.Event, stopped bool) {
	l.mu.Lock()
	// What an operator wants goes ahead of what the machine is at.
	for l.machine.AcceptsByHand() && len(l.urgent) > 0 {
		l.machine.ArriveByHand(<-l.urgent)
	}
	if intake.Err() != nil {
		l.machine.Stop()
	}
	effects := l.machine.Step(time.Now(), e)
	stopped = l.machine.Stopped()
	queue, byHand := l.machine.Full()
	l.signal()
	l.mu.Unlock()
	l.room.set(queue)
	l.roomByHand.set(byHand)
	for i := range effects {
		switch e := &effects[i]; e.Verb {
		case machine.Call:
			return l.call(intake, work, e)
		case machine.Park:
			return &machine.Event{Kind: machine.Parked, Err: l.cfg.Park(intake, e.Batch, e.Err)}, false
		case machine.AbsorbLater:
			effects = slices.Clone(effects) // the machine writes others in their place
			l.absorb()
		default:
			l.perform(e)
		}
	}
	return nil, stopped
}

// call calls the sink within its budgets. Where the lane stops before there is room, so does the machine.
func (l *Lane) call(intake, work context.Context, e *machine.Effect) (answer *machine.Event, stopped bool) {
	if l.cfg.Pace.Wait(intake, e.Invs) != nil {
		return nil, true
	}
	if !e.ByHand {
		l.speed.request()
	}
	began := time.Now()
	err := l.cfg.Sink.Purge(work, e.Invs)
	took := time.Since(began)
	l.metrics.request(took, len(e.Invs), err)
	if err != nil && failpoint.On("ack_on_failure") {
		err = nil
	}
	return &machine.Event{Kind: machine.Called, Err: err, Began: began, Took: took}, false
}

// perform does what needs no answer.
func (l *Lane) perform(e *machine.Effect) {
	switch e.Verb {
	case machine.Announce:
		l.announce(e)
	case machine.Ack:
		l.ack(e)
	case machine.Purged:
		l.advance(watermark.Purged, e.Claim)
	case machine.Settled:
		l.advance(watermark.Settled, e.Claim)
	case machine.Point:
		failpoint.Crash(e.Name)
	case machine.Taken:
		l.queue.release(e.N)
	case machine.Works:
		l.enter(OK, nil)
	case machine.FlushesInTurn:
		l.enter(Flushing, nil)
	case machine.Failed:
		l.fail(e.Class, e.Err)
	case machine.Succeeded:
		l.succeeded()
	case machine.Waits:
		l.speed.pause(e.For)
	case machine.ShowStuck:
		l.showStuck(e.Stuck, e.On)
	case machine.ShowFlushing:
		l.showFlushing(e.On)
	case machine.ShowUnknown:
		l.showUnknown(e.Err)
	case machine.TurnBegan:
		l.speed.begin()
	case machine.TurnEnded:
		l.speed.end(e.N)
	case machine.Traced:
		l.span(e.Batch, "purge", e.At)
	case machine.Latency:
		l.metrics.latent(e.Batch, e.At)
	case machine.Coalesced:
		l.metrics.coalesced.Add(float64(e.N))
	case machine.Collapsed:
		if l.cfg.Collapsed != nil {
			l.cfg.Collapsed(e.Name, e.N)
		}
	case machine.FlushBegan:
		l.metrics.flush(e.Name)
		if l.cfg.Flushing != nil {
			l.cfg.Flushing(e.Name)
		}
	case machine.ParkedValues:
		l.metrics.parkedTotal.Add(float64(e.N))
	case machine.Observe:
		l.observe(e.Note)
	case machine.End:
		l.conditions.At(told[e.Note.Condition], e.Note.Labels...).End()
	}
}

func (l *Lane) advance(stage watermark.Stage, claim *cdc.Claim) {
	l.cfg.Board.Advance(watermark.Mark{Stage: stage, Target: l.cfg.Name}, claim.Position)
}

func (l *Lane) source(byHand bool) Source {
	if byHand {
		return l.cfg.Hand
	}
	return l.cfg.Source
}

func (l *Lane) announce(e *machine.Effect) {
	if err := l.source(e.ByHand).Announce(e.Seq); err != nil {
		l.cfg.Logger.Debug("announce a purge", "err", err)
	}
}

func (l *Lane) ack(e *machine.Effect) {
	text := ackFails
	if e.ByHand {
		text = manualAck
	}
	if err := l.source(e.ByHand).Ack(e.Seq); err != nil {
		l.conditions.At(text).Observe("err", err, "acknowledgements", condition.Sum(1))
	} else {
		l.conditions.At(text).End()
	}
}

// absorb is the seeded fault of taking what came during a turn as purged by it.
func (l *Lane) absorb() {
	var later []machine.Ready
	for {
		select {
		case r := <-l.turn:
			l.queue.release(r.Size())
			later = append(later, r)
			continue
		default:
		}
		break
	}
	l.mu.Lock()
	effects := l.machine.Absorb(later, time.Now())
	l.signal()
	l.mu.Unlock()
	for i := range effects {
		l.perform(&effects[i])
	}
}

// add registers a message.
func (l *Lane) add(m invalidation.Message) (r machine.Ready, again bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if r, again = l.machine.Add(m); !again && l.signals.read != nil {
		close(l.signals.read)
		l.signals.read = nil
	}
	return r, again
}

// keepHand reads manual purges.
func (l *Lane) keepHand(ctx context.Context) {
	for {
		if !l.roomByHand.await(ctx) {
			return
		}
		m, err := l.cfg.Hand.Next(ctx)
		if err != nil {
			return
		}
		l.mu.Lock()
		j, again := l.machine.AddByHand(m)
		l.mu.Unlock()
		if again {
			continue
		}
		select {
		case l.urgent <- j:
		case <-ctx.Done():
		}
	}
}

// poke makes the lane look again at what it waits for.
func (l *Lane) poke() {
	select {
	case l.nudge <- struct{}{}:
	default:
	}
}
