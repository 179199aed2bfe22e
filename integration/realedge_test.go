package integration

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// site is an application with cache-aside in Valkey, behind a Varnish, both
// real, and clients that read it all the time.
type site struct {
	*rig
	judge   *oracle
	varnish *harness.Varnish
	client  *http.Client

	// late keeps fills and commits apart: no fill is under way while a change is
	// committed. It stands for what keeps late fills out in life, which no purge
	// can, and leaves the order of purges as the only thing that can go wrong.
	late sync.RWMutex
	// hits counts answers of the edge's own.
	hits atomic.Int64
	bad  atomic.Pointer[error]
}

const siteProducts = 30

func newSite(t *testing.T) *site {
	s := &site{rig: newRig(t, rigOptions{}), client: &http.Client{Timeout: 20 * time.Second}}
	t.Cleanup(s.client.CloseIdleConnections)
	s.judge = &oracle{t: t, db: s.db, cache: make(map[int64][]purgeRecord), edge: make(map[int64][]purgeRecord)}
	app := httptest.NewServer(http.HandlerFunc(s.page))
	t.Cleanup(app.Close)
	vcl, err := harness.DocumentedVCL("../docs/sinks/varnish.md")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.varnish, err = harness.StartVarnish(ctx, harness.VarnishConfig{Dir: s.path("varnish"), VCL: vcl, Backend: app.Listener.Addr().String()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.varnish.Close()) })

	inner := newProxy(t, s.vk.Addr())
	inner.hooks(s.judge.beforeCache, func(token any) { s.judge.record(s.judge.cache, token.(map[int64]purgeRecord)) })
	outer := httptest.NewServer(s.tap())
	t.Cleanup(outer.Close)
	s.write("walpurge.yaml", fmt.Sprintf(`pipeline: app
rules: [rules/*.yaml]
data_dir: %s
# What is purged is known at the next heartbeat, when nothing else is written.
postgres: {url: %q, heartbeat: 300ms}
sinks:
  cache:
    valkey: {url: %q}
  edge:
    varnish: {nodes: [%q], bans: true}
    after: [cache]
    flush: {everything: true}
http: {listen: "127.0.0.1:0"}
`, s.path("data"), s.pg.URL("app"), inner.url(), outer.URL))
	s.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, $1) n", siteProducts)
	return s
}

// page is the application: /7 shows the version of product 7.
func (s *site) page(w http.ResponseWriter, r *http.Request) {
	id := strings.TrimPrefix(r.URL.Path, "/")
	key := "product:" + id
	ver, err := s.cache.Do(r.Context(), s.cache.B().Get().Key(key).Build()).ToString()
	if err != nil {
		if err := s.db.QueryRow(r.Context(), "SELECT ver::text FROM products WHERE id = $1::text::bigint", id).Scan(&ver); err != nil {
			http.NotFound(w, r)
			return
		}
		_ = s.cache.Do(r.Context(), s.cache.B().Set().Key(key).Value(ver).Build()).Error()
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Xkey", "product-"+id)
	_, _ = io.WriteString(w, ver)
}

// tap passes purges on to Varnish and records those by tag that it carried out.
func (s *site) tap() http.Handler {
	forward := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: s.varnish.Addr()})
	forward.ModifyResponse = func(resp *http.Response) error {
		if seen, ok := resp.Request.Context().Value(tapped{}).(map[int64]purgeRecord); ok && resp.StatusCode == http.StatusOK {
			s.judge.record(s.judge.edge, seen)
		}
		return nil
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := s.judge.look(strings.Fields(r.Header.Get("Xkey")), "product-")
		forward.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), tapped{}, seen)))
	})
}

type tapped struct{}

// visit asks the edge for a product's version, as a visitor does.
func (s *site) visit(ctx context.Context, id int) (string, error) {
	s.late.RLock()
	defer s.late.RUnlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%d", s.varnish.Addr(), id), nil)
	if err != nil {
		return "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("product %d: HTTP %d", id, resp.StatusCode)
	}
	// Varnish names the request that filled an object, too.
	if strings.Contains(resp.Header.Get("X-Varnish"), " ") {
		s.hits.Add(1)
	}
	return string(body), err
}

// visitors read products at random until the function returned is called.
func (s *site) visitors(n int) (stop func()) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() {
			for ctx.Err() == nil {
				if _, err := s.visit(ctx, 1+rand.IntN(siteProducts)); err != nil && ctx.Err() == nil {
					s.bad.Store(&err)
				}
				time.Sleep(5 * time.Millisecond) // or the machine does nothing else
			}
		})
	}
	stop = func() { cancel(); wg.Wait() }
	s.t.Cleanup(stop)
	return stop
}

