package cloudfront

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func batchOf(k invalidation.Kind, vv ...string) (out []invalidation.Invalidation) {
	for _, v := range vv {
		out = append(out, invalidation.Invalidation{Kind: k, Value: v})
	}
	return out
}

func start(t *testing.T, change func(*Config)) (*api, *Sink) {
	credentials(t, isolate(t), "hunter2hunter2")
	a := startAPI(t, "hunter2hunter2")
	cfg := tagged()
	cfg.BaseURL = a.URL
	if change != nil {
		change(&cfg)
	}
	return a, open(t, cfg, 10*time.Second, slog.New(slog.DiscardHandler))
}

func TestPaths(t *testing.T) {
	a, s := start(t, nil)
	var batch []invalidation.Invalidation
	batch = append(batch, batchOf(invalidation.URL, "https://shop.example/p/a?x=1", "https://shop.example", "http://Shop.de/p/a?x=1", "https://shop.example/%2A~!$&'()+,;=:@")...)
	batch = append(batch, batchOf(invalidation.Tag, "Product-7", "#x", "a*b")...)
	batch = append(batch, batchOf(invalidation.URLPrefix, "shop.example/m/7/", "shop.example/")...)
	require.NoError(t, s.Purge(t.Context(), batch))
	got := a.seen()
	require.Len(t, got, 2)
	require.Equal(t, []string{"/p/a?x=1", "/", "/%2A%7E!$&'()+,;=:@", "#Product-7", "##x", "#a*b"}, got[0].Paths.Items.Path)
	require.Equal(t, []string{"/m/7/*", "/*"}, got[1].Paths.Items.Path)

	require.NoError(t, s.Purge(t.Context(), append(batch, invalidation.Invalidation{Kind: invalidation.Everything})))
	got = a.seen()
	require.Len(t, got, 1, "everything is one path")
	require.Equal(t, []string{"/*"}, got[0].Paths.Items.Path)
	require.NoError(t, s.Check(t.Context()))
	require.Equal(t, []string{"/walpurge-check"}, a.seen()[0].Paths.Items.Path)
	require.EqualValues(t, 6+2+1+1, s.Paths(), "what is billed")
	a.set(func(w http.ResponseWriter, _ *http.Request) { refuse(w, 503, "ServiceUnavailable", "later") })
	require.Error(t, s.Check(t.Context()))
	require.EqualValues(t, 10, s.Paths(), "what is refused is not")
}

// A path ends where its value ends: only a prefix has a wildcard, one, and at its end.
func TestNoValueBecomesAWildcard(t *testing.T) {
	cfg := tagged()
	value := rapid.StringOfN(rapid.RuneFrom([]rune("a*#/?%2A .:é\x00")), 0, 20, -1)
	rapid.Check(t, func(rt *rapid.T) {
		v := value.Draw(rt, "value")
		for _, inv := range []invalidation.Invalidation{{Kind: invalidation.URL, Value: "https://a/" + v}, {Kind: invalidation.URLPrefix, Value: "a/" + v}, {Kind: invalidation.Tag, Value: v}, {Kind: invalidation.URL, Value: v}, {Kind: invalidation.URLPrefix, Value: v}} {
			paths, err := cfg.paths(inv)
			if err != nil {
				continue
			}
			for _, path := range paths {
				switch inv.Kind {
				case invalidation.Tag:
					require.Equal(rt, "#"+v, path)
				case invalidation.URL:
					require.True(rt, strings.HasPrefix(path, "/"))
					require.NotContains(rt, path, "*")
				default:
					require.True(rt, strings.HasPrefix(path, "/"))
					require.Equal(rt, len(path)-1, strings.Index(path, "*"))
				}
			}
		}
	})
}

