package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/cmd/plural"
	"github.com/walpurge/walpurge/router/stream"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// measure runs the pipeline twice: once to begin, so that the backlog is written while
// no process reads and is no gap, and once to drain it.
func (c Config) measure(ctx context.Context, own *config.Config, conn *pgx.Conn) (*Report, error) {
	d, err := c.start(ctx, own)
	if err != nil {
		return nil, err
	}
	err = untilPurged(ctx, conn, d)
	if err = errors.Join(err, d.stop()); err != nil {
		return nil, err
	}
	c.Say("writing a backlog of %s", plural.Count(c.Rows, "changed row"))
	for first := 1; first <= c.Rows; first += c.PerTransaction {
		if _, err := conn.Exec(ctx, "UPDATE "+name+".rows SET version = version + 1 WHERE id BETWEEN $1 AND $2", first, min(c.Rows, first+c.PerTransaction-1)); err != nil {
			return nil, err
		}
	}
	c.Say("draining it")
	began := time.Now()
	if d, err = c.start(ctx, own); err != nil {
		return nil, err
	}
	defer func() { _ = d.stop() }()
	if err := untilPurged(ctx, conn, d); err != nil {
		return nil, err
	}
	r := &Report{Rows: c.Rows, PerTransaction: c.PerTransaction, DrainSeconds: time.Since(began).Seconds(), Rate: c.Rate}
	r.RowsPerSecond = float64(c.Rows) / r.DrainSeconds
	c.Say("changing %s a second for %s", plural.Count(c.Rate, "row"), c.For)
	r.Sinks, r.Commits, err = c.latency(ctx, conn, d)
	return r, err
}

// latency changes single rows at a steady pace, and notes when each is purged.
func (c Config) latency(ctx context.Context, conn *pgx.Conn, d *daemon) ([]Latency, int, error) {
	heard := &listener{at: make(map[string]map[int]time.Time)}
	sub, err := d.Conn().Subscribe(stream.PurgedSubject("bench", "*"), heard.hear)
	if err != nil {
		return nil, 0, fmt.Errorf("listen to purges: %w", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // heardAll may have done it
	commits := min(c.Rows, int(c.For.Seconds()*float64(c.Rate)))
	returned := make([]time.Time, commits+1)
	tick := time.NewTicker(time.Second / time.Duration(c.Rate))
	defer tick.Stop()
	for id := 1; id <= commits; id++ {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, 0, context.Cause(ctx)
		}
		if _, err := conn.Exec(ctx, "UPDATE "+name+".rows SET version = version + 1 WHERE id = $1", id); err != nil {
			return nil, 0, err
		}
		returned[id] = time.Now()
	}
	if err := untilPurged(ctx, conn, d); err != nil {
		return nil, 0, err
	}
	if err := heardAll(ctx, sub); err != nil {
		return nil, 0, err
	}
	var out []Latency
	for _, sink := range c.Sinks {
		l, err := heard.of(sink, returned)
		if err != nil {
			return nil, 0, err
		}
		out = append(out, l)
	}
	return out, commits, nil
}

// heardAll ends a subscription, and returns once its handler has seen whatever was published
// on the same connection before. A purge is told before the mark passes it, but the
// listener may hear of it later.
func heardAll(ctx context.Context, sub *nats.Subscription) error {
	closed := make(chan struct{})
	sub.SetClosedHandler(func(string) { close(closed) })
	if err := sub.Drain(); err != nil {
		return fmt.Errorf("hear the last purges: %w", err)
	}
	select {
	case <-closed:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// listener notes when which row was purged at which sink.
type listener struct {
	mu sync.Mutex
	at map[string]map[int]time.Time
}

func (l *listener) hear(m *nats.Msg) {
	now := time.Now()
	b, err := invalidation.Decode(m.Data)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at[b.Sink] == nil {
		l.at[b.Sink] = make(map[int]time.Time)
	}
	for _, inv := range b.Invalidations(nil) {
		if id, err := strconv.Atoi(strings.TrimPrefix(inv.Value, name+":")); err == nil {
			l.at[b.Sink][id] = now
		}
	}
}

// of sums up a sink. A purge that was heard of before COMMIT returned counts as 0.
func (l *listener) of(sink string, returned []time.Time) (Latency, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all []time.Duration
	for id := 1; id < len(returned); id++ {
		at, purged := l.at[sink][id]
		if !purged {
			return Latency{}, fmt.Errorf("no purge of row %d at sink %s was heard of", id, sink)
		}
		all = append(all, max(0, at.Sub(returned[id])))
	}
	slices.Sort(all)
	at := func(q float64) float64 {
		if len(all) == 0 {
			return 0
		}
		return float64(all[int(q*float64(len(all)-1))].Microseconds()) / 1000
	}
	return Latency{Sink: sink, P50: at(.5), P90: at(.9), P99: at(.99), Max: at(1)}, nil
}
