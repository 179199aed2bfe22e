package simulate

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery"
)

// daemon is one life of the process: the real core, wired as cmd/app does. All that it
// reaches of the world it reaches through step, so that it ends between two calls.
type daemon struct {
	w     *world
	board *watermark.Board
	// fuse counts the calls until the process is killed, 0: it is not. Guarded by w.mu.
	fuse int
	dead chan struct{}
	conn net.Conn
	// running are the lanes and what they read from, by sink.
	running map[string]*delivery.Lane
	sources map[string]*source

	intake, work, core   context.Context
	stop, give, pull     context.CancelFunc
	serving, over, under sync.WaitGroup
}

var errDead = errors.New("the process is gone")

// step is one call of the daemon's to the world. mu is held.
func (d *daemon) step() error {
	select {
	case <-d.dead:
		return errDead
	default:
	}
	if d.fuse > 0 {
		if d.fuse--; d.fuse == 0 {
			d.w.note("killed")
			close(d.dead)
			return errDead
		}
	}
	return nil
}

var (
	quiet   = slog.New(slog.DiscardHandler)
	metrics = delivery.NewMetrics(prometheus.NewRegistry())
	routing = router.NewMetrics(prometheus.NewRegistry())
)

var ruleSet = sync.OnceValues(func() (*rules.Set, error) {
	return rules.Parse("rules.yaml", []byte(rulesYAML), rules.Options{Sinks: []rules.SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.Generation)},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.Generation, invalidation.Everything)},
		{Name: "hook", Takes: invalidation.Kinds(invalidation.Key)},
	}})
})

// boot starts the daemon on what the world has kept.
func (w *world) boot() *daemon {
	d := &daemon{w: w, dead: make(chan struct{})}
	d.intake, d.stop = context.WithCancel(context.Background())
	d.work, d.give = context.WithCancel(context.Background())
	d.core, d.pull = context.WithCancel(context.Background())
	marks := []watermark.Mark{{Stage: watermark.Received}, {Stage: watermark.Published}, {Stage: watermark.Synced}, {Stage: watermark.Confirmed}}
	for _, s := range sinkNames {
		marks = append(marks, watermark.Mark{Stage: watermark.Purged, Target: s}, watermark.Mark{Stage: watermark.Settled, Target: s})
	}
	d.board = watermark.NewBoard(marks...)
	w.mu.Lock()
	w.recover()
	w.note("the daemon starts, floors %v", w.disk.floors)
	w.mu.Unlock()
	s, err := stream.OpenOn(d.core, js{d: d}, stream.Config{Pipeline: "sim", MaxAge: time.Hour, MaxBytes: w.maxByte, Replicas: 1, Sync: d.sync})
	if err != nil {
		w.failf("open the stream: %v", err)
		return d
	}
	publisher := stream.NewPublisher(s, d.board, quiet)
	set, err := ruleSet()
	if err != nil {
		w.failf("rules: %v", err)
		return d
	}
	r := router.New(router.Config{
		Rules: set, Sinks: sinkNames, Publisher: publisher, Ledger: s, Broken: w.broken, Metrics: routing, Logger: quiet, Spool: spool.NewPool("nowhere", 0),
	})
	sources := d.lanes(s)
	lowest := func() uint64 {
		w.mu.Lock()
		defer w.mu.Unlock()
		floor := ^uint64(0)
		for _, src := range sources {
			floor = min(floor, src.floor)
		}
		return floor
	}
	d.under.Go(func() { _ = publisher.Run(d.core) })
	d.under.Go(func() {
		if err := s.RunSync(d.core, d.board); err != nil && !errors.Is(err, errDead) && d.core.Err() == nil {
			w.failf("sync: %v", err)
		}
	})
	d.under.Go(func() { _ = stream.NewTrimmer(s, publisher, lowest, quiet).Run(d.core) })
	d.over.Go(func() { d.read(r) })
	return d
}

// broken is told of a gap: there is none but where the slot was dropped.
func (w *world) broken(g cdc.Gap) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.gaps++
	if w.db.slot.confirmed != w.db.slot.born || w.db.slot.born == firstLSN {
		w.failf("a gap where there is none: %s", g)
	}
}