// A page is stored under the path that the visitor's browser sent, whatever the rule has percent-encoded.
func TestPathsAsBrowsersSendThem(t *testing.T) {
	a, s := start(t, nil)
	for url, cached := range map[string][]string{
		"https://shop.example/p/a%3Ab%40c%2Bd":          {"/p/a:b@c+d", "/p/a%3Ab%40c%2Bd"},
		"https://shop.example/p/it%27s%21%28x%29":       {"/p/it's!(x)"},
		"https://shop.example/p/~me":                    {"/p/%7Eme"},
		"https://shop.example/p/a%5B1%5D":               {"/p/a%5B1%5D"},
		"https://shop.example/p/a[1]":                   {"/p/a%5B1%5D"},
		"https://shop.example/p/a%2Fb%3Fc%23d%25%20":    {"/p/a%2Fb%3Fc%23d%25%20"},
		"https://shop.example/s?q=a%26b%3D%2Bc%3Ad":     {"/s?q=a%26b%3D%2Bc:d", "/s?q=a%26b%3D%2Bc%3Ad"},
		"https://shop.example/k%C3%A4se%2C":             {"/k%C3%A4se,"},
		"https://shop.example/broken%2":                 nil,
		"https://shop.example/p/%2a":                    {"/p/%2a"},
		"https://shop.example/caf%C3%A9?x=%7Ey%24&z=~a": {"/caf%C3%A9?x=%7Ey$&z=%7Ea"},
	} {
		entries := map[string]string{"other": "/other"}
		for _, path := range cached {
			entries[path] = path
		}
		a.fill(entries)
		err := s.Purge(t.Context(), batchOf(invalidation.URL, url))
		if cached == nil {
			require.ErrorContains(t, err, "not a valid URL", url)
			continue
		}
		require.NoError(t, err, url)
		require.Equal(t, map[string]string{"other": "/other"}, a.left(), url)
	}
	a.fill(map[string]string{"bare": "/m/a:b/1", "encoded": "/m/a%3Ab/2", "tilde": "/m/~a:b/", "sent": "/m/%7Ea:b/3"})
	require.NoError(t, s.Purge(t.Context(), batchOf(invalidation.URLPrefix, "shop.example/m/a%3Ab/", "shop.example/m/~a%3Ab/")))
	require.Equal(t, map[string]string{"other": "/other", "tilde": "/m/~a:b/"}, a.left())
}

func TestWhatCannotBeSent(t *testing.T) {
	a, s := start(t, func(c *Config) { c.Tags, c.Hosts = false, []string{"shop.example"} })
	for says, batch := range map[string][]invalidation.Invalidation{
		"takes tags: true":    batchOf(invalidation.Tag, "a"),
		"cannot purge by key": batchOf(invalidation.Key, "a"),
		"not among `hosts`":   append(batchOf(invalidation.URL, "https://other.example/"), batchOf(invalidation.URLPrefix, "other.example/a/")...),
		"which is a wildcard": append(batchOf(invalidation.URL, "https://shop.example/*"), batchOf(invalidation.URLPrefix, "shop.example/a*/")...),
		"percent-encode":      batchOf(invalidation.URL, "https://shop.example/ü", "https://shop.example/a\nb", "https://shop.example/#x"),
		"at most 4000":        batchOf(invalidation.URL, "https://shop.example/"+strings.Repeat("x", 4000)),
		"without a host":      batchOf(invalidation.URLPrefix, "shop.example", "/a/", "https://shop.example/"),
		"1001 invalidations":  batchOf(invalidation.URL, make([]string, 1001)...),
	} {
		err := s.Purge(t.Context(), batch)
		var be *sinks.BatchError
		if errors.As(err, &be) {
			require.Len(t, be.Failed, len(batch), says)
			for _, ferr := range be.Failed {
				require.ErrorContains(t, ferr, says)
			}
		}
		require.ErrorContains(t, err, says)
	}
	require.Empty(t, a.seen())
	require.NoError(t, s.Purge(t.Context(), batchOf(invalidation.URL, "https://SHOP.example/")))
}

func prefixes(n int) (out []invalidation.Invalidation) {
	for i := range n {
		out = append(out, batchOf(invalidation.URLPrefix, fmt.Sprintf("shop.example/%d/", i))...)
	}
	return out
}

// Fifteen wildcards may be in progress, so more go in several invalidations. What
// was accepted is not sent, and not paid for, again.
func TestManyWildcards(t *testing.T) {
	a, s := start(t, nil)
	batch := append(batchOf(invalidation.URL, "https://shop.example/a"), prefixes(40)...)
	require.NoError(t, s.Purge(t.Context(), batch))
	require.Len(t, a.seen(), 4)

	a.mu.Lock()
	a.wild = 10
	a.mu.Unlock()
	err := s.Purge(t.Context(), batch)
	var be *sinks.BatchError
	require.ErrorAs(t, err, &be)
	require.Len(t, be.Failed, 40, "the URL was accepted, the prefixes were not")
	for _, ferr := range be.Failed {
		class, after := sinks.ClassOf(ferr)
		require.Equal(t, sinks.Throttled, class)
		require.Equal(t, busyPause, after)
	}
	require.Len(t, a.seen(), 1)
	class, _ := sinks.ClassOf(s.Purge(t.Context(), prefixes(40)))
	require.Equal(t, sinks.Throttled, class)
}

