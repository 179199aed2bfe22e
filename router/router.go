package router

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Publisher is where batches go. Calls come from one goroutine.
type Publisher interface {
	// Publish sends a batch, and may block while the stream takes no more.
	Publish(ctx context.Context, b *invalidation.Batch) error
	// Claim says, after every batch published before it is acknowledged, that
	// everything committed up to the position is in the stream.
	Claim(ctx context.Context, at cdc.Position, committed time.Time) error
	// Begin opens an epoch; see Ledger.
	Begin(ctx context.Context, first cdc.Claim, after uint64) error
	// Flushed blocks until everything published and claimed is durable.
	Flushed(ctx context.Context) error
}

// Ledger reads the newest claim in the stream and its sequence.
type Ledger interface {
	LastClaim(ctx context.Context) (c cdc.Claim, seq uint64, found bool, err error)
}

// Config is what a router is made of.
type Config struct {
	Rules     *rules.Set
	Sinks     []string // in the order in which the rules know them
	Publisher Publisher
	Ledger    Ledger
	// Pipeline names the stream where it is shared with other processes, and is empty otherwise;
	// Formerly names the database that it may be taken over from; see Foreign.
	Pipeline, Formerly string
	// StopOnGap ends the daemon at a gap instead of flushing.
	StopOnGap bool
	// Spool keeps what transactions produce until they end.
	Spool *spool.Pool
	// Lookups answers the rules that ask the database.
	Lookups Lookups
	// Broken is told of a gap before it is bridged. Nil: nothing is called.
	Broken  func(cdc.Gap)
	Metrics *Metrics
	Logger  *slog.Logger
	// Tracer makes traces of transactions. Nil: there are none.
	Tracer Tracer
}

// Tracer begins the trace of a transaction, and returns its context, empty for one that
// is not traced.
type Tracer interface {
	Received(tx *cdc.Txn) string
}

// Router implements the reader's handler. Reload may be called from another
// goroutine; everything else is the reader's.
type Router struct {
	cfg      Config
	set      *rules.Set
	plans    map[planKey]boundPlan
	builders []*builder
	waiting  waiting
	tally    *rules.Tally
	counters *counters
	// recording is the rules' as tally is; streams are the transactions that the server
	// sends before they end.
	recording *rules.Recording
	streams   map[uint64]*streamed
	recorder  recorder

	start     cdc.Position
	epoch     uint64 // the newest that was begun
	tx        *cdc.Txn
	open      bool
	restDue   bool    // the reader rested while a transaction was open
	end       cdc.LSN // of the newest whole transaction
	committed time.Time
	claimed   cdc.LSN
	claimedAt time.Time
	// conditions is the log of what repeats.
	conditions *condition.Log
	steps      steps

	entered entered

	mu      sync.Mutex
	pending *reload
}

// planKey identifies a table, and the ancestor as whose rows its rows come.
type planKey struct{ oid, ancestor uint32 }

// boundPlan is what is known of one version of a table's shape; rules is nil if
// none watches the table.
type boundPlan struct {
	rel     *cdc.Relation
	rules   *rules.Plan
	changes *opCounters
}

type reload struct {
	set  *rules.Set
	done chan struct{}
	// held: the rules wait until their tables are published.
	held bool
}

// New returns a router with its first rules.
func New(cfg Config) *Router {
	r := &Router{cfg: cfg, waiting: newWaiting(), conditions: condition.NewLog(cfg.Logger)}
	r.recorder.router = r
	r.use(cfg.Rules)
	return r
}

// use takes a set of rules into service.
func (r *Router) use(set *rules.Set) {
	r.set = set
	r.plans = make(map[planKey]boundPlan)
	r.builders = make([]*builder, len(r.cfg.Sinks))
	for i, sink := range r.cfg.Sinks {
		r.builders[i] = newBuilder(sink, set.Rules())
	}
	r.tally = set.NewTally()
	r.recording = set.NewRecording()
	r.counters = r.cfg.Metrics.counters(set, r.cfg.Sinks)
}

