package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/harness/edge"
)

const (
	zoneID    = "023e105f4ecef8ad9ca31a8372d0c353"
	edgeToken = "integration-token-4f1d"
)

// rig is one test's servers and files. Everything ends with the test.
type rig struct {
	t     *testing.T
	dir   string
	pg    *harness.Postgres
	vk    *harness.Valkey
	edge  *edge.Server
	db    *pgxpool.Pool
	cache valkey.Client
	// pgURL, valkeyURL and edgeURL are what the daemon is told; a test may put
	// something in between.
	pgURL     string
	valkeyURL string
	edgeURL   string
	extra     string // appended to walpurge.yaml
	pgExtra   string // appended to postgres, with its line breaks
	sinkExtra string // appended to sink cache
	edgeExtra string // appended to sink edge
}

// schema is the tables of most tests. versions is not published: the oracle
// reads from it what a reader would see.
const schema = `
CREATE TABLE products (id bigint PRIMARY KEY, slug text NOT NULL, name text NOT NULL DEFAULT '', ver bigint NOT NULL DEFAULT 0);
ALTER TABLE products REPLICA IDENTITY FULL;
CREATE TABLE categories (id bigint PRIMARY KEY, name text NOT NULL DEFAULT '');
CREATE TABLE versions (id bigint PRIMARY KEY, ver bigint NOT NULL);
`

const catalog = `rules:
  - name: product
    table: public.products
    keys: ["product:{id}", "product:slug:{slug}"]
    tags: ["product-{id}"]
    on_truncate: {tags: [products]}
  - name: category
    table: public.categories
    keys: ["category:{id}"]
    tags: ["category-{id}"]
`

type rigOptions struct {
	binaries harness.Binaries
	postgres map[string]string
	valkey   []string // arguments
	origin   http.Handler
	schema   string
	catalog  string
	plan     edge.Plan
	limits   edge.Limits
}

func newRig(t *testing.T, o rigOptions) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dir, err := harness.MkdirScratch()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	r := &rig{t: t, dir: dir}
	r.pg, err = harness.StartPostgres(ctx, harness.PostgresConfig{Dir: filepath.Join(r.dir, "pg"), Binaries: o.binaries, Settings: o.postgres})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.pg.Close()) })
	r.vk, err = harness.StartValkey(ctx, harness.ValkeyConfig{Dir: filepath.Join(r.dir, "valkey"), Args: o.valkey})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.vk.Close()) })
	if o.origin == nil {
		o.origin = http.HandlerFunc(tagged)
	}
	if o.plan == "" {
		// A test that is not about limits meets none.
		o.limits, _ = edge.LimitsOf(edge.Enterprise)
		o.limits.PurgesPerSecond, o.limits.PurgeBurst, o.limits.APIRequests = 1e6, 1e6, 1e6
	}
	none := time.Duration(0)
	r.edge, err = edge.Start(ctx, edge.Config{
		Origin: o.origin, PurgeDelay: &none,
		Accounts: []edge.Account{{Plan: o.plan, Limits: o.limits, Tokens: []string{edgeToken}, Zones: []edge.Zone{{ID: zoneID}}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, r.edge.Close()) })
	r.pgURL, r.valkeyURL, r.edgeURL = r.pg.URL("app"), r.vk.URL(), r.edge.APIURL()

	if o.schema == "" {
		o.schema = schema
	}
	require.NoError(t, r.pg.Exec(ctx, "postgres", "CREATE DATABASE app"))
	require.NoError(t, r.pg.Exec(ctx, "app", o.schema))
	r.db, err = pgxpool.New(ctx, r.pg.URL("app"))
	require.NoError(t, err)
	t.Cleanup(r.db.Close)
	r.cache = newCacheClient(t, r.vk.Addr())

	if o.catalog == "" {
		o.catalog = catalog
	}
	require.NoError(t, os.Mkdir(filepath.Join(r.dir, "rules"), 0o755))
	r.write("rules/catalog.yaml", o.catalog)
	r.write("token", edgeToken+"\n")
	return r
}

func newCacheClient(t *testing.T, addr string) valkey.Client {
	c, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{addr}, DisableCache: true, ForceSingleClient: true})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// tagged is an origin whose pages carry the tag that their path names.
func tagged(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Cache-Tag", strings.TrimPrefix(req.URL.Path, "/"))
	fmt.Fprintln(w, "page", req.URL.Path)
}

func (r *rig) write(name, text string) {
	mode := fs.FileMode(0o644)
	if strings.Contains(name, "token") || strings.Contains(name, "password") {
		mode = 0o600
	}
	require.NoError(r.t, os.WriteFile(filepath.Join(r.dir, name), []byte(text), mode))
}

