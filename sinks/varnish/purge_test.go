package varnish

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
)

func batchOf(k invalidation.Kind, vv ...string) (out []invalidation.Invalidation) {
	for _, v := range vv {
		out = append(out, invalidation.Invalidation{Kind: k, Value: v})
	}
	return out
}

var quiet = slog.New(slog.DiscardHandler)

func purges(t *testing.T, v *instance) {
	cfg := withNodes(v.addr)
	cfg.Bans = true
	s := openSink(t, cfg, quiet)
	ctx := t.Context()
	gone := func(t *testing.T, host string, want int, paths ...string) {
		t.Helper()
		for _, p := range paths {
			require.Equal(t, want, v.state(t, host, p), p)
		}
	}
	require.NoError(t, s.Check(ctx))

	t.Run("url", func(t *testing.T) {
		kept := []string{"/p/a?x=2", "/p/", "/p/a/", "/P/a", "/p/%41"}
		named := []string{"/p/a", "/p/a?x=1", "/", "//p//a", "/p/a%20b?q=%2F&r", "/p?", "/p;v=1", "/p/[x]"}
		v.fill(t, shop, append(kept, named...)...)
		v.fill(t, "other.example", "/p/a")
		var urls []string
		for i, p := range named {
			urls = append(urls, []string{"https://", "http://"}[i%2]+"Shop.example"+p)
		}
		require.NoError(t, s.Purge(ctx, batchOf(invalidation.URL, urls...)))
		gone(t, shop, absent, named...)
		gone(t, shop, fresh, kept...)
		gone(t, "other.example", fresh, "/p/a")
		v.fill(t, shop, "/")
		require.NoError(t, s.Purge(ctx, batchOf(invalidation.URL, "https://shop.example")))
		gone(t, shop, absent, "/")
	})
	t.Run("url prefix", func(t *testing.T) {
		v.fill(t, shop, "/m/7/", "/m/7/x?y=1", "/m/8/", "/m/77/", "/x/m/7/", "/m.7/", "/n/+(a)*/", "/n/a/", "/n/aa/")
		v.fill(t, "other.example", "/m/7/")
		require.NoError(t, s.Purge(ctx, batchOf(invalidation.URLPrefix, "Shop.example/m/7/", "shop.example/n/+(a)*/", "shop.example/.*/", "shop.example/m/7/|^/", "none.example/")))
		gone(t, shop, absent, "/m/7/", "/m/7/x?y=1", "/n/+(a)*/")
		gone(t, shop, fresh, "/m/8/", "/m/77/", "/x/m/7/", "/m.7/", "/n/a/", "/n/aa/")
		gone(t, "other.example", fresh, "/m/7/")
	})
	t.Run("many prefixes", func(t *testing.T) {
		var prefixes, paths []string
		for i := range 100 {
			paths = append(paths, "/"+strings.Repeat("x", 100)+strings.Repeat("y", i)+"/")
			prefixes = append(prefixes, shop+paths[i])
		}
		v.fill(t, shop, paths[0], paths[99], "/x")
		require.NoError(t, s.Purge(ctx, batchOf(invalidation.URLPrefix, prefixes...)))
		gone(t, shop, absent, paths[0], paths[99])
		gone(t, shop, fresh, "/x")
	})
	t.Run("long tags go in several requests", func(t *testing.T) {
		var tags, paths []string
		for i := range 100 {
			tags = append(tags, strings.Repeat("t", 150)+strings.Repeat("u", i))
			paths = append(paths, pathOf(tags[i]))
		}
		v.fill(t, shop, paths...)
		require.NoError(t, s.Purge(ctx, batchOf(invalidation.Tag, tags...)))
		gone(t, shop, absent, paths...)
	})
	t.Run("hits", func(t *testing.T) {
		hits := map[string][2]int{}
		counting := cfg
		counting.Hits = func(rule string, existed, absent int) { hits[rule] = [2]int{existed, absent} }
		s := openSink(t, counting, quiet)
		v.fill(t, shop, pathOf("there"), pathOf("there"), pathOf("too"))
		tag := func(rule, value string) invalidation.Invalidation {
			return invalidation.Invalidation{Kind: invalidation.Tag, Value: value, Rule: rule}
		}
		require.NoError(t, s.Purge(ctx, []invalidation.Invalidation{tag("a", "there"), tag("a", "away"), tag("a", "away2"), tag("a", "too"), tag("b", "x"), {Kind: invalidation.URL, Value: "https://shop.example/p", Rule: "c"}, tag("", "manual")}))
		require.Equal(t, map[string][2]int{"a": {2, 2}, "b": {1, 0}}, hits, "b is credited with what may have been its own")
		// Until a thread of Varnish has removed what was purged, xkey counts it again.
		require.Eventually(t, func() bool {
			clear(hits)
			err := s.Purge(ctx, []invalidation.Invalidation{tag("a", "there"), tag("b", "x")})
			return err == nil && maps.Equal(hits, map[string][2]int{"a": {0, 1}, "b": {0, 1}})
		}, 30*time.Second, 10*time.Millisecond)
		clear(hits)
		require.NoError(t, s.Purge(ctx, []invalidation.Invalidation{tag("a", "there"), {Kind: invalidation.Everything}}))
		require.Empty(t, hits)
	})
	t.Run("everything", func(t *testing.T) {
		v.fill(t, shop, "/a", "/b?c")
		v.fill(t, "other.example", "/a")
		require.NoError(t, s.Purge(ctx, append(batchOf(invalidation.Tag, "a"), invalidation.Invalidation{Kind: invalidation.Everything})))
		gone(t, shop, absent, "/a", "/b?c")
		gone(t, "other.example", absent, "/a")
	})
	t.Run("soft", func(t *testing.T) {
		soft := cfg
		soft.Soft = true
		s := openSink(t, soft, quiet)
		v.fill(t, shop, pathOf("one"), "/two", "/three")
		require.NoError(t, s.Purge(ctx, append(batchOf(invalidation.Tag, "one"), batchOf(invalidation.URL, "https://shop.example/two", "https://shop.example/none")...)))
		gone(t, shop, stale, pathOf("one"), "/two")
		gone(t, shop, fresh, "/three")
	})
}

