package app

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/replica"
	"github.com/walpurge/walpurge/cdc/visible"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/admin"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/router"
	"github.com/walpurge/walpurge/router/lookup"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/router/stream/embedded"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/warm"
)

// Options are what the daemon runs with besides its file.
type Options struct {
	Config  *config.Config
	Version string
	Logger  *slog.Logger
	// Level is the level that Logger obeys; a reload sets it.
	Level *slog.LevelVar
	// Reload reads the configuration file again.
	Reload func() (*config.Config, error)
	// WatchFiles reloads when the file or a rules file changes.
	WatchFiles bool
	// Leader is where other machines reach this process; NewDaemon sets it.
	Leader cdc.Leader
	// Tracer makes traces of transactions. Nil: there are none.
	Tracer Tracer
}

// Tracer is what router, stream and lanes need of one.
type Tracer interface {
	Received(tx *cdc.Txn) string
	Span(parent, name, sink string, began, ended time.Time)
}

// App is the pipeline of one configuration, but for its rules, which may change. Make
// it with New, Run it once.
type App struct {
	opts     Options
	cfg      *config.Config
	log      *slog.Logger
	registry *prometheus.Registry
	// metrics registers into registry under the pipeline's label.
	metrics prometheus.Registerer
	// worked has the counters of router and lanes, and working registers into it.
	// They are apart so that the status can read them alone.
	worked    *prometheus.Registry
	working   prometheus.Registerer
	incidents incidents
	started   time.Time

	board   *watermark.Board
	set     atomic.Pointer[rules.Set]
	plans   atomic.Pointer[[][]invalidation.Invalidation]
	targets []target
	server  *embedded.Server
	nc      *nats.Conn
	// natsErrors are what nc reports by itself.
	natsErrors *natsErrors
	stream     *stream.Stream
	publisher  *stream.Publisher
	lanes      []*lane
	caches     *caches
	warms      []*warmLane
	races      *warm.Races // nil without warm sinks
	hot        *warm.Hot   // of the sinks that `warm.hot` names
	gate       *visible.Gate
	replicas   *replica.Gate // nil: there are none
	lookups    *lookup.Resolver
	reader     *postgres.Reader
	router     *router.Router
	pulse      *pulse
	stall      stall
	routing    *router.Metrics
	admin      *admin.Server

	// pausing is held while a pause is read from the stream, or stored, and applied.
	pausing sync.Mutex
	// pauseRequests are the newest requests to pause or to resume that were applied, by sink. pausing guards it.
	pauseRequests map[string]uint64

	hits    *hits
	reloads reloadMetrics
	// loaded are the digests of the content of the files in service: the file, and the rules files.
	loaded atomic.Pointer[[2]string]
	// conditions is the log of what repeats when configurations are tried.
	conditions *condition.Log

	undo []func()
}

// New checks everything that can be checked, then opens what the pipeline needs:
// rules, database catalog, store, stream, sinks. After an error nothing is left open,
// and nothing was created in the database. A database or a sink that does not answer is
// not an error; one that refuses is. reload is what a request for a reload calls.
func New(ctx context.Context, opts Options, reload func(context.Context) error) (*App, error) {
	a := &App{opts: opts, cfg: opts.Config, log: opts.Logger, registry: prometheus.NewRegistry(), worked: prometheus.NewRegistry(), started: time.Now(), conditions: condition.NewLog(opts.Logger), pauseRequests: make(map[string]uint64)}
	a.metrics = prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": opts.Config.Pipeline}, a.registry)
	a.onClose(a.conditions.Close)
	a.working = prometheus.WrapRegistererWith(prometheus.Labels{"pipeline": opts.Config.Pipeline}, a.worked)
	if err := a.open(ctx, reload); err != nil {
		a.close()
		// The embedded server passes on what the system said as text, from whatever it wrote.
		if a.cfg.NATS.Embedded() && strings.Contains(err.Error(), syscall.ENOSPC.Error()) {
			err = fmt.Errorf("%w; make room on its disk, and start again", err)
		}
		return nil, err
	}
	return a, nil
}

func (a *App) open(ctx context.Context, reload func(context.Context) error) error {
	set, plans, err := a.preflight(ctx, a.cfg)
	if err != nil {
		return err
	}
	a.hits = newHits(a.metrics)
	a.use(set, plans)
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for _, s := range a.cfg.Sinks {
		t, err := newTarget(s, a.observer(s.Name), a.log.With("sink", s.Name))
		if err != nil {
			return err
		}
		a.onClose(t.Close)
		a.targets = append(a.targets, t)
	}
	if err := a.openStream(ctx); err != nil {
		return err
	}
	if err := a.openWarms(); err != nil {
		return err
	}
	a.openReader()
	if err := a.newLanes(ctx); err != nil {
		return err
	}
	a.reloads = newReloadMetrics(a.metrics)
	a.reloads.note(a.stream.Refused())
	a.metrics.MustRegister(&collector{app: a})
	registerBills(a.metrics, a.targets)
	a.admin = admin.New(a.adminConfig(reload))
	return nil
}

