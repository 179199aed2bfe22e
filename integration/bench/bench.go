package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

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
	// Alone is walpurge's reader with nothing behind it, and Bound the median of the floor's
	// times by its own: no daemon gets beyond that. A kind without a floor has neither.
	Alone []drained `json:"alone,omitempty"`
	Bound float64   `json:"bound,omitempty"`
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
	return b.alternate(ctx, k)
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