// Reload has the tables of new rules published, replaces the rules at the next
// boundary between transactions, and returns once the new ones are in service.
// When publish fails or the context ends first, the old ones stay. From before
// publish on, a table that enters the publication counts as the new rules' too.
func (r *Router) Reload(ctx context.Context, set *rules.Set, publish func(context.Context) error) error {
	next := &reload{set: set, done: make(chan struct{}), held: true}
	r.mu.Lock()
	r.pending = next
	r.mu.Unlock()
	err := publish(ctx)
	if err == nil {
		r.mu.Lock()
		next.held = false
		r.mu.Unlock()
		select {
		case <-next.done:
			return nil
		case <-ctx.Done():
			err = fmt.Errorf("the reader did not reach the end of a transaction: %w", context.Cause(ctx))
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending != next {
		return nil
	}
	r.pending = nil
	return err
}

// Replace has the rules replaced at the next boundary between transactions, or
// when the next session starts, and does not wait. The channel is closed then.
func (r *Router) Replace(set *rules.Set) <-chan struct{} {
	next := &reload{set: set, done: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pending = next
	return next.done
}

// Start opens an epoch, and flushes every sink if the line is broken.
func (r *Router) Start(ctx context.Context, s cdc.Session) error {
	r.plans = make(map[planKey]boundPlan)
	for _, b := range r.builders {
		if !b.empty() {
			b.take(s.Start) // an unfinished transaction: it comes again whole
		}
	}
	r.waiting = newWaiting()
	r.tally.End(nil)
	r.swap()
	r.dropStreams()
	r.start, r.open, r.restDue, r.end = s.Start, false, false, 0
	// Claims of the session before may still be on their way.
	if err := r.cfg.Publisher.Flushed(ctx); err != nil {
		return err
	}
	last, seq, found, err := r.cfg.Ledger.LastClaim(ctx)
	if err != nil {
		return err
	}
	if found {
		if err := former(last.Position, s, r.cfg.Pipeline != ""); err != nil {
			return err
		}
		if r.cfg.Pipeline != "" && !last.Position.Zero() {
			if err := Foreign(r.cfg.Pipeline, last.Owner(), s.Owner(), r.cfg.Formerly); err != nil {
				return &cdc.Halt{Err: err}
			}
		}
	}
	r.epoch = max(r.epoch, last.Epoch)
	if found && last.Position.Zero() {
		// A message in the place of a claim names no epoch. The time of day is beyond any number of sessions.
		r.epoch = max(r.epoch, uint64(time.Now().Unix()))
	}
	at := s.Start
	gap, broken := findGap(last, found, s)
	if broken {
		err = r.bridge(ctx, gap, s, last, seq)
	} else {
		// What another process has claimed beyond the slot comes again, and is claimed then.
		if last.Own && at.Before(last.Position) {
			at = last.Position
		}
		err = r.begin(ctx, cdc.Claim{Position: at, Database: s.Database}, seq)
	}
	// The newest claim in the stream must never fall behind what is confirmed,
	// so what comes again below it is not claimed again.
	r.claimed, r.claimedAt = at.LSN, time.Now()
	return err
}

// bridge carries the line over a gap: a flush for every sink, durable before
// the claim that lies beyond the gap. Visible only later may be what is open: the
// flush waits for that.
func (r *Router) bridge(ctx context.Context, gap cdc.Gap, s cdc.Session, last cdc.Claim, seq uint64) error {
	if r.cfg.StopOnGap && gap.Reason != cdc.GapSkipped {
		return &cdc.Halt{Err: fmt.Errorf("gap: %s; changes in it may never be purged, and postgres.on_gap is stop; "+
			"purge every sink with `walpurge purge --all`, then start with on_gap: flush", gap)}
	}
	r.conditions.At(gaps, "reason", string(gap.Reason)).Observe("from", gap.From.String(), "to", gap.To.String(), "times", condition.Sum(1))
	r.cfg.Metrics.Gap(gap.Reason)
	if r.cfg.Broken != nil {
		r.cfg.Broken(gap)
	}
	opened := last.Position
	if opened.SystemID != gap.To.SystemID || gap.To.Before(opened) {
		opened = cdc.Position{SystemID: gap.To.SystemID, Timeline: gap.To.Timeline}
	}
	if err := r.begin(ctx, cdc.Claim{Position: opened, Database: s.Database}, seq); err != nil {
		return err
	}
	now := time.Now()
	for _, sink := range r.cfg.Sinks {
		err := r.cfg.Publisher.Publish(ctx, &invalidation.Batch{
			Sink: sink, Origin: invalidation.FromGap, Flush: true, Reason: string(gap.Reason),
			Stamp: cdc.Stamp{Position: gap.To, XIDs: s.Open, FirstCommit: now, LastCommit: now},
		})
		if err != nil {
			return err
		}
		failpoint.Crash("bridging")
	}
	if err := r.cfg.Publisher.Claim(ctx, gap.To, now); err != nil {
		return err
	}
	return r.cfg.Publisher.Flushed(ctx)
}

// begin opens the epoch after all that are known.
func (r *Router) begin(ctx context.Context, first cdc.Claim, after uint64) error {
	r.epoch++
	first.Epoch = r.epoch
	return r.cfg.Publisher.Begin(ctx, first, after)
}

// Reads returns the columns that rules read of a row of the table, if the next change is of
// it: the rules are those that will evaluate it.
func (r *Router) Reads(tx *cdc.Txn, rel *cdc.Relation) []bool {
	if !tx.Streamed {
		r.enter()
	}
	plan := r.plan(rel)
	if plan.rules == nil {
		return []bool{}
	}
	return plan.rules.Reads()
}

// Hears returns how much is read of messages with the prefix, in bytes: one byte more than rules take, so
// that a message which is too long is known as such.
func (r *Router) Hears(tx *cdc.Txn, prefix string) int {
	if !tx.Streamed {
		r.enter()
	}
	if !r.set.Watches(prefix) {
		return 0
	}
	return rules.MaxMessage + 1
}

// Change evaluates one row event.
func (r *Router) Change(ctx context.Context, tx *cdc.Txn, c *cdc.Change) error {
	if tx.Streamed {
		r.record(tx, c)
		return nil
	}
	r.enter()
	r.tx = tx
	plan := r.plan(c.Rel)
	if plan.rules == nil {
		return nil
	}
	plan.changes[c.Op].Inc()
	r.steps.begin(tx, c.Rel)
	r.tally.Eval(plan.rules, c, r)
	r.steps.end()
	return r.relieve(ctx)
}

// plan returns what is known of a table's shape.
func (r *Router) plan(rel *cdc.Relation) boundPlan {
	key := planKey{rel.OID, rel.Ancestor}
	plan, known := r.plans[key]
	if !known || plan.rel != rel {
		plan = r.bind(rel)
		r.plans[key] = plan
	}
	return plan
}

// bind makes the plan of a new version of a table's shape.
func (r *Router) bind(rel *cdc.Relation) boundPlan {
	plan := boundPlan{rel: rel, rules: r.set.Bind(rel)}
	if plan.rules != nil {
		name, _ := r.set.Named(tableOf(rel))
		plan.changes = r.counters.tables[name]
	}
	return plan
}

func tableOf(rel *cdc.Relation) cdc.Table { return cdc.Table{Schema: rel.Schema, Name: rel.Name} }

// enter notes that a transaction is open; its first change may find new rules.
func (r *Router) enter() {
	if !r.open {
		r.open = true
		r.swap()
	}
}

// full reports that something should be published before more is added.
func (r *Router) full() bool {
	return r.waiting.full() || slices.ContainsFunc(r.builders, (*builder).full)
}

// Invalidate implements rules.Output.
func (r *Router) Invalidate(rule, sink int, k invalidation.Kind, value []byte) {
	r.counters.invalidation(rule, sink, k)
	r.builders[sink].add(rule, k, value, r.tx)
}

// Fallback implements rules.Output.
func (r *Router) Fallback(rule, sink int, f *rules.Fallback) {
	b := r.builders[sink]
	b.note(r.tx)
	r.replace(b, rule, sink, f)
}

func (r *Router) replace(b *builder, rule, sink int, f *rules.Fallback) {
	if !f.Parked() {
		r.counters.invalidation(rule, sink, f.Kind)
	}
	b.fallback(rule, f)
}

// Verdict implements rules.Output.
func (r *Router) Verdict(rule int, v rules.Verdict) {
	if v == rules.Exceeded {
		r.conditions.At(exceeded, "rule", r.set.Rules()[rule].Name).Observe("changes", condition.Sum(1))
		return
	}
	r.counters.verdict(rule, v)
}

// Commit closes a transaction. If the reader rested while it was open, what
// Rest would have done is done now: on a busy line every read may end in the
// middle of a transaction.
func (r *Router) Commit(ctx context.Context, tx *cdc.Txn) error {
	if tx.Streamed {
		if err := r.pour(ctx, tx); err != nil {
			return err
		}
	}
	if err := r.settle(ctx); err != nil {
		return err
	}
	r.open = false
	r.end, r.committed = tx.End, tx.Time
	for _, b := range r.builders {
		b.commit(tx)
	}
	if r.cfg.Tracer != nil {
		if trace := r.cfg.Tracer.Received(tx); trace != "" {
			for _, b := range r.builders {
				b.traced(tx, trace)
			}
		}
	}
	r.waiting.commit(tx)
	if r.restDue {
		return r.Rest(ctx, cdc.Rest{})
	}
	r.swap()
	return nil
}

// idleClaim is how often an idle pipeline is claimed again.
const idleClaim = time.Second

// Rest publishes what has come together, and claims what is whole. An open
// transaction is waited for: its end is on the way, and no gate would open for a
// part of it. Only what outgrows a batch goes before, and at the session's end
// everything does: batches may hold whole transactions beside the open one.
func (r *Router) Rest(ctx context.Context, rest cdc.Rest) error {
	r.restDue = r.open && !rest.Unproven
	if r.open && !rest.Last {
		return nil
	}
	if err := r.publish(ctx); err != nil {
		return err
	}
	if !r.open {
		r.swap()
		if err := r.forgetEntered(ctx); err != nil {
			return err
		}
	}
	if rest.Unproven {
		return nil
	}
	at, committed := r.end, r.committed
	if rest.Idle > at && (rest.Urgent || time.Since(r.claimedAt) >= idleClaim) {
		at, committed = rest.Idle, time.Now()
	}
	if at <= r.claimed {
		return nil
	}
	r.claimed, r.claimedAt = at, time.Now()
	p := r.start
	p.LSN = at
	return r.cfg.Publisher.Claim(ctx, p, committed)
}

// swap takes waiting rules into service. It is called between transactions; as
// long as values of the old rules wait to be published, the new rules wait too.
func (r *Router) swap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending == nil || r.pending.held || len(r.waiting.pending) > 0 || slices.ContainsFunc(r.builders, func(b *builder) bool { return !b.empty() }) {
		return
	}
	failpoint.Crash("reloading")
	r.use(r.pending.set)
	close(r.pending.done)
	r.pending = nil
}
