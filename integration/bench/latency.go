package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// seconds is how long the even load lasts, and how long the daemon is idle after it.
const seconds = 10

// Latency is how long after its COMMIT returned a row's key was gone, as the
// cache itself tells. A key that was gone before that counts as 0.
type Latency struct {
	// Rate is what was asked for, in transactions a second, Reached what the server bore.
	Rate    int           `json:"rate"`
	Reached float64       `json:"reached"`
	P50     time.Duration `json:"p50_ns"`
	P90     time.Duration `json:"p90_ns"`
	P99     time.Duration `json:"p99_ns"`
	// Commit is the p99 of the writers' own statements, which tells of the machine.
	Commit time.Duration `json:"commit_p99_ns"`
	// CPU is what the daemon used, as a share of a core.
	CPU float64 `json:"cpu_cores"`
	// Idle is the same for as long without a change.
	Idle float64 `json:"idle_cores"`
}

func (l Latency) print(out io.Writer, kind string) {
	fmt.Fprintf(out, "%s: %.0f of %d tx/s, commit to purged p50 %s p90 %s p99 %s, commit itself p99 %s, cpu %.2f cores, idle %.4f cores\n",
		kind, l.Reached, l.Rate, l.P50, l.P90, l.P99, l.Commit, l.CPU, l.Idle)
}

// runLatency commits one row after the other at an even pace.
func (b *bench) runLatency(ctx context.Context, k Kind) (l Latency, err error) {
	even := load{from: 1, to: k.Rate * seconds, rate: k.Rate, writers: k.Writers}
	if err := b.cache.fill(ctx, even.from, even.to); err != nil {
		return l, err
	}
	if _, err := b.db.Exec(ctx, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", slot); err != nil {
		return l, err
	}
	dir, err := os.MkdirTemp(b.dir, "l")
	if err != nil {
		return l, err
	}
	cmd, addr, err := b.daemon(dir, slot, publication)
	if err != nil {
		return l, err
	}
	if err := cmd.Start(); err != nil {
		return l, err
	}
	defer func() { err = errors.Join(err, stop(cmd)) }()
	var end string
	if err := b.db.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&end); err != nil {
		return l, err
	}
	if err := b.untilPurged(ctx, addr, end); err != nil {
		return l, err
	}
	gone, done, err := b.cache.watch(ctx)
	if err != nil {
		return l, err
	}
	defer done()
	before, err := used(cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	began := time.Now()
	committed, err := even.run(ctx, b.pg.URL("bench"), nil)
	if err != nil {
		return l, err
	}
	lasted := time.Since(began).Seconds()
	waiting, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	took, err := gone.since(waiting, committed)
	if err != nil {
		return l, err
	}
	after, err := used(cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	busy := time.Since(began).Seconds()
	select {
	case <-time.After(seconds * time.Second):
	case <-ctx.Done():
		return l, ctx.Err()
	}
	idle, err := used(cmd.Process.Pid)
	if err != nil {
		return l, err
	}
	return Latency{
		Rate: k.Rate, Reached: float64(len(committed)) / lasted,
		P50: share(took, 0.5), P90: share(took, 0.9), P99: share(took, 0.99), Commit: share(statements(committed), 0.99),
		CPU: (after.CPU - before.CPU).Seconds() / busy, Idle: (idle.CPU - after.CPU).Seconds() / seconds,
	}, nil
}

func statements(all []commit) []time.Duration {
	out := make([]time.Duration, len(all))
	for i, c := range all {
		out[i] = c.took
	}
	return out
}
