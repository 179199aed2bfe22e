package storefront

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/harness/edge"
	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/load"
)

const (
	zone  = "023e105f4ecef8ad9ca31a8372d0c353"
	token = "storefront-token"
	// behind is how long after the primary the replicas show a commit. It is not scaled.
	behind = 150 * time.Millisecond
	factor = 5
)

// Scenario is the storefront and its load.
func Scenario() scenario.Scenario {
	// Three of the shortest time to live, 30 s.
	const lasting = 18 * time.Second
	return scenario.Scenario{
		Name:   "storefront",
		Who:    "An e-commerce platform: NestJS, product details in hashes of Valkey, listings at a CDN, two read replicas 150 ms behind.",
		Factor: factor,
		Stages: []scenario.Stage{
			{Name: "baseline", Share: 0.3, Lasting: lasting},
			{Name: "peak", Share: 0.6, Lasting: lasting},
			{Name: "2 x peak", Share: 1.2, Lasting: lasting},
		},
		Writes:     0.4,
		Bypass:     0.1,
		Cacheable:  []string{listing, category, product},
		EdgeHeader: "CF-Cache-Status",
		EventStage: "peak",
		TTLs:       []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 300 * time.Second},
		Cost: scenario.CostUpdate{
			Table: "public.products",
			One:   "UPDATE products SET stock = stock + 1 WHERE id = $1", Keys: products,
			Many: "UPDATE products SET stock = stock + 1",
		},
		Gate:     scenario.GateLoad{Rate: 150, Lasting: 6 * time.Second},
		Prepare:  prepare,
		Start:    start,
		Rollouts: []int{5, 50},
	}
}

// prepare installs the packages of the lock file and compiles the application.
func prepare(ctx context.Context, b scenario.Build) error {
	node, err := harness.FindNode(ctx)
	if err != nil {
		return err
	}
	npm, err := exec.LookPath("npm")
	if err != nil {
		return errors.New("no npm in PATH: run `apt-get install npm`")
	}
	app := filepath.Join(b.Files, "app")
	for _, step := range [][]string{
		{npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"},
		{node, filepath.Join("node_modules", "typescript", "bin", "tsc"), "--outDir", filepath.Join(b.Built, "dist")},
	} {
		cmd := exec.CommandContext(ctx, step[0], step[1:]...)
		cmd.Dir = app
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s in deploy/examples/storefront/app: %w: %s", strings.Join(step, " "), err, out)
		}
	}
	// Node looks for packages and the type of modules beside the program.
	if err := os.Rename(filepath.Join(app, "node_modules"), filepath.Join(b.Built, "node_modules")); err != nil {
		return err
	}
	manifest, err := os.ReadFile(filepath.Join(app, "package.json"))
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(b.Built, "package.json"), manifest, 0o644)
}

// system is the storefront under one variant.
type system struct {
	env      *scenario.Env
	replicas []*harness.Postgres
	edge     *edge.Server
	app      *harness.Program
	// origin is where the application listens.
	origin string
	client *http.Client
	traces *collector
	// lost is when the second replica was killed, zero before.
	lost time.Time
}

func start(ctx context.Context, env *scenario.Env) (scenario.System, error) {
	s := &system{env: env, client: &http.Client{Timeout: 20 * time.Second}}
	for i := range 2 {
		replica, err := env.Postgres.StartStandby(ctx, harness.PostgresConfig{
			Dir: filepath.Join(env.Dir, fmt.Sprintf("replica-%d", i+1)),
			Settings: map[string]string{
				"recovery_min_apply_delay": fmt.Sprintf("%dms", behind.Milliseconds()), "max_connections": "200", "shared_buffers": "256MB",
				"shared_preload_libraries": "pg_stat_statements",
			},
			Nice: scenario.Nice,
		})
		if err != nil {
			return nil, err
		}
		env.Group.Add(fmt.Sprintf("replica %d", i+1), replica.Close)
		s.replicas = append(s.replicas, replica)
	}
	env.Replicas = s.replicas
	var err error
	if s.traces, err = startCollector(ctx); err != nil {
		return nil, err
	}
	env.Group.Add("collector of traces", s.traces.close)
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	s.origin = "http://127.0.0.1:" + strconv.Itoa(port)
	begun := time.Now()
	s.edge, err = edge.Start(ctx, edge.Config{
		OriginURL: s.origin, PublicURL: "https://storefront.example", ObeyCacheControl: true,
		Accounts: []edge.Account{{Plan: edge.Enterprise, Tokens: []string{token}, Zones: []edge.Zone{{ID: zone}}}},
		Clock:    func() time.Time { return begun.Add(time.Since(begun) * time.Duration(env.Factor)) },
	})
	if err != nil {
		return nil, err
	}
	env.Group.Add("edge", s.edge.Close)
	node, err := harness.FindNode(ctx)
	if err != nil {
		return nil, err
	}
	s.app, err = harness.StartProgram(ctx, harness.ProgramConfig{
		Name: "storefront", Path: node, Args: []string{filepath.Join(env.Built, "dist", "main.js")}, Dir: env.Built, LogDir: env.Dir,
		Env: s.settings(port), Ready: s.ready, Nice: scenario.Nice,
	})
	if err != nil {
		return nil, err
	}
	// It holds nothing that it would have to finish.
	env.Group.Add("storefront", s.app.Kill)
	return s, nil
}