// What the VCL hashes beside host and path is addressed by headers: of the scheme by itself, of the sink,
// and of a rule.
func variants(t *testing.T, v *instance) {
	ctx := t.Context()
	pages := map[string][]string{
		"plain":          nil,
		"https":          {"X-Forwarded-Proto", "https"},
		"http":           {"X-Forwarded-Proto", "http"},
		"mobile":         {"X-Forwarded-Proto", "https", "X-Device", "mobile"},
		"desktop":        {"X-Forwarded-Proto", "https", "X-Device", "desktop"},
		"mobile, de":     {"X-Forwarded-Proto", "https", "X-Device", "mobile", "Accept-Language", "de"},
		"desktop, de":    {"X-Forwarded-Proto", "https", "X-Device", "desktop", "Accept-Language", "de"},
		"mobile, pt-BR":  {"X-Forwarded-Proto", "https", "X-Device", "mobile", "Accept-Language", "pt-BR, pt;q=0.5"},
		"tablet":         {"X-Forwarded-Proto", "https", "X-Device", "tablet"},
		"desktop, plain": {"X-Device", "desktop"},
	}
	const host = "variants.example"
	devices := urlvariant.Headers{"X-Device": {"mobile", "desktop"}}
	for _, c := range []struct {
		name    string
		headers urlvariant.Headers
		url     string
		soft    bool
		gone    []string
	}{
		{"https of itself", nil, "https://variants.example/a", false, []string{"https"}},
		{"http of itself", nil, "http://variants.example/a", false, []string{"plain"}},
		{"soft", nil, "https://variants.example/a", true, []string{"https"}},
		{"both schemes", urlvariant.Headers{"x-forwarded-proto": {"https", "http", ""}}, "https://variants.example/a", false, []string{"plain", "https", "http"}},
		{"of the sink", devices, "https://variants.example/a", false, []string{"mobile", "desktop"}},
		{"of the sink, soft", devices, "https://variants.example/a", true, []string{"mobile", "desktop"}},
		{"of the sink, with none", urlvariant.Headers{"X-Device": {"mobile", ""}}, "https://variants.example/a", false, []string{"https", "mobile"}},
		{"of two lists", urlvariant.Headers{"X-Device": {"mobile", "desktop"}, "Accept-Language": {"de", ""}}, "https://variants.example/a", false,
			[]string{"mobile", "desktop", "mobile, de", "desktop, de"}},
		{"of a rule", nil, "https://variants.example/a Accept-Language=pt-BR%2C+pt%3Bq%3D0.5&X-Device=mobile", false, []string{"mobile, pt-BR"}},
		{"of a rule, in place of the sink's", devices, "https://variants.example/a x-device=tablet", false, []string{"tablet"}},
		{"of a rule, with the sink's", devices, "https://variants.example/a Accept-Language=de", false, []string{"mobile, de", "desktop, de"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, headers := range pages {
				require.Equal(t, fresh, v.get(t, ctx, host, "/a", false, headers...))
			}
			cfg := withNodes(v.addr)
			cfg.Headers, cfg.Soft = c.headers, c.soft
			s := openSink(t, cfg, quiet)
			require.NoError(t, s.Purge(ctx, batchOf(invalidation.URL, c.url)))
			want := absent
			if c.soft {
				want = stale
			}
			for name, headers := range pages {
				state := fresh
				if slices.Contains(c.gone, name) {
					state = want
				}
				require.Equal(t, state, v.get(t, ctx, host, "/a", true, headers...), name)
			}
			require.NoError(t, s.Probe(ctx))
		})
	}
}

