package lookup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules"
)

// Config says whom to ask.
type Config struct {
	// Connect opens a read-only connection to the primary that prints values as
	// the stream does. It is called when there is something to ask and no
	// connection.
	Connect func(ctx context.Context) (*pgx.Conn, error)
	// Visible blocks until the stamp's transactions are visible on the primary.
	Visible func(ctx context.Context, stamp cdc.Stamp) error
	Logger  *slog.Logger
}

// Resolver answers queries. It is used by one goroutine.
type Resolver struct {
	cfg        Config
	conn       *pgx.Conn
	statements map[spec]*statement
	names      int
	// grace is what the server is given beyond a timeout to say that it gave up;
	// then the connection is given up.
	grace time.Duration

	failures int
	rest     time.Time // until when nothing is asked
	resting  map[spec]time.Time

	conditions *condition.Log
}

// spec is what a statement is made from.
type spec struct {
	sql   string
	limit int
}

// New returns a resolver that has no connection yet.
func New(cfg Config) *Resolver {
	return &Resolver{cfg: cfg, conditions: condition.NewLog(cfg.Logger), grace: 500 * time.Millisecond, statements: make(map[spec]*statement), resting: make(map[spec]time.Time)}
}

const (
	// Between failures of the connection nothing is asked for this long, doubling.
	minRest = 100 * time.Millisecond
	maxRest = 5 * time.Second
)

// What the resolver logs as conditions; see package condition.
var (
	notAsked    = condition.Text{Level: slog.LevelWarn, On: "lookups cannot be asked, rules take what unknown: names", Off: "lookups are answered again"}
	lookupFails = condition.Text{Level: slog.LevelWarn, On: "a lookup fails, its rules take what unknown: names", Off: "a lookup is answered again"}
)

var (
	errResting = errors.New("not asked, because the question before failed")
	errTooLate = errors.New("the time is up")
)

// Resolve waits until the stamp's transactions are visible, puts each query, and
// returns the answers in the same order. It blocks for the longest timeout among
// the queries and a grace of half a second at most.
func (r *Resolver) Resolve(ctx context.Context, stamp cdc.Stamp, queries []rules.Query) []rules.Answer {
	answers := make([]rules.Answer, len(queries))
	groups, longest := group(queries)
	deadline := time.Now().Add(longest)
	ctx, cancel := context.WithDeadlineCause(ctx, deadline.Add(r.grace), errTooLate)
	defer cancel()
	if err := r.ready(ctx, stamp, deadline); err != nil {
		for i := range answers {
			answers[i].Err = err
		}
		return answers
	}
	for _, g := range groups {
		if err := r.ask(ctx, g, deadline, answers); err != nil {
			for _, i := range g.queries {
				answers[i] = rules.Answer{Err: err}
			}
		}
	}
	return answers
}

// batch is the queries of one statement.
type batch struct {
	spec    spec
	lookup  *rules.Lookup
	timeout time.Duration
	queries []int // places among all
	args    [][]string
}

func group(queries []rules.Query) (groups []*batch, longest time.Duration) {
	bySpec := make(map[spec]*batch)
	for i, q := range queries {
		s := spec{q.Lookup.SQL, q.Lookup.Limit}
		g := bySpec[s]
		if g == nil {
			g = &batch{spec: s, lookup: q.Lookup}
			bySpec[s] = g
			groups = append(groups, g)
		}
		g.timeout = max(g.timeout, q.Lookup.Timeout)
		g.queries, g.args = append(g.queries, i), append(g.args, q.Args)
		longest = max(longest, q.Lookup.Timeout)
	}
	return groups, longest
}

// ready waits for visibility, and for a connection.
func (r *Resolver) ready(ctx context.Context, stamp cdc.Stamp, deadline time.Time) error {
	if time.Now().Before(r.rest) {
		return errResting
	}
	ctx, cancel := context.WithDeadlineCause(ctx, deadline, errTooLate)
	defer cancel()
	if err := r.cfg.Visible(ctx, stamp); err != nil {
		return r.failed(fmt.Errorf("wait until the transaction is visible: %w", err))
	}
	return r.connect(ctx)
}

func (r *Resolver) connect(ctx context.Context) error {
	if r.conn != nil && !r.conn.IsClosed() {
		return nil
	}
	r.conn = nil
	clear(r.statements)
	conn, err := r.cfg.Connect(ctx)
	if err != nil {
		return r.failed(fmt.Errorf("connect for lookups: %w", err))
	}
	r.conn = conn
	return nil
}

// failed keeps the next questions back for a moment. Every one of them would
// otherwise hold the reader up for its whole timeout.
func (r *Resolver) failed(err error) error {
	r.rest = time.Now().Add(min(minRest<<min(r.failures, 10), maxRest))
	r.failures++
	r.conditions.At(notAsked).Observe("err", err, "attempts", condition.Sum(1))
	return err
}

// ask puts the queries of one statement. A connection that turns out to be lost is
// replaced once: it may have been idle for long.
func (r *Resolver) ask(ctx context.Context, g *batch, deadline time.Time, answers []rules.Answer) error {
	if time.Now().Before(r.resting[g.spec]) {
		return errResting
	}
	delete(r.resting, g.spec)
	used := len(r.statements) > 0
	err := r.run(ctx, g, deadline, answers)
	if err != nil && used && r.conn.IsClosed() && time.Now().Before(deadline) {
		if err = r.connect(ctx); err != nil {
			return err
		}
		err = r.run(ctx, g, deadline, answers)
	}
	switch {
	case err == nil:
		r.failures = 0
		r.conditions.At(notAsked).End()
		r.conditions.At(lookupFails, "rule", g.lookup.Rule, "lookup", g.lookup.Name).End()
		return nil
	case r.conn.IsClosed():
		return r.failed(plain(err))
	}
	r.resting[g.spec] = time.Now().Add(g.timeout)
	err = plain(err)
	r.conditions.At(lookupFails, "rule", g.lookup.Rule, "lookup", g.lookup.Name).Observe("err", err, "attempts", condition.Sum(1), "queries", condition.Sum(len(g.queries)))
	return err
}

// Close ends the connection, and the summaries in the log.
func (r *Resolver) Close(ctx context.Context) {
	r.conditions.Close()
	if r.conn != nil {
		_ = r.conn.Close(ctx) // nothing is at stake: it only ever read
	}
}
