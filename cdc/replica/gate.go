package replica

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// Replica is one to be waited for.
type Replica struct {
	// Name is a metric label; it holds no secret.
	Name string
	// Connect opens a connection. It is called again after every failure.
	Connect func(ctx context.Context) (*pgx.Conn, error)
	// Read says how far the replica has replayed. Asked of a connection that cannot
	// tell (the wrong cluster, not a replica), it returns an error.
	Read func(ctx context.Context, conn *pgx.Conn) (cdc.Position, error)
}

// Ledger remembers which replicas are away, and flushes. Its methods return once
// that is durable.
type Ledger interface {
	// Left notes that a replica is away, Away whether it was at the end of an earlier run.
	Left(ctx context.Context, name string) error
	Away(ctx context.Context, name string) (bool, error)
	// Returned has every sink flushed, and then forgets that the replica was away.
	Returned(ctx context.Context, name string) error
}

// Config is what a gate is made of.
type Config struct {
	Replicas []Replica
	Ledger   Ledger
	// Board has a mark of stage Replayed for every replica.
	Board *watermark.Board
	// Leave is how long a replica may keep others waiting.
	Leave  time.Duration
	Logger *slog.Logger
}

// DefaultLeave is longer than most restarts of a replica.
const DefaultLeave = time.Minute

// What the gate logs as conditions; see package condition.
var (
	unreachable = condition.Text{Level: slog.LevelWarn, On: "a read replica cannot be asked, purges wait for it", Off: "a read replica can be asked again"}
	notStored   = condition.Text{Level: slog.LevelWarn, On: "what is known of a read replica cannot be stored yet", Off: "what is known of a read replica is stored"}
	left        = condition.Text{
		Level: slog.LevelError, On: "a read replica has kept purges waiting for too long; they do not wait for it until it has caught up, and then every sink is flushed",
		Off: "a read replica is back, purges wait for it, and every sink is flushed",
	}
)

// Gate tells when positions have been replayed. Run must be running for Wait to
// return; Wait is safe for concurrent use.
type Gate struct {
	cfg        Config
	conditions *condition.Log
	members    []*member

	mu      sync.Mutex
	waiting map[*waiter]struct{}
}

type waiter struct {
	at    cdc.Position
	only  string // the replica that is waited for, empty for all
	since time.Time
	done  chan struct{}
}

// State is a replica's condition.
type State struct {
	Name string
	// Away: it keeps nobody waiting any more.
	Away bool
	// Err is why it cannot be asked, empty if it can.
	Err string
}

// New returns a gate that is closed for everything until Run has connected.
func New(cfg Config) *Gate {
	g := &Gate{cfg: cfg, conditions: condition.NewLog(cfg.Logger), waiting: make(map[*waiter]struct{})}
	for _, r := range cfg.Replicas {
		g.members = append(g.members, &member{Replica: r, wake: make(chan struct{}, 1), err: errors.New("not connected yet")})
	}
	return g
}

// Wait blocks until every replica that is not away has replayed the position, and
// returns nil; or until the context ends, and returns its cause.
func (g *Gate) Wait(ctx context.Context, at cdc.Position) error { return g.WaitFor(ctx, "", at) }

// WaitFor does the same for one replica.
func (g *Gate) WaitFor(ctx context.Context, name string, at cdc.Position) error {
	w := &waiter{at: at, only: name, since: time.Now(), done: make(chan struct{})}
	g.mu.Lock()
	if g.open(w) {
		g.mu.Unlock()
		return nil
	}
	g.waiting[w] = struct{}{}
	g.mu.Unlock()
	for _, m := range g.members {
		m.poke()
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

func (g *Gate) open(w *waiter) bool {
	for _, m := range g.members {
		if w.needs(m) {
			return false
		}
	}
	return true
}

// needs reports whether a replica keeps the waiter waiting.
func (w *waiter) needs(m *member) bool {
	return (w.only == "" || w.only == m.Name) && !m.away && !m.has(w.at)
}

// settle lets go whoever waits for nothing any more; the caller holds the lock.
func (g *Gate) settle() {
	for w := range g.waiting {
		if g.open(w) {
			delete(g.waiting, w)
			close(w.done)
		}
	}
}

// States tells the condition of every replica.
func (g *Gate) States() []State {
	g.mu.Lock()
	defer g.mu.Unlock()
	out := make([]State, len(g.members))
	for i, m := range g.members {
		out[i] = State{Name: m.Name, Away: m.away}
		if m.err != nil {
			out[i].Err = m.err.Error()
		}
	}
	return out
}

// Run follows the replicas until the context ends, and returns nil.
func (g *Gate) Run(ctx context.Context) error {
	defer g.conditions.Close()
	var all errgroup.Group
	for _, m := range g.members {
		all.Go(func() error { g.follow(ctx, m); return nil })
		all.Go(func() error { g.mind(ctx, m); return nil })
	}
	return all.Wait()
}