// settings are the environment of the application.
func (s *system) settings(port int) []string {
	v := s.env.Variant
	out := []string{
		"PORT=" + strconv.Itoa(port), "DATABASE_URL=" + s.env.DatabaseURL, "NODE_ENV=production",
		"REPLICA_URLS=" + s.replicas[0].URL("storefront", "app") + "," + s.replicas[1].URL("storefront", "app"),
		"CLOUDFLARE_URL=" + s.edge.APIURL(), "CLOUDFLARE_ZONE=" + zone, "CLOUDFLARE_TOKEN=" + token,
	}
	switch {
	case !v.Cache:
		return append(out, "CACHE=none")
	case v.Walpurge:
		out = append(out, "CACHE=walpurge", rolledOut(v), fmt.Sprintf("CAUTIOUS_TTL=%d", s.env.Scaled(30*time.Second).Milliseconds()))
	case v.Deletes:
		out = append(out, "CACHE=deletes")
	default:
		out = append(out, "CACHE=ttl")
	}
	out = append(out, "VALKEY_URL=redis://"+s.env.Valkey.Addr())
	of := func(name string, ttl time.Duration) time.Duration {
		if v.TTL > 0 {
			ttl = min(ttl, v.TTL)
			if name != "MEMORY_TTL" {
				ttl = v.TTL
			}
		}
		out = append(out, fmt.Sprintf("%s=%d", name, s.env.Scaled(ttl).Milliseconds()))
		return ttl
	}
	of("PRODUCT_TTL", 300*time.Second)
	of("MEMORY_TTL", 5*time.Second)
	listings, ofCategories := of("LISTING_TTL", 30*time.Second), of("CATEGORY_TTL", 300*time.Second)
	// The clock of the edge is scaled instead.
	return append(out, fmt.Sprintf("EDGE_LISTING_TTL=%d", int(listings.Seconds())), fmt.Sprintf("EDGE_CATEGORY_TTL=%d", int(ofCategories.Seconds())))
}

// rolledOut is the variable that the application and walpurge.yaml have the percentage from.
func rolledOut(v scenario.Variant) string {
	if v.Rollout == 0 {
		return "ROLLOUT=100"
	}
	return "ROLLOUT=" + strconv.Itoa(v.Rollout)
}

// ready returns nil when the application answers with a row from a replica.
func (s *system) ready(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.origin+"/merchants/1/products/24", nil)
	if err != nil {
		return err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the application answers %s", resp.Status)
	}
	return nil
}

// WalpurgeEnv has the variables of walpurge.yaml. The limit of the API is scaled as all times are.
func (s *system) WalpurgeEnv() []string {
	file := filepath.Join(s.env.Dir, "cloudflare-token")
	// The daemon reports a file that is missing.
	_ = os.WriteFile(file, []byte(token), 0o600)
	return []string{
		"REPLICA_1_URL=" + s.replicas[0].URL("storefront", "walpurge"), "REPLICA_2_URL=" + s.replicas[1].URL("storefront", "walpurge"),
		"CLOUDFLARE_URL=" + s.edge.APIURL(), "CLOUDFLARE_TOKEN_FILE=" + file, rolledOut(s.env.Variant),
		"OTEL_EXPORTER_OTLP_ENDPOINT=" + s.traces.url(), "OTEL_BSP_SCHEDULE_DELAY=200",
	}
}

// Next makes a visitor's request to the CDN.
func (s *system) Next(r *rand.Rand) load.Request { return next(r, s.edge.URL()) }

// Warm does nothing: this team lets visitors fill the caches.
func (s *system) Warm(context.Context) error { return nil }