// lanes starts one lane for each sink where it left off.
func (d *daemon) lanes(s *stream.Stream) map[string]*source {
	w := d.w
	sources, lanes := map[string]*source{}, map[string]*delivery.Lane{}
	for _, name := range sinkNames {
		src := &source{d: d, sink: name}
		w.mu.Lock()
		src.floor = w.disk.floors[name]
		src.read = src.floor
		pending := src.pendingFlush()
		inherited := delivery.Inherited{Acked: src.floor, Newest: w.disk.files["walpurge_sim"].last()}
		w.mu.Unlock()
		sources[name] = src
		gates := []delivery.Gate{{Name: "visible", Wait: w.visibleGate}}
		if name == "edge" {
			inner, before := lanes["cache"], sources["cache"]
			past := func(until delivery.Until) func(context.Context, invalidation.Message) error {
				return func(ctx context.Context, m invalidation.Message) error { return inner.Past(ctx, m, until, before.Past) }
			}
			gates = append(gates, delivery.Gate{Name: "cache", Wait: past(delivery.Purged), Brief: past(delivery.PurgedOrDeferred), Early: past(delivery.PurgedOnce), Ordered: true})
		}
		overflow := delivery.Overflow{Backlog: src.Backlog, PendingFlush: pending, StoreFlush: func(ctx context.Context) (uint64, error) {
			w.mu.Lock()
			w.tally.trades++
			w.mu.Unlock()
			return s.Overflow(ctx, name)
		}}
		if w.seed%2 == 0 {
			overflow.MaxBacklog = 4 << 10
		}
		overflow.Pressing = func(ctx context.Context) (uint64, bool, error) {
			w.mu.Lock()
			floor, lowest := src.floor, ^uint64(0)
			for _, other := range sources {
				lowest = min(lowest, other.floor)
			}
			w.mu.Unlock()
			pressing, err := s.Pressing(ctx, floor, lowest)
			return floor, pressing, err
		}
		lanes[name] = delivery.New(delivery.Config{
			Name: name, Sink: simSink{d: d, name: name}, Limits: sinks.Limits{Items: 5}, Source: src, Hand: &manualSource{d: d, sink: name}, Gates: gates, MaxWait: 3 * time.Second,
			SecondPurge: time.Duration(w.seed/2%2) * 500 * time.Millisecond,
			FlushPace:   time.Duration(w.seed/4%2) * 2 * time.Second,
			Flush: func() []invalidation.Invalidation {
				return []invalidation.Invalidation{{Kind: invalidation.KeyPattern, Value: everything, Rule: "flush"}}
			},
			Overflow: overflow, Inherited: inherited, Park: s.Park, Board: d.board, Metrics: metrics, Logger: quiet,
		})
	}
	d.running, d.sources = lanes, sources
	for _, name := range sinkNames {
		d.over.Go(func() {
			if err := lanes[name].Run(d.intake, d.work); err != nil {
				w.failf("lane %s: %v", name, err)
			}
		})
	}
	return sources
}

// read does what the reader's loop does: one session after the other.
func (d *daemon) read(r *router.Router) {
	// An address that cannot be parsed: there are no heartbeats, the server's own
	// keepalives tell of its log.
	reader := postgres.NewReader(postgres.Config{URL: "postgres://%"}, postgres.Options{
		Board: d.board, Confirm: watermark.ConfirmSynced, StopGrace: time.Second, Logger: quiet,
		Watch: func() postgres.Watch { return postgres.Watch{} },
	})
	for d.intake.Err() == nil {
		conn, session, xid := d.w.connect(d)
		err := reader.Follow(d.intake, conn, conn, session, xid, r)
		d.w.mu.Lock()
		d.w.note("the session ended: %v", err)
		d.w.mu.Unlock()
		if halt := (*cdc.Halt)(nil); errors.As(err, &halt) {
			d.w.failf("the reader halts: %v", err)
			return
		}
		sleep(d.intake, 100*time.Millisecond)
	}
}

// end stops the daemon, in order or by force, and returns once nothing of it is left.
func (d *daemon) end(kill bool) {
	w := d.w
	w.mu.Lock()
	select {
	case <-d.dead:
		kill = true
	default:
		if kill {
			close(d.dead)
		}
	}
	if kill && d.conn != nil {
		d.conn.Close()
	}
	w.mu.Unlock()
	d.stop()
	if kill {
		d.give()
		d.pull()
	}
	d.over.Wait()
	d.give()
	d.pull()
	d.under.Wait()
	w.mu.Lock()
	select {
	case <-d.dead:
	default:
		close(d.dead)
	}
	if d.conn != nil {
		d.conn.Close()
	}
	w.mu.Unlock()
	d.serving.Wait()
}