// change raises versions, one transaction each.
func (s *site) change(times int) {
	s.t.Helper()
	for range times {
		id := 1 + rand.IntN(siteProducts)
		s.late.Lock()
		s.exec(`WITH p AS (UPDATE products SET ver = ver + 1 WHERE id = $1::bigint RETURNING id, ver)
			INSERT INTO versions SELECT id, ver FROM p ON CONFLICT (id) DO UPDATE SET ver = excluded.ver`, id)
		s.late.Unlock()
		time.Sleep(2 * time.Millisecond)
	}
}

// sweep has every page read once, and returns those that do not show what the
// database holds.
func (s *site) sweep() (stale []string) {
	t := s.t
	t.Helper()
	for id := 1; id <= siteProducts; id++ {
		shown, err := s.visit(t.Context(), id)
		require.NoError(t, err)
		var ver int64
		require.NoError(t, s.db.QueryRow(t.Context(), "SELECT ver FROM products WHERE id = $1", id).Scan(&ver))
		if shown != strconv.FormatInt(ver, 10) {
			stale = append(stale, fmt.Sprintf("product %d: version %d is shown as %s", id, ver, shown))
		}
	}
	return stale
}

// TestRealEdge has a whole site under load while rows change, twice, each time
// with a moment in which the inner cache is not purged. An edge that waits for it
// shows nothing stale once all is quiet; one that does not is refilled from the
// old entries, and shows them for as long as they live.
func TestRealEdge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	o := s.call("check")
	require.Zero(t, o.code, "%s%s", o.stdout, o.stderr)
	require.Contains(t, o.stdout, "note: sink edge: not proven: that the VCL of each node purges")
	o = s.call("check", "--probe")
	require.Zero(t, o.code, "%s%s", o.stdout, o.stderr)
	require.Contains(t, o.stdout, "note: sink edge: proven with entries of its own: that the VCL of each node purges")
	for _, c := range []struct {
		name    string
		ordered bool
	}{{"after the cache", true}, {"control: without waiting", false}} {
		if !c.ordered {
			s.edit("walpurge.yaml", "    after: [cache]\n", "")
		}
		d := s.spawnSite()
		d.wait(s.lsn(), 30*time.Second)
		stop := s.visitors(4)
		s.change(60)
		d.wait(s.lsn(), 30*time.Second)

		code, body := d.post("/api/v1/pause", `{"sink": "cache"}`)
		require.Equal(t, http.StatusOK, code, body)
		s.change(30)
		if c.ordered {
			eventually(t, 20*time.Second, func() bool { return d.sink("edge").State == "gated" }, "the edge waits")
		} else {
			require.Zero(t, d.run("wait", s.lsn(), "--sink", "edge", "--timeout", "20s").code, "the edge is purged")
		}
		s.sweep()
		code, body = d.post("/api/v1/resume", `{"sink": "cache"}`)
		require.Equal(t, http.StatusOK, code, body)
		s.change(10)
		d.wait(s.lsn(), 30*time.Second)

		// Quiet: nothing is written, the visitors go on.
		stale, lost := s.sweep(), s.judge.lost()
		for range 3 {
			if c.ordered {
				time.Sleep(200 * time.Millisecond)
				stale = append(stale, s.sweep()...)
			}
		}
		stop()
		if bad := s.bad.Load(); bad != nil {
			require.NoError(t, *bad)
		}
		if c.ordered {
			require.Empty(t, stale, c.name)
			require.Empty(t, lost, "the edge's purge of a change begins after the cache's is done")
			require.Greater(t, s.hits.Load(), int64(100), "the edge serves from its store")
		} else {
			require.NotEmpty(t, stale, "the test would not see a wrong order")
			require.NotEmpty(t, lost, "nor would the purges' times show it")
		}
		d.kill()
	}
}

// spawnSite starts the daemon on the site's file, which has no place for an
// address yet.
func (s *site) spawnSite() *daemon {
	addr := freeAddr(s.t)
	text := s.read("walpurge.yaml")
	_, old, _ := strings.Cut(text, "http: {listen: ")
	s.edit("walpurge.yaml", "http: {listen: "+old, fmt.Sprintf("http: {listen: %q}\n", addr))
	d := s.spawn(addr, s.path("walpurge.yaml"), nil)
	d.untilStreaming()
	return d
}