// Each kind of purge is proven at every node, and the pages for it are gone afterwards.
func probes(t *testing.T, a, b *instance) {
	stored := &recorder{}
	for _, soft := range []bool{false, true} {
		cfg := withNodes(a.addr, b.addr)
		cfg.Bans, cfg.Soft = true, soft
		s := openSink(t, cfg, quiet)
		stored.next, s.HTTP.Transport = s.HTTP.Transport, stored
		require.NoError(t, s.Probe(t.Context()))
	}
	require.Len(t, stored.pages, 2*2*5, "a control, two by tag, one by URL, one by prefix, at two nodes")
	for _, p := range stored.pages {
		for _, v := range []*instance{a, b} {
			if v.addr == p.Host {
				require.Equal(t, absent, v.state(t, p.Host, p.Path))
			}
		}
	}
	cfg := withNodes(a.addr, "127.0.0.1:1")
	require.ErrorContains(t, openSink(t, cfg, quiet).Probe(t.Context()), "probe of 127.0.0.1:1: no answer")
}

// recorder keeps the addresses of the pages that are stored.
type recorder struct {
	next  http.RoundTripper
	mu    sync.Mutex
	pages []*url.URL
}

func (r *recorder) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Header.Get(probeTags) != "" {
		r.mu.Lock()
		r.pages = append(r.pages, req.URL)
		r.mu.Unlock()
	}
	return r.next.RoundTrip(req)
}

// Without a VCL for it, Varnish hands a purge to the application, which is
// happy with it.
func TestAnApplicationsAnswerIsNotBelieved(t *testing.T) {
	v := startVarnish(t, "vcl 4.1;\nbackend default { .host = \"127.0.0.1\"; .port = \"8080\"; }\n")
	s := openSink(t, withNodes(v.addr), quiet)
	for _, err := range []error{s.Check(t.Context()), s.Purge(t.Context(), batchOf(invalidation.URL, "https://shop.example/a"))} {
		require.ErrorContains(t, err, "HTTP 200: without the header that `confirm` names")
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Lane, class)
	}
}

