package integration

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// warmRules purge pages by URL, and by tag what other rows show of them.
const warmRules = `rules:
  - name: product
    table: public.products
    urls: ["http://shop.example/{slug}"]
    on_truncate: {tags: [all]}
  - name: category
    table: public.categories
    tags: ["category-{id}"]
    on_truncate: {tags: [all]}
`

// warmSite is an application behind a real Varnish, whose responses can be held back.
type warmSite struct {
	*rig
	varnish *harness.Varnish

	mu sync.Mutex
	// warmed are the paths of requests with Walpurge-Warm, in order.
	warmed []string
	// hold, where it is set, is told that a response was made, and keeps it until it is closed.
	hold map[string]chan chan struct{}
}

func (s *warmSite) page(w http.ResponseWriter, r *http.Request) {
	slug := strings.TrimPrefix(r.URL.Path, "/")
	var text string
	err := s.db.QueryRow(r.Context(), `SELECT p.name || ' in ' || c.name FROM products p, categories c WHERE p.slug = $1 AND c.id = 1`, slug).Scan(&text)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	s.mu.Lock()
	hold := s.hold[slug]
	delete(s.hold, slug)
	if r.Header.Get("Walpurge-Warm") != "" {
		s.warmed = append(s.warmed, r.Header.Get("Walpurge-Warm")+" "+r.Host+r.URL.Path)
	}
	s.mu.Unlock()
	if hold != nil {
		release := make(chan struct{})
		hold <- release
		<-release
	}
	w.Header().Set("Cache-Control", "public, max-age=3600")
	w.Header().Set("Xkey", "all category-1")
	_, _ = io.WriteString(w, text)
}

// holds has the next response for a page held back, and returns where it says that it was made.
func (s *warmSite) holds(slug string) chan chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hold[slug] = make(chan chan struct{}, 1)
	return s.hold[slug]
}

func (s *warmSite) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.warmed...)
}

// visit returns what a visitor sees, and whether the edge had it.
func (s *warmSite) visit(slug string) (text string, hit bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://%s/%s", s.varnish.Addr(), slug), nil)
	require.NoError(s.t, err)
	req.Host = "shop.example"
	resp, err := http.DefaultClient.Do(req)
	require.NoError(s.t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(s.t, err)
	return string(body), strings.Contains(resp.Header.Get("X-Varnish"), " ")
}

// TestWarm has pages fetched through a real Varnish once they were purged there, also those that change, or that something
// on them changes, while they are fetched.
func TestWarm(t *testing.T) {
	t.Parallel()
	s := &warmSite{rig: newRig(t, rigOptions{catalog: warmRules}), hold: map[string]chan chan struct{}{}}
	app := httptest.NewServer(http.HandlerFunc(s.page))
	t.Cleanup(app.Close)
	vcl, err := harness.DocumentedVCL("../docs/sinks/varnish.md")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	s.varnish, err = harness.StartVarnish(ctx, harness.VarnishConfig{Dir: s.path("varnish"), VCL: vcl, Backend: app.Listener.Addr().String()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.varnish.Close()) })
	s.exec("INSERT INTO categories VALUES (1, 'soup')")
	s.exec("INSERT INTO products (id, slug, name) VALUES (1, 'a', 'old'), (2, 'b', 'old'), (3, 'c', 'old')")
	d := s.launchFile(fmt.Sprintf(`pipeline: app
rules: [rules/*.yaml]
data_dir: %s
postgres: {url: %q, heartbeat: 300ms}
sinks:
  edge:
    varnish: {nodes: ["http://%[3]s"]}
    flush: {tags: [all]}
  hot:
    warm: {base: "http://%[3]s", timeout: 30s}
    after: [edge]
http: {listen: "%[4]s"}
`, s.path("data"), s.pg.URL("app"), s.varnish.Addr(), freeAddr(t)))
	d.untilStreaming()
	waitHot := func() {
		t.Helper()
		code, body := d.get("/api/v1/wait?sink=hot&timeout=30s&lsn=" + s.lsn())
		require.Equal(t, http.StatusOK, code, body)
	}
	shows := func(slug, want string, warm bool) {
		t.Helper()
		text, hit := s.visit(slug)
		require.Equal(t, want, text)
		require.Equal(t, warm, hit, "the edge had it")
	}

	o := s.call("check")
	require.Zero(t, o.code, "%s%s", o.stdout, o.stderr)
	require.NotContains(t, o.stdout, "hot", "nothing to say about the warm sink")
	o = call(t, nil, "rules", "explain", "-c", s.path("walpurge.yaml"), "--change", `{"table": "public.products", "delete": {"id": 1, "slug": "a"}}`)
	require.Zero(t, o.code, "%s%s", o.stdout, o.stderr)
	require.Regexp(t, `(?m)^.*hot.*http://shop\.example/a`, o.stdout)

	shows("a", "old in soup", false)
	s.exec("UPDATE products SET name = 'new' WHERE id = 1")
	waitHot()
	shows("a", "new in soup", true)
	require.Equal(t, []string{"app/hot shop.example/a"}, s.requests())

	// It changes while it is fetched: the response is of before, and the purge comes before it. Nothing but a wait for
	// the sink itself waits for the request.
	made := s.holds("a")
	s.exec("UPDATE products SET name = 'newer' WHERE id = 1")
	release := <-made
	s.exec("UPDATE products SET name = 'newest' WHERE id = 1")
	d.wait(s.lsn(), 20*time.Second)
	require.True(t, d.status().Fresh)
	close(release)
	waitHot()
	shows("a", "newest in soup", true)

	// What is on it changes, which the warm sink does not hear of.
	made = s.holds("b")
	s.exec("UPDATE products SET name = 'new' WHERE id = 2")
	release = <-made
	s.exec("UPDATE categories SET name = 'salad' WHERE id = 1")
	d.wait(s.lsn(), 20*time.Second)
	close(release)
	waitHot()
	shows("b", "new in salad", true)

	// A row that is gone, a TRUNCATE, and a purge of everything are nothing to warm, or nothing to park.
	s.exec("DELETE FROM products WHERE id = 3")
	s.exec("TRUNCATE categories")
	waitHot()
	d.wait(s.lsn(), 20*time.Second)
	s.exec("INSERT INTO categories VALUES (1, 'cake')")

	// The operator's commands.
	st := d.status()
	require.True(t, st.Fresh, st.Summary)
	require.Len(t, st.Sinks, 1)
	require.Len(t, st.Warms, 1)
	require.Equal(t, "ok", st.Warms[0].State)
	require.GreaterOrEqual(t, st.Warms[0].Pages["warmed"], 4.0)
	require.Zero(t, st.Warms[0].Pages["raced"])
	client := func(args ...string) outcome { return call(t, nil, append(args, "--addr", d.addr)...) }
	require.Contains(t, client("status").stdout, "\nhot   ok")
	for _, args := range [][]string{{"purge", "--sink", "hot", "--url", "http://shop.example/a"}, {"purge", "--sink", "hot", "--all", "--yes"}, {"replay", "--sink", "hot", "--since", "1h"}, {"parked", "list", "--sink", "hot"}} {
		o := client(args...)
		require.Equal(t, 2, o.code, "%v: %s", args, o.stderr)
		require.Contains(t, o.stderr, "sink hot warms pages: it purges nothing and parks nothing; there is edge")
	}
	require.Zero(t, client("pause", "--sink", "hot").code)
	s.exec("UPDATE products SET name = 'paused' WHERE id = 2")
	d.wait(s.lsn(), 20*time.Second)
	code, _ := d.get("/api/v1/wait?sink=hot&timeout=100ms&lsn=" + s.lsn())
	require.Equal(t, http.StatusGatewayTimeout, code)
	require.Equal(t, "paused", d.status().Warms[0].State)
	require.True(t, d.status().Fresh)
	require.Zero(t, client("resume", "--sink", "hot").code)
	waitHot()
	shows("b", "paused in cake", true)
	require.Equal(t, "0", d.metric(`walpurge_warm_waiting{sink="hot"}`))

	// A restart begins with what is published from then on, and an edge that is gone harms nothing but the edge's sink.
	d.term()
	s.exec("UPDATE products SET name = 'back' WHERE id = 1")
	d = s.launchFile(s.read("walpurge.yaml"))
	d.untilStreaming()
	waitHot()
	shows("a", "back in cake", true)
	d.term()
}

