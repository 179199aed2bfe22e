package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Outage is how a daemon that was away catches up.
type Outage struct {
	// Transactions were committed while it was away, each of one row.
	Transactions int `json:"transactions"`
	// Drained is the time from its start until all of them were purged.
	Drained time.Duration `json:"drained_ns"`
	// Back is how long after that nine of ten commits of an even load beside it were
	// purged within soon again, over a window.
	Back time.Duration `json:"back_ns"`
	// P50 is the latency from then on.
	P50  time.Duration `json:"p50_ns"`
	Peak int64         `json:"peak_bytes"`
}

const (
	soon   = 5 * time.Millisecond
	window = 200 * time.Millisecond
	// afterwards is how long the even load goes on when the backlog is drained.
	afterwards = 5 * time.Second
)

func (o Outage) print(out io.Writer, kind string) {
	fmt.Fprintf(out, "%s: %d transactions drained in %s (%.0f tx/s), commits purged within %s again %s later, p50 then %s, peak %d MiB\n",
		kind, o.Transactions, short(o.Drained), float64(o.Transactions)/o.Drained.Seconds(), soon, short(o.Back), o.P50, o.Peak>>20)
}

// runOutage drains a backlog while the application goes on.
func (b *bench) runOutage(ctx context.Context, k Kind, rows int) (o Outage, err error) {
	end, err := write(ctx, b.db, k, rows)
	if err != nil {
		return o, err
	}
	even := load{from: products - quiet + 1, to: products, rate: k.Rate, writers: k.Writers}
	if err := b.cache.fill(ctx, even.from, even.to); err != nil {
		return o, err
	}
	gone, done, err := b.cache.watch(ctx)
	if err != nil {
		return o, err
	}
	defer done()
	dir, err := os.MkdirTemp(b.dir, "o")
	if err != nil {
		return o, err
	}
	cmd, addr, err := b.daemon(dir, slot, publication)
	if err != nil {
		return o, err
	}
	halt := make(chan struct{})
	halted := sync.OnceFunc(func() { close(halt) })
	var (
		beside    sync.WaitGroup
		committed []commit
		failed    error
	)
	beside.Go(func() { committed, failed = even.run(ctx, b.pg.URL("bench"), halt) })
	defer func() { halted(); beside.Wait() }()
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return o, err
	}
	defer func() { err = errors.Join(err, stop(cmd)) }()
	if err := b.untilPurged(ctx, addr, end); err != nil {
		return o, err
	}
	drained := time.Now()
	select {
	case <-time.After(afterwards):
	case <-ctx.Done():
		return o, ctx.Err()
	}
	halted()
	beside.Wait()
	if failed != nil {
		return o, failed
	}
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	took, err := gone.since(waiting, committed)
	if err != nil {
		return o, err
	}
	u, err := used(cmd.Process.Pid)
	if err != nil {
		return o, err
	}
	o = Outage{Transactions: rows, Drained: drained.Sub(began), Peak: u.Peak}
	o.Back, o.P50, err = back(committed, took, drained)
	return o, err
}

// back finds the first window of commits, begun at or after a moment, of which
// nine in ten were purged soon, and the median from then on.
func back(all []commit, took []time.Duration, since time.Time) (later, p50 time.Duration, err error) {
	for from := since; ; from = from.Add(window) {
		var in, rest []time.Duration
		for i, c := range all {
			if c.at.Before(from) {
				continue
			}
			rest = append(rest, took[i])
			if c.at.Before(from.Add(window)) {
				in = append(in, took[i])
			}
		}
		if len(rest) == 0 {
			return 0, 0, fmt.Errorf("the latency did not come back under %s within %s of the backlog's end", soon, afterwards)
		}
		if len(in) > 0 && share(in, 0.9) < soon {
			return from.Sub(since), share(rest, 0.5), nil
		}
	}
}
