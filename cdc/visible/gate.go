package visible

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// Config says how to reach the primary.
type Config struct {
	// Connect opens a connection to the server that the readers of the
	// application use. It is called again after every failure.
	Connect func(ctx context.Context) (*pgx.Conn, error)
	// Lazy leaves the first connection until somebody waits.
	Lazy   bool
	Logger *slog.Logger
}

var primaryLost = condition.Text{
	Level: slog.LevelWarn, On: "visibility gate lost the primary, purges wait for it", Off: "visibility gate reaches the primary again",
}

// Gate tells when transactions are visible on the primary. Run must be running
// for Wait to return; Wait is safe for concurrent use.
type Gate struct {
	cfg        Config
	conditions *condition.Log
	wake       chan struct{}

	mu      sync.Mutex
	waiting map[*waiter]struct{}
	last    snapshot
	server  server
}

type waiter struct {
	stamp cdc.Stamp
	done  chan struct{}
}

// server is the cluster and timeline that the last snapshot was taken on.
type server struct {
	systemID string
	timeline uint32
}

// New returns a gate that is closed for everything until Run has connected.
func New(cfg Config) *Gate {
	return &Gate{cfg: cfg, conditions: condition.NewLog(cfg.Logger), wake: make(chan struct{}, 1), waiting: make(map[*waiter]struct{})}
}

// Wait blocks until every transaction of the stamp is visible on the primary,
// and returns nil; or until the context ends, and returns its cause. Stamps
// without transactions never wait.
func (g *Gate) Wait(ctx context.Context, stamp cdc.Stamp) error {
	if len(stamp.XIDs) == 0 {
		return nil
	}
	w := &waiter{stamp: stamp, done: make(chan struct{})}
	g.mu.Lock()
	if g.open(w) {
		g.mu.Unlock()
		return nil
	}
	g.waiting[w] = struct{}{}
	g.mu.Unlock()
	select {
	case g.wake <- struct{}{}:
	default:
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
		g.mu.Lock()
		delete(g.waiting, w)
		g.mu.Unlock()
		return context.Cause(ctx)
	}
}

// open judges by the last snapshot. A stamp of an older timeline than the
// server's is open: what of it survived the promotion became visible with it.
// A stamp of another cluster is open too: that change of cluster is a gap, and
// the flush that answers it covers the stamp.
func (g *Gate) open(w *waiter) bool {
	p := w.stamp.Position
	if g.server.systemID == "" {
		return false
	}
	if p.SystemID != g.server.systemID || p.Timeline < g.server.timeline {
		return true
	}
	return p.Timeline == g.server.timeline && g.last.sees(w.stamp.XIDs)
}

// Run serves Wait until the context ends and returns nil. It keeps one
// connection while there is work for it, and reconnects with back-off.
func (g *Gate) Run(ctx context.Context) error {
	if g.cfg.Lazy {
		select {
		case <-g.wake:
		case <-ctx.Done():
		}
	}
	defer g.conditions.Close()
	failures := 0
	for ctx.Err() == nil {
		answered, err := g.serve(ctx)
		if ctx.Err() != nil {
			break
		}
		failures++
		if answered {
			failures = 0
		}
		if err != nil {
			g.conditions.At(primaryLost).Observe("err", err, "attempts", condition.Sum(1))
		}
		select {
		case <-time.After(min(100*time.Millisecond<<min(failures, 6), 5*time.Second)):
		case <-ctx.Done():
		}
	}
	return nil
}

// serve answers with one connection until that fails. It reports whether the server has answered
// on it: then it was lost after it had been of use, and the next attempt is the first one.
func (g *Gate) serve(ctx context.Context) (answered bool, err error) {
	conn, err := g.cfg.Connect(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if err := g.identify(ctx, conn); err != nil {
		return false, err
	}
	g.conditions.At(primaryLost).End()
	pause := minPause
	for {
		before := g.count()
		if before == 0 {
			pause = minPause
			if err := g.idle(ctx, conn); err != nil {
				return true, err
			}
			continue
		}
		if err := g.look(ctx, conn); err != nil {
			return true, err
		}
		if g.count() < before {
			pause = minPause
			continue
		}
		select {
		case <-time.After(pause):
			pause = min(2*pause, maxPause)
		case <-g.wake:
			pause = minPause
		case <-ctx.Done():
			return true, nil
		}
	}
}

// Between two looks that opened nothing: a commit is usually visible within
// microseconds, one that waits for a standby may take long.
const (
	minPause = 200 * time.Microsecond
	maxPause = 20 * time.Millisecond
)

// idle blocks until somebody waits, and makes sure now and then that the
// connection still reaches a primary.
func (g *Gate) idle(ctx context.Context, conn *pgx.Conn) error {
	select {
	case <-g.wake:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(30 * time.Second):
		return g.identify(ctx, conn)
	}
}

func (g *Gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.waiting)
}

var errStandby = errors.New("the server is in recovery: the visibility gate needs the primary; point postgres.url at it, or list it first with target_session_attrs=read-write")

// identify learns which cluster and timeline the connection reaches.
func (g *Gate) identify(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var recovering bool
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_is_in_recovery()").Scan(&recovering); err != nil {
		return err
	}
	if recovering {
		return errStandby
	}
	var s server
	// The first eight hexadecimal digits of a WAL file's name are its timeline.
	err := conn.QueryRow(ctx, `SELECT system_identifier::pg_catalog.text,
		('x' || pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 1, 8))::bit(32)::int
		FROM pg_catalog.pg_control_system()`).Scan(&s.systemID, &s.timeline)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.server != s {
		g.last = snapshot{}
	}
	g.server = s
	return nil
}

// look takes one snapshot and lets go whoever it satisfies.
func (g *Gate) look(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_snapshot()::pg_catalog.text").Scan(&text); err != nil {
		return err
	}
	snap, err := parseSnapshot(text)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = snap
	for w := range g.waiting {
		if g.open(w) {
			delete(g.waiting, w)
			close(w.done)
		}
	}
	return nil
}