// TestWarmsWhatTheEdgeHad has only those pages fetched that a real Varnish had when it purged them, with either kind of purge.
func TestWarmsWhatTheEdgeHad(t *testing.T) {
	t.Parallel()
	for _, soft := range []bool{false, true} {
		t.Run(fmt.Sprintf("soft %t", soft), func(t *testing.T) {
			t.Parallel()
			s := &warmSite{rig: newRig(t, rigOptions{catalog: warmRules}), hold: map[string]chan chan struct{}{}}
			app := httptest.NewServer(http.HandlerFunc(s.page))
			t.Cleanup(app.Close)
			vcl, err := harness.DocumentedVCL("../docs/sinks/varnish.md")
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			s.varnish, err = harness.StartVarnish(ctx, harness.VarnishConfig{Dir: s.path("varnish"), VCL: vcl, Backend: app.Listener.Addr().String()})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, s.varnish.Close()) })
			s.exec("INSERT INTO categories VALUES (1, 'soup')")
			s.exec("INSERT INTO products (id, slug, name) VALUES (1, 'a', 'old'), (2, 'b', 'old')")
			d := s.launchFile(fmt.Sprintf(`pipeline: app
rules: [rules/*.yaml]
data_dir: %s
postgres: {url: %q, heartbeat: 300ms}
sinks:
  edge:
    varnish: {nodes: ["http://%[3]s"], soft: %[5]t}
    flush: {tags: [all]}
  hot:
    warm: {base: "http://%[3]s", timeout: 30s, hot: edge}
    after: [edge]
http: {listen: "%[4]s"}
`, s.path("data"), s.pg.URL("app"), s.varnish.Addr(), freeAddr(t), soft))
			d.untilStreaming()
			s.visit("a")
			s.exec("UPDATE products SET name = 'new'")
			code, body := d.get("/api/v1/wait?sink=hot&timeout=30s&lsn=" + s.lsn())
			require.Equal(t, http.StatusOK, code, body)
			require.Equal(t, []string{"app/hot shop.example/a"}, s.requests())
			pages := d.status().Warms[0].Pages
			require.Equal(t, 1.0, pages["warmed"])
			require.Equal(t, 1.0, pages["not_hot"])
			text, hit := s.visit("a")
			require.Equal(t, "new in soup", text)
			require.True(t, hit)
		})
	}
}