// wakeCache lets Valkey run again that was stopped, and stores keys. The daemon was killed meanwhile, and what it
// had sent is carried out first: an answer comes after everything that had arrived when the server woke.
func (r *rig) wakeCache(keys ...string) {
	r.t.Helper()
	require.NoError(r.t, syscall.Kill(r.vk.PID(), syscall.SIGCONT))
	r.held(keys...)
	r.fill(keys)
	require.Equal(r.t, keys, r.held(keys...))
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

// config writes walpurge.yaml with both sinks and returns its path.
func (r *rig) config(listen string) string {
	r.write("walpurge.yaml", fmt.Sprintf(`pipeline: app
rules: [rules/*.yaml]
data_dir: %s
postgres:
  url: %q%s
sinks:
  cache:
    valkey: {url: %q}
%s
  edge:
    cloudflare: {zone_id: %s, api_token_file: %s, plan: enterprise, base_url: %q, limits: {requests_per_second: 1000, burst: 1000, api_requests: 1000000}}
    after: [cache]
    flush: {everything: true}
%s
http: {listen: %q}
%s
`, r.path("data"), r.pgURL, r.pgExtra, r.valkeyURL, r.sinkExtra, zoneID, r.path("token"), r.edgeURL, r.edgeExtra, listen, r.extra))
	return r.path("walpurge.yaml")
}

// exec runs SQL in the application's database.
func (r *rig) exec(sql string, args ...any) {
	r.t.Helper()
	_, err := r.db.Exec(r.t.Context(), sql, args...)
	require.NoError(r.t, err)
}

// fill puts keys into Valkey and pages into the edge.
func (r *rig) fill(keys []string, pages ...string) {
	r.t.Helper()
	sets := make([]valkey.Completed, len(keys))
	for i, k := range keys {
		// Retryable: after a restart of the server the client may hold a connection that is gone.
		sets[i] = r.cache.B().Set().Key(k).Value("v").Build().ToRetryable()
	}
	for _, reply := range r.cache.DoMulti(r.t.Context(), sets...) {
		require.NoError(r.t, reply.Error())
	}
	for _, p := range pages {
		resp, err := http.Get(r.edge.URL() + p)
		require.NoError(r.t, err)
		resp.Body.Close()
		require.True(r.t, r.edge.Stored(r.edge.URL()+p), "the edge stores %s", p)
	}
}

// TestFillOnABrokenConnection: the connection of the test's own client ends as the client
// sends a command, as after a restart of Valkey that the client has not noticed yet.
func TestFillOnABrokenConnection(t *testing.T) {
	t.Parallel()
	vk, err := harness.StartValkey(t.Context(), harness.ValkeyConfig{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, vk.Close()) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	var broken atomic.Bool
	pass := func(in, out net.Conn) {
		defer in.Close()
		defer out.Close()
		go func() { _, _ = io.Copy(in, out) }()
		buf := make([]byte, 64<<10)
		for {
			n, err := in.Read(buf)
			if err != nil || bytes.Contains(buf[:n], []byte("\r\nSET\r\n")) && broken.CompareAndSwap(false, true) {
				return
			}
			if _, err := out.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", vk.Addr())
			if err != nil {
				in.Close()
				continue
			}
			go pass(in, out)
		}
	}()
	r := &rig{t: t, cache: newCacheClient(t, l.Addr().String())}
	r.fill([]string{"a", "b"})
	require.True(t, broken.Load())
	require.Equal(t, []string{"a", "b"}, r.held("a", "b"))
}

// held returns which of the keys Valkey holds.
func (r *rig) held(keys ...string) []string {
	r.t.Helper()
	asks := make([]valkey.Completed, len(keys))
	for i, k := range keys {
		asks[i] = r.cache.B().Exists().Key(k).Build().ToRetryable()
	}
	var out []string
	for i, reply := range r.cache.DoMulti(r.t.Context(), asks...) {
		n, err := reply.AsInt64()
		require.NoError(r.t, err)
		if n > 0 {
			out = append(out, keys[i])
		}
	}
	return out
}

// lsn returns the end of the server's log.
func (r *rig) lsn() string {
	r.t.Helper()
	var s string
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT pg_current_wal_insert_lsn()::text").Scan(&s))
	return s
}

// hang is how long what ends on a quiet machine in a second may take on one that is busy with
// something else. Past it, it hangs.
const hang = 2 * time.Minute

// eventually polls a condition that no event tells of, and gives up when it hangs. A condition asks
// a server, which takes milliseconds of a core: it is not polled more often than that is worth.
func eventually(t *testing.T, within time.Duration, cond func() bool, msg string, args ...any) {
	t.Helper()
	require.Eventually(t, cond, max(within, hang), 20*time.Millisecond, append([]any{msg}, args...)...)
}