// A refusal of several paths at once says nothing about each of them.
func TestARefusalOfManyGivesNothingUp(t *testing.T) {
	a, s := start(t, nil)
	n := 0
	a.set(func(w http.ResponseWriter, r *http.Request) {
		if n++; n > 1 {
			refuse(w, 400, "InvalidArgument", "x")
			return
		}
		a.accept(w, batchXML{})
	})
	err := s.Purge(t.Context(), append(batchOf(invalidation.URL, "https://shop.example/a"), prefixes(20)...))
	var be *sinks.BatchError
	require.ErrorAs(t, err, &be)
	require.Len(t, be.Failed, 20)
	for i, ferr := range be.Failed {
		class, _ := sinks.ClassOf(ferr)
		require.Equal(t, sinks.Transient, class, i)
	}
	require.Equal(t, 2, n)
}

// A repetition of a call without an answer has its reference, so that CloudFront
// knows it. A later call of the same paths never does: it would be ignored.
func TestReferences(t *testing.T) {
	a, s := start(t, nil)
	now := time.Now()
	s.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	page := batchOf(invalidation.URL, "https://shop.example/a")
	held := map[string]string{"x": "/a"}
	fail := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { refuse(w, status, "Throttling", "x") }
	}
	lost := func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }

	for name, between := range map[string]http.HandlerFunc{"nothing": nil, "throttled": fail(400)} {
		a.fill(held)
		require.NoError(t, s.Purge(t.Context(), page))
		if between != nil {
			a.set(between)
			require.Error(t, s.Purge(t.Context(), page))
			a.set(nil)
		}
		a.fill(held)
		require.NoError(t, s.Purge(t.Context(), page))
		require.False(t, a.holds("x"), name)
		got := a.seen()
		require.Len(t, got, 2)
		require.NotEqual(t, got[0].CallerReference, got[1].CallerReference)
	}

	// Accepted, and the answer lost on its way.
	s.references.Clear()
	sum := sumOf([]string{"/a"})
	a.set(lost)
	require.Error(t, s.Purge(t.Context(), page))
	first, ok := s.references.Recall(sum, now)
	require.True(t, ok)
	require.Error(t, s.Purge(t.Context(), page))
	a.set(nil)
	require.NoError(t, s.Purge(t.Context(), page))
	got := a.seen()
	require.Len(t, got, 1)
	require.Equal(t, first, got[0].CallerReference)
	_, ok = s.references.Recall(sum, now)
	require.False(t, ok)
}

func TestErrorsTellWhatSupportAsksFor(t *testing.T) {
	a, s := start(t, nil)
	a.set(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, 403, "AccessDenied", "User: arn:aws:iam::123456789012:user/hunter2 is not authorized")
	})
	err := s.Purge(t.Context(), batchOf(invalidation.URL, "https://shop.example/a"))
	require.ErrorContains(t, err, "cloudfront: HTTP 403, code AccessDenied, request 0f3a8c1e-1111-2222-3333-444455556666: the credentials are refused")
	require.NotContains(t, err.Error(), "hunter2")
	a.set(func(w http.ResponseWriter, _ *http.Request) { refuse(w, 400, "hunter2 secret", "x") })
	require.NotContains(t, s.Purge(t.Context(), batchOf(invalidation.URL, "https://shop.example/a")).Error(), "hunter2")
}

func TestValidateNamesTheKeyAndRepeatsNothing(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"distribution_id: write the distribution's id": func(c *Config) { c.DistributionID = "hunter2.cloudfront.net" },
		"region: write a region":                       func(c *Config) { c.Region = "hunter2" },
		"hosts: number 2: write a host name":           func(c *Config) { c.Hosts = []string{"a", "https://hunter2"} },
		"base_url: write an absolute URL":              func(c *Config) { c.BaseURL = "hunter2" },
		"base_url: no user, password":                  func(c *Config) { c.BaseURL = "https://u:hunter2@a" },
		"base_url: http:// to another machine":         func(c *Config) { c.BaseURL = "http://hunter2" },
	} {
		c := tagged()
		c.Hosts, c.BaseURL = []string{"shop.example", "localhost:8080"}, "http://127.0.0.1:1/"
		require.NoError(t, c.Validate())
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = New(c, nil)
		require.ErrorContains(t, err, says)
	}
	require.Equal(t, invalidation.Kinds(invalidation.URL, invalidation.URLPrefix, invalidation.Everything), DefaultConfig().Kinds())
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything), tagged().Kinds())
}