// No text turns a ban into another one: it is cut at white space only.
func TestBansAreOneCondition(t *testing.T) {
	cfg := withNodes("a")
	cfg.Bans = true
	text := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 30), func(b []byte) string { return string(b) })
	rapid.Check(t, func(rt *rapid.T) {
		path := text.Draw(rt, "path")
		if rapid.Bool().Draw(rt, "an operator") {
			path = rapid.SampledFrom([]string{"x && obj.status ~ .", "x\t&&\treq.url ~ .", "\" && obj.status != 0 && \"", "x\n~ ."}).Draw(rt, "hostile") + path
		}
		requests, failed := cfg.requests(batchOf(invalidation.URLPrefix, "shop.example/"+path))
		require.Equal(rt, 1, len(requests)+len(failed))
		for _, r := range requests {
			words := strings.Fields(r.header.Get(banHeader))
			require.Len(rt, words, 7)
			require.Equal(rt, []string{"obj.http.Walpurge-Host", "==", "shop.example", "&&", "obj.http.Walpurge-Url", "~"}, words[:6])
		}
	})
}

func TestWhatCannotBeSent(t *testing.T) {
	v := startProxy(t, "127.0.0.1:1")
	s := openSink(t, withNodes(v.addr), quiet)
	long := "https://shop.example/" + strings.Repeat("x", 4000)
	for says, batch := range map[string][]invalidation.Invalidation{
		"bans: true":          append(batchOf(invalidation.URLPrefix, "shop.example/a/"), invalidation.Invalidation{Kind: invalidation.Everything}),
		"cannot purge by key": batchOf(invalidation.Key, "a"),
		"not a valid URL":     batchOf(invalidation.URL, "shop.example/a", "ftp://shop.example/", "https:///a", "https://u:p@shop.example/", "https://shop.example:x/", "mailto:a"),
		"no browser":          batchOf(invalidation.URL, "https://shop.example/#a", "https://shop.example/%zz", `https://shop.example/"`, "https://shop.example/a#"),
		"a space":             batchOf(invalidation.URL, "https://shop.example/ü", "https://shop.example/\r\nX:y"),
		"no list of headers": batchOf(invalidation.URL, "https://shop.example/a b", "https://shop.example/a b&c=d", "https://shop.example/a ", "https://shop.example/a Host=b",
			"https://shop.example/a b=c d", "https://shop.example/a b=%0D%0A", "https://shop.example/a =b", "https://shop.example/a a=1&a=2"),
		"something else in purges": batchOf(invalidation.URL, "https://shop.example/a XKEY=all", "https://shop.example/a Soft-Purge=1"),
		"4000 fit":                 batchOf(invalidation.URL, long),
		"a comma, a control":       batchOf(invalidation.Tag, "a b", "a,b", "a\tb", "\x7f", "ü"),
		"an empty tag":             batchOf(invalidation.Tag, ""),
		"101 invalidations":        batchOf(invalidation.Tag, make([]string, 101)...),
	} {
		err := s.Purge(t.Context(), batch)
		var be *sinks.BatchError
		if errors.As(err, &be) {
			require.Len(t, be.Failed, len(batch), says)
			for i, ferr := range be.Failed {
				class, _ := sinks.ClassOf(ferr)
				require.Equal(t, sinks.Item, class)
				if says != "no browser" {
					require.ErrorContains(t, ferr, says, i)
				}
			}
			continue
		}
		require.ErrorContains(t, err, says)
	}
	require.Zero(t, v.count())
}

