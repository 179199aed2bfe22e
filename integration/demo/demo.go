package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/deploy/examples/shop"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/harness/edge"
	"github.com/walpurge/walpurge/sinks/cloudflare"
)

// Config is how the demo is to run.
type Config struct {
	// For ends the demo after this long; 0 runs until the context ends.
	For     time.Duration
	Version string
	Out     io.Writer
	// Log receives warnings of the daemon.
	Log io.Writer
}

const (
	zone  = "023e105f4ecef8ad9ca31a8372d0c353"
	token = "demo-token-that-opens-nothing"
	// pause between two changes keeps the edge within a real account's budget.
	pause = 350 * time.Millisecond
)

// Run starts everything, changes rows and shows purges until its time is up or
// the context ends, and takes everything away again. It returns an error if a
// change was not purged.
func Run(ctx context.Context, cfg Config) (err error) {
	d := &demo{cfg: cfg}
	dir, err := os.MkdirTemp("", "walpurge-demo-")
	if err != nil {
		return err
	}
	var group harness.Group
	defer func() { err = errors.Join(err, group.Close()) }()
	group.Add("directory", func() error { return os.RemoveAll(dir) })

	fmt.Fprintln(cfg.Out, "starting a throwaway PostgreSQL, Valkey and edge cache ...")
	if err := d.servers(ctx, dir, &group); err != nil {
		return err
	}
	if err := d.daemon(ctx, dir, &group); err != nil {
		return err
	}
	d.introduce(dir)
	if cfg.For > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, cfg.For)
		defer cancel()
	}
	if err := d.play(ctx); err != nil {
		return err
	}
	return d.summary()
}

type demo struct {
	cfg    Config
	pg     *harness.Postgres
	valkey *harness.Valkey
	db     *pgxpool.Pool
	cache  valkey.Client
	edge   *edge.Edge
	site   *edge.Server
	app    *app.Daemon
	watch  *watcher
	stats  stats
}

func (d *demo) servers(ctx context.Context, dir string, group *harness.Group) error {
	var err error
	if d.pg, err = harness.StartPostgres(ctx, harness.PostgresConfig{Dir: filepath.Join(dir, "postgres"), Settings: map[string]string{"fsync": "on"}}); err != nil {
		return err
	}
	group.Add("PostgreSQL", d.pg.Close)
	if d.valkey, err = harness.StartValkey(ctx, harness.ValkeyConfig{Dir: filepath.Join(dir, "valkey")}); err != nil {
		return err
	}
	group.Add("Valkey", d.valkey.Close)
	if err := d.pg.Exec(ctx, "postgres", "CREATE DATABASE shop"); err != nil {
		return err
	}
	if err := d.pg.Exec(ctx, "shop", shop.SchemaSQL); err != nil {
		return err
	}
	if d.db, err = pgxpool.New(ctx, d.pg.URL("shop")); err != nil {
		return err
	}
	group.Add("database pool", func() error { d.db.Close(); return nil })
	if d.cache, err = valkey.NewClient(valkey.ClientOption{InitAddress: []string{d.valkey.Addr()}, DisableCache: true}); err != nil {
		return err
	}
	group.Add("Valkey client", func() error { d.cache.Close(); return nil })
	d.site, err = edge.Start(ctx, edge.Config{
		Origin:   &Shop{DB: d.db, Cache: d.cache, TTL: time.Hour},
		Accounts: []edge.Account{{Plan: edge.Business, Tokens: []string{token}, Zones: []edge.Zone{{ID: zone}}}},
	})
	if err != nil {
		return err
	}
	group.Add("edge", d.site.Close)
	d.edge = d.site.Edge
	return nil
}

const file = `pipeline: demo
rules: [rules/*.yaml]
data_dir: data
postgres:
  url: %q
sinks:
  cache:
    valkey: {url: %q}
  edge:
    cloudflare: {zone_id: %s, api_token_file: token, plan: business, base_url: %q}
    after: [cache]
    flush: {everything: true}
http: {listen: 127.0.0.1:0}
log: {level: warn}
`

// daemon writes the files that a user would write, and runs the daemon on them.
func (d *demo) daemon(ctx context.Context, dir string, group *harness.Group) error {
	if err := os.CopyFS(dir, shop.Rules); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "token"), []byte(token), 0o600); err != nil {
		return err
	}
	path := filepath.Join(dir, "walpurge.yaml")
	text := fmt.Sprintf(file, d.pg.URL("shop"), d.valkey.URL(), zone, d.site.APIURL())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	cfg, err := config.Load(path, config.Options{Env: os.LookupEnv})
	if err != nil {
		return err
	}
	cfg.DataDir = filepath.Join(dir, cfg.DataDir)
	cfg.Sinks[1].Config.(*cloudflare.Config).APITokenFile = filepath.Join(dir, "token")
	level := new(slog.LevelVar)
	level.Set(cfg.Log.Level)
	d.app, err = app.NewDaemon(ctx, app.Options{
		Config: cfg, Version: d.cfg.Version, Level: level,
		Logger: slog.New(slog.NewTextHandler(d.cfg.Log, &slog.HandlerOptions{Level: level})),
	})
	if err != nil {
		return err
	}
	if d.watch, err = watch(d.app.Conn(), "demo"); err != nil {
		return err
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	done := make(chan error, 1)
	go func() { done <- d.app.Run(running) }()
	group.Add("walpurge", func() error { stop(); return <-done })
	return d.untilStreaming(ctx, done)
}

// untilStreaming waits for the slot to be read.
func (d *demo) untilStreaming(ctx context.Context, done chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		if s := d.app.Status(ctx); s.Reader.State == "streaming" {
			return nil
		}
		select {
		case err := <-done:
			done <- nil
			return fmt.Errorf("walpurge stopped: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("walpurge did not begin to stream: %w", ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (d *demo) introduce(dir string) {
	fmt.Fprintf(d.cfg.Out, `
  database  %s
  Valkey    %s
  shop      %s/p/product-7   (behind the edge)
  rules     %s
  status    http://%s/   (a page for a browser)

`, d.pg.URL("shop"), d.valkey.URL(), d.site.URL(), filepath.Join(dir, "rules", "catalog.yaml"), d.app.Addr())
}
