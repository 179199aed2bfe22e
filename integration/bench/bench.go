package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/integration/harness"
)

// Config is what to measure.
type Config struct {
	// Walpurge is the program.
	Walpurge string
	Rows     int
	Rounds   int
	Kinds    []Kind
	Out, Log io.Writer
}

// Result is one kind's figures.
type Result struct {
	Kind string `json:"kind"`
	Rows int    `json:"rows"`
	// Floor is walpurge without column lists, where the kind compares with that.
	Floor  []drained `json:"floor"`
	E2E    []drained `json:"end_to_end"`
	Ratios []float64 `json:"ratios"`
	// Ratio is the median of the rounds' ratios: floor's time by ours.
	Ratio float64 `json:"ratio"`
	// Latency or Outage is set for the kinds that measure it, and the rest is not.
	Latency *Latency `json:"latency,omitempty"`
	Outage  *Outage  `json:"outage,omitempty"`
}

type bench struct {
	cfg    Config
	dir    string
	bin    string
	url    string // of walpurge's database
	log    io.Writer
	pg     *harness.Postgres
	valkey *harness.Valkey
	cache  cached
	db     *pgx.Conn
}

// Run drains every kind of backlog in alternating rounds.
func Run(ctx context.Context, cfg Config) (results []Result, err error) {
	dir, err := os.MkdirTemp("", "walpurge-bench-")
	if err != nil {
		return nil, err
	}
	var group harness.Group
	defer func() { err = errors.Join(err, group.Close()) }()
	group.Add("directory", func() error { return os.RemoveAll(dir) })
	for _, k := range cfg.Kinds {
		r, err := run(ctx, cfg, k, filepath.Join(dir, k.Name))
		if err != nil {
			return results, fmt.Errorf("backlog %s: %w", k.Name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// run measures one kind on servers of its own.
func run(ctx context.Context, cfg Config, k Kind, dir string) (r Result, err error) {
	b := &bench{cfg: cfg, dir: dir, log: cfg.Log}
	var group harness.Group
	defer func() { err = errors.Join(err, group.Close()) }()
	bins, err := harness.FindPostgres()
	if err != nil {
		return r, err
	}
	b.bin = bins.Dir
	// As in bench.md's floor: durable, but the load itself is not waited for.
	b.pg, err = harness.StartPostgres(ctx, harness.PostgresConfig{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{
		"fsync": "on", "shared_buffers": "1GB", "max_wal_size": "16GB", "autovacuum": "off", "logical_decoding_work_mem": "64MB",
	}})
	if err != nil {
		return r, err
	}
	group.Add("PostgreSQL", b.pg.Close)
	if b.valkey, err = harness.StartValkey(ctx, harness.ValkeyConfig{Dir: filepath.Join(dir, "valkey")}); err != nil {
		return r, err
	}
	group.Add("Valkey", b.valkey.Close)
	if b.cache, err = openCache(b.valkey.Addr()); err != nil {
		return r, err
	}
	group.Add("client", func() error { b.cache.Close(); return nil })
	b.url = b.pg.URL("bench")
	if k.Socket {
		b.url = b.pg.SocketURL("bench")
	}
	if err := b.pg.Exec(ctx, "postgres", "CREATE DATABASE bench"); err != nil {
		return r, err
	}
	if err := b.pg.Exec(ctx, "bench", fmt.Sprintf(schema, products)); err != nil {
		return r, err
	}
	if b.db, err = pgx.Connect(ctx, b.pg.URL("bench")); err != nil {
		return r, err
	}
	group.Add("connection", func() error { return b.db.Close(context.Background()) })
	switch {
	case k.Outage:
		o, err := b.runOutage(ctx, k, cfg.Rows)
		if err != nil {
			return r, err
		}
		o.print(cfg.Out, k.Name)
		return Result{Kind: k.Name, Rows: cfg.Rows, Outage: &o}, nil
	case k.Rate > 0:
		l, err := b.runLatency(ctx, k)
		if err != nil {
			return r, err
		}
		l.print(cfg.Out, k.Name)
		return Result{Kind: k.Name, Rows: l.Rate * seconds, Latency: &l}, nil
	}
	first, peer, ours := b.floor, "floor", publication
	if k.Lists {
		if _, err := b.db.Exec(ctx, lists); err != nil {
			return r, err
		}
		first, peer, ours = func(ctx context.Context, end string) (drained, error) { return b.end2end(ctx, publication, end) }, "without lists", listed
	}
	end, err := write(ctx, b.db, k, cfg.Rows)
	if err != nil {
		return r, err
	}
	r = Result{Kind: k.Name, Rows: cfg.Rows}
	for n := range cfg.Rounds {
		f, err := first(ctx, end)
		if err != nil {
			return r, err
		}
		e, err := b.end2end(ctx, ours, end)
		if err != nil {
			return r, err
		}
		ratio := f.Took.Seconds() / e.Took.Seconds()
		r.Floor, r.E2E, r.Ratios = append(r.Floor, f), append(r.E2E, e), append(r.Ratios, ratio)
		fmt.Fprintf(cfg.Out, "%s round %d: %s %s (walsender %s), walpurge %s (cpu %s, walsender %s, peak %d MiB), ratio %.2f\n",
			k.Name, n+1, peer, short(f.Took), short(f.Sender), short(e.Took), short(e.CPU), short(e.Sender), e.Peak>>20, ratio)
	}
	r.Ratio = median(r.Ratios)
	fmt.Fprintf(cfg.Out, "%s: median ratio %.2f (%.2f to %.2f), walpurge %s s (cpu %s s), %s %s s (walsender %s s), peak %d MiB\n",
		k.Name, r.Ratio, slices.Min(r.Ratios), slices.Max(r.Ratios), spread(r.E2E, took), spread(r.E2E, cpu), peer, spread(r.Floor, took), spread(r.Floor, senderCPU), peak(r.E2E)>>20)
	return r, nil
}

func took(d drained) time.Duration      { return d.Took }
func cpu(d drained) time.Duration       { return d.CPU }
func senderCPU(d drained) time.Duration { return d.Sender }

// spread is a median with the least and the most, in seconds.
func spread(all []drained, of func(drained) time.Duration) string {
	v := make([]float64, len(all))
	for i, d := range all {
		v[i] = of(d).Seconds()
	}
	return fmt.Sprintf("%.2f (%.2f to %.2f)", median(v), slices.Min(v), slices.Max(v))
}

func peak(all []drained) (most int64) {
	for _, d := range all {
		most = max(most, d.Peak)
	}
	return most
}

func short(d time.Duration) string { return d.Round(10 * time.Millisecond).String() }

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	if len(s) == 0 {
		return 0
	}
	if len(s)%2 == 1 {
		return s[len(s)/2]
	}
	return (s[len(s)/2-1] + s[len(s)/2]) / 2
}

func joined(err, later error) error {
	if err != nil {
		return err
	}
	return later
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}