// The nodes that answer are purged whatever the others do, and are not asked
// again and again meanwhile; but the next change is another matter.
func deadNode(t *testing.T, v *instance) {
	good, bad := startProxy(t, v.addr), startProxy(t, v.addr)
	s := openSink(t, withNodes(good.addr, bad.addr), quiet)
	ctx := t.Context()
	page := pathOf("a")
	bad.set(func(net.Conn, *http.Request) {})

	v.fill(t, shop, page)
	for range 3 {
		err := s.Purge(ctx, batchOf(invalidation.Tag, "a"))
		require.ErrorContains(t, err, "1 of 2 nodes did not purge: "+bad.addr+": no answer")
		require.NotContains(t, err.Error(), good.addr)
	}
	require.Equal(t, absent, v.state(t, shop, page))
	require.Equal(t, 1, good.count(), "it has answered")
	require.GreaterOrEqual(t, bad.count(), 3)

	require.Error(t, s.Purge(ctx, batchOf(invalidation.Tag, "b")))
	require.Equal(t, 1, good.count(), "another batch is purged")

	bad.set(nil)
	bad.count()
	require.NoError(t, s.Purge(ctx, batchOf(invalidation.Tag, "a")))
	require.Equal(t, 0, good.count())
	require.Equal(t, 1, bad.count())
	require.NoError(t, s.Purge(ctx, batchOf(invalidation.Tag, "a")))
	require.Equal(t, 1, good.count(), "an equal batch after a success is another change")

	// What the lane gives up it does not repeat, so an equal batch is another one.
	bad.set(refuses("400 Bad Request"))
	for range 2 {
		class, _ := sinks.ClassOf(s.Purge(ctx, batchOf(invalidation.Tag, "c")))
		require.Equal(t, sinks.Item, class)
	}
	require.Equal(t, 2, good.count())

	bad.set(silent)
	for range 2 {
		over, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // short: expires on purpose
		require.ErrorIs(t, s.Purge(over, batchOf(invalidation.Tag, "d")), context.DeadlineExceeded)
		cancel()
	}
	require.Equal(t, 2, good.count(), "a call that was stopped has no repetition")
}

// One node may yet answer otherwise, so another's refusal gives nothing up.
func TestTheWorstCuredErrorStandsForAll(t *testing.T) {
	item, lane, dead := sinks.ItemError(errors.New("item")), sinks.LaneError(errors.New("lane")), errors.New("dead")
	for _, c := range []struct {
		errs []error
		want sinks.Class
	}{
		{[]error{item, item}, sinks.Item}, {[]error{item, dead}, sinks.Transient}, {[]error{item, lane, dead}, sinks.Lane}, {[]error{dead}, sinks.Transient},
	} {
		var all []failure
		for _, err := range c.errs {
			all = append(all, failure{"n", err})
		}
		class, _ := sinks.ClassOf(joined(all, 9))
		require.Equal(t, c.want, class)
	}
	require.NoError(t, joined(nil, 9))
	require.ErrorContains(t, joined([]failure{{"a", dead}, {"b", dead}, {"c", dead}, {"d", dead}}, 4), "4 of 4 nodes did not purge: a: dead; b: dead; c: dead; and 1 more")
}

// What was an address of the name yesterday may be another server's today.
func names(t *testing.T, v *instance) {
	_, port, err := net.SplitHostPort(v.addr)
	require.NoError(t, err)
	var found []netip.Addr
	var fault error
	cfg := DefaultConfig()
	cfg.Nodes = []string{"dns+http://varnish:" + port}
	s, err := newSink(cfg, func(_ context.Context, name string) ([]netip.Addr, error) {
		require.Equal(t, "varnish", name)
		return found, fault
	}, quiet)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	ctx := t.Context()

	require.ErrorContains(t, s.Purge(ctx, batchOf(invalidation.Tag, "a")), "the name has no address")
	fault = errors.New("no such host")
	require.ErrorContains(t, s.Purge(ctx, batchOf(invalidation.Tag, "a")), "no such host")
	fault = nil
	found = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::ffff:127.0.0.1")}
	v.fill(t, shop, pathOf("a"))
	require.NoError(t, s.Purge(ctx, batchOf(invalidation.Tag, "a")))
	require.Equal(t, absent, v.state(t, shop, pathOf("a")))
	found = append(found, netip.MustParseAddr("::1"))
	require.ErrorContains(t, s.Purge(ctx, batchOf(invalidation.Tag, "a")), "1 of 2 nodes did not purge: [::1]:"+port)
}