func (a *App) openStream(ctx context.Context) error {
	var err error
	a.natsErrors = newNATSErrors(a.cfg.NATS.URL, a.log.With("component", "nats"))
	if a.server, a.nc, err = connectNATS(a.cfg, a.log.With("component", "nats"), a.natsErrors); err != nil {
		return err
	}
	sync := (func() error)(nil)
	if a.server != nil {
		a.onClose(a.server.Close)
		sync = a.server.Sync
	}
	a.onClose(a.nc.Close)
	a.onClose(a.natsErrors.conditions.Close)
	if err := foreign(ctx, a.cfg, a.nc); err != nil {
		return err
	}
	a.stream, err = stream.Open(ctx, a.nc, stream.Config{
		Pipeline: a.cfg.Pipeline, Domain: a.cfg.NATS.Domain, MaxAge: a.cfg.Stream.MaxAge, MaxBytes: a.cfg.Stream.MaxBytes,
		Replicas: a.cfg.NATS.Replicas, Sync: sync, Shared: !a.cfg.NATS.Embedded(), Leader: a.opts.Leader, Tracer: a.opts.Tracer,
		Broken: func(g cdc.Gap) { a.routing.Gap(g.Reason); a.broken(g) },
	})
	if err != nil {
		return err
	}
	if err := a.stream.Refused(); err != nil {
		a.log.Error("the size of the stream is not what the file says", "err", err)
	}
	u, err := a.stream.Usage(ctx)
	if err != nil {
		return err
	}
	if u.Bytes > u.Limit {
		a.log.Warn("the stream holds more than stream.max_bytes; nothing is dropped, and the reader waits until sinks have purged enough of it or were flushed",
			"bytes", u.Bytes, "max_bytes", u.Limit)
	}
	return nil
}

func (a *App) openReader() {
	marks := []watermark.Mark{{Stage: watermark.Received}, {Stage: watermark.Published}, {Stage: watermark.Synced}, {Stage: watermark.Confirmed}}
	for _, s := range a.cfg.Sinks {
		marks = append(marks, watermark.Mark{Stage: watermark.Purged, Target: s.Name}, watermark.Mark{Stage: watermark.Settled, Target: s.Name})
	}
	for _, r := range replicasOf(a.cfg) {
		marks = append(marks, watermark.Mark{Stage: watermark.Replayed, Target: r.Name})
	}
	a.board = watermark.NewBoard(marks...)
	a.publisher = stream.NewPublisher(a.stream, a.board, a.log.With("component", "publisher"))
	if all := replicasOf(a.cfg); len(all) > 0 {
		a.replicas = replica.New(replica.Config{
			Replicas: all, Ledger: awayLedger{a.stream, a.cfg.SinkNames()}, Board: a.board, Leave: replica.DefaultLeave,
			Logger: a.log.With("component", "replicas"),
		})
	}
	// Lookups wait for visibility whether purges do or not, and a reload may bring some.
	a.gate = visible.New(visible.Config{Connect: a.cfg.Postgres.Connect, Lazy: !a.cfg.Visible, Logger: a.log.With("component", "visible")})
	a.lookups = lookup.New(lookup.Config{Connect: a.cfg.Postgres.ConnectReading, Visible: a.gate.Wait, Logger: a.log.With("component", "lookup")})
	a.onClose(func() { a.lookups.Close(context.Background()) })
	a.routing = router.NewMetrics(a.working)
	pool := a.spool()
	a.router = router.New(router.Config{
		Pipeline: shared(a.cfg), Formerly: a.cfg.Formerly,
		Rules: a.set.Load(), Sinks: a.cfg.RoutedNames(), Publisher: a.routed(), Ledger: a.stream,
		StopOnGap: a.cfg.StopOnGap, Spool: pool, Lookups: a.lookups, Broken: a.broken,
		Metrics: a.routing, Logger: a.log.With("component", "router"), Tracer: a.opts.Tracer,
	})
	a.onClose(a.router.Close)
	a.pulse = newPulse(a.router)
	a.reader = postgres.NewReader(a.cfg.Postgres, postgres.Options{
		Board: a.board, Confirm: a.cfg.Confirm, StopGrace: a.cfg.DrainTimeout, Logger: a.log.With("component", "reader"),
		Watch: func() postgres.Watch { return watch(a.set.Load()) }, BridgeGaps: !a.cfg.StopOnGap,
		Memory: a.stream.Memory("publication"),
	})
}

func (a *App) use(set *rules.Set, plans [][]invalidation.Invalidation) {
	a.set.Store(set)
	a.plans.Store(&plans)
	a.hits.use(set)
}

// broken keeps a gap for the status.
func (a *App) broken(g cdc.Gap) { a.incidents.add("gap", "", string(g.Reason)) }

// Conn is the connection to the stream's server, for those that listen to
// purged subjects.
func (a *App) Conn() *nats.Conn { return a.nc }

func (a *App) onClose(f func()) { a.undo = append(a.undo, f) }

// close undoes what New did, in reverse.
func (a *App) close() {
	for i := len(a.undo) - 1; i >= 0; i-- {
		a.undo[i]()
	}
	a.undo = nil
}
