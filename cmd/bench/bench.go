package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// name is that of everything that is made, and begins every key and tag.
const name = "walpurge_bench"

// Config says what to measure.
type Config struct {
	// File is the user's configuration; Sinks are the names of the sinks to measure.
	File  *config.Config
	Sinks []string
	// Rows is the size of the backlog, PerTransaction how many a transaction changes.
	Rows, PerTransaction int
	// Rate is how many transactions a second the latency is measured at, For how long.
	Rate    int
	For     time.Duration
	Version string
	Logger  *slog.Logger
	// Say is told what is being done.
	Say func(format string, args ...any)
}

// Validate finds what cannot be measured.
func (c Config) Validate() error {
	var errs []error
	if c.Rows < 1 || c.Rows > 10_000_000 || c.PerTransaction < 1 {
		errs = append(errs, errors.New("--rows: write 1 to 10000000, and --per-transaction 1 or more"))
	}
	if c.Rate < 1 || c.Rate > 10_000 || c.For < time.Second || c.For > time.Hour {
		errs = append(errs, errors.New("--rate: write 1 to 10000 a second; --for: 1s to 1h"))
	}
	for _, s := range c.Sinks {
		i := slices.IndexFunc(c.File.Sinks, func(k config.Sink) bool { return k.Name == s })
		switch {
		case i < 0:
			errs = append(errs, fmt.Errorf("there is no sink %q; there is %s", s, strings.Join(c.File.SinkNames(), ", ")))
		case !c.File.Sinks[i].Takes.Has(invalidation.Key) && !c.File.Sinks[i].Takes.Has(invalidation.Tag):
			errs = append(errs, fmt.Errorf("sink %q takes neither keys nor tags, so there is nothing to measure it by", s))
		}
	}
	return errors.Join(errs...)
}

// Run measures, and cleans up whatever becomes of that.
func Run(ctx context.Context, c Config) (_ *Report, err error) {
	dir, err := os.MkdirTemp("", name+"-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	own, err := c.own(dir)
	if err != nil {
		return nil, err
	}
	conn, err := own.Postgres.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	c.Say("making schema, slot and publication %s", name)
	if err := makeSchema(ctx, conn, c.Rows); err != nil {
		return nil, err
	}
	defer func() {
		cleaning, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		c.Say("cleaning up")
		err = errors.Join(err, clean(cleaning, own))
	}()
	return c.measure(ctx, own, conn)
}

// own is the configuration of the pipeline that is measured: the user's database and
// sinks, and nothing else of theirs.
func (c Config) own(dir string) (*config.Config, error) {
	own := *c.File
	own.Pipeline, own.DataDir = "bench", filepath.Join(dir, "data")
	own.NATS = config.NATS{Replicas: 1}
	own.HTTP = config.HTTP{Listen: "127.0.0.1:0"}
	// A flush reaches the keys of the measurement only, see below.
	own.Retired, own.Globs, own.StopOnGap = nil, nil, false
	own.Postgres.Slot, own.Postgres.Publication, own.Postgres.Manage = name, name, true
	own.Postgres.MaxRetained, own.Postgres.Failover = 0, false
	own.Sinks, own.Warms = nil, nil
	var text strings.Builder
	text.WriteString("rules:\n")
	for _, s := range c.File.Sinks {
		if !slices.Contains(c.Sinks, s.Name) {
			continue
		}
		kind, flush := "keys", invalidation.Invalidation{Kind: invalidation.KeyPattern, Value: name + ":*", Rule: "flush"}
		if !s.Takes.Has(invalidation.Key) {
			kind, flush = "tags", invalidation.Invalidation{Kind: invalidation.Tag, Value: name, Rule: "flush"}
		}
		fmt.Fprintf(&text, "  - {name: %s, table: %s.rows, %s: [%q], sinks: [%s]}\n", s.Name, name, kind, name+":{id}", s.Name)
		s.Flush, s.FlushPace, s.FlushAtMost = []invalidation.Invalidation{flush}, 0, 0
		s.After = slices.DeleteFunc(slices.Clone(s.After), func(inner string) bool { return !slices.Contains(c.Sinks, inner) })
		s.MaxBacklog, s.StopOnOverflow, s.Formerly, s.SecondPurge, s.Withheld = 0, true, "", 0, 0
		own.Sinks = append(own.Sinks, s)
	}
	file := filepath.Join(dir, "rules.yaml")
	own.Rules = []string{file}
	return &own, os.WriteFile(file, []byte(text.String()), 0o600)
}

// daemon runs the pipeline until stop is called. ended is closed when it has, and err is
// why it did by itself.
type daemon struct {
	*app.Daemon
	cancel context.CancelFunc
	ended  chan struct{}
	err    error
}

func (d *daemon) stop() error {
	d.cancel()
	<-d.ended
	return d.err
}

func (c Config) start(ctx context.Context, own *config.Config) (*daemon, error) {
	level := new(slog.LevelVar)
	level.Set(slog.LevelWarn)
	d, err := app.NewDaemon(ctx, app.Options{Config: own, Version: c.Version, Logger: c.Logger, Level: level})
	if err != nil {
		return nil, err
	}
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	out := &daemon{Daemon: d, cancel: cancel, ended: make(chan struct{})}
	go func() {
		defer close(out.ended)
		out.err = d.Run(running)
	}()
	return out, nil
}

// untilPurged waits until every sink has purged up to where the log ends now.
func untilPurged(ctx context.Context, conn *pgx.Conn, d *daemon) error {
	var end string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text").Scan(&end); err != nil {
		return err
	}
	lsn, err := cdc.ParseLSN(end)
	if err != nil {
		return err
	}
	waiting, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-d.ended:
			cancel()
		case <-waiting.Done():
		}
	}()
	return d.Wait(waiting, lsn)
}
