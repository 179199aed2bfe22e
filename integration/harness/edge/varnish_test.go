package edge

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// varnishAsEdge is a Varnish that serves nothing stale but what stale-while-revalidate allows. The
// rest is its built-in configuration.
const varnishAsEdge = `vcl 4.1;
backend origin { .host = "127.0.0.1"; .port = "8080"; }
sub vcl_backend_response {
	if (beresp.http.Cache-Control !~ "stale-while-revalidate") { set beresp.grace = 0s; }
}
`

// cacheUnderTest is a cache in front of an origin of its own.
type cacheUnderTest struct {
	url    string
	origin *timed
}

func (c cacheUnderTest) get(t *testing.T, path, language string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+path, nil)
	require.NoError(t, err)
	r.Header.Set("Accept-Language", language)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(r)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

func (c cacheUnderTest) fetches(path string) int {
	c.origin.mu.Lock()
	defer c.origin.mu.Unlock()
	return c.origin.served[path]
}

func bothCaches(t *testing.T) map[string]cacheUnderTest {
	start := func() (*timed, string) {
		origin := &timed{}
		server := httptest.NewServer(origin)
		t.Cleanup(server.Close)
		return origin, server.URL
	}
	origin, at := start()
	e, err := Start(t.Context(), Config{
		OriginURL: at, PublicURL: "https://shop.example", ObeyCacheControl: true,
		Accounts: []Account{{Plan: Pro, Tokens: []string{token}, Zones: []Zone{{ID: zoneA}}}},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	out := map[string]cacheUnderTest{"stand-in": {e.URL(), origin}}

	origin, at = start()
	u, err := url.Parse(at)
	require.NoError(t, err)
	v, err := harness.StartVarnish(t.Context(), harness.VarnishConfig{VCL: varnishAsEdge, Backend: u.Host})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	out["Varnish"] = cacheUnderTest{"http://" + v.Addr(), origin}
	return out
}

// The stand-in asks its origin when Varnish does, on the same requests and responses.
func TestBesideVarnish(t *testing.T) {
	caches := bothCaches(t)
	for path, headers := range map[string][]string{
		"/plain": nil, "/max-age": {"Cache-Control", "max-age=300"}, "/zero": {"Cache-Control", "max-age=0"},
		"/shared": {"Cache-Control", "max-age=0, s-maxage=300"}, "/shared-zero": {"Cache-Control", "max-age=300, s-maxage=0"},
		"/no-store": {"Cache-Control", "no-store"}, "/no-cache": {"Cache-Control", "no-cache, max-age=300"}, "/private": {"Cache-Control", "private, max-age=300"},
		"/young": {"Cache-Control", "max-age=600", "Age", "100"}, "/old": {"Cache-Control", "max-age=600", "Age", "700"},
		"/vary": {"Cache-Control", "max-age=300", "Vary", "Accept-Language"}, "/vary-all": {"Cache-Control", "max-age=300", "Vary", "*"},
		"/cookie": {"Cache-Control", "max-age=300", "Set-Cookie", "a=b"},
		"/stale":  {"Cache-Control", "max-age=300, stale-while-revalidate=60"}, "/zero-stale": {"Cache-Control", "max-age=0, stale-while-revalidate=60"},
	} {
		got := map[string][]any{}
		for name, c := range caches {
			c.origin.answers(headers...)
			var trace []any
			for _, language := range []string{"de", "en", "de", "de", "en"} {
				trace = append(trace, c.get(t, path, language))
			}
			got[name] = append(trace, c.fetches(path))
		}
		require.Equal(t, got["Varnish"], got["stand-in"], "%s %v", path, headers)
	}
}

// Past its life, both serve the old response while the next one is fetched.
func TestStaleBesideVarnish(t *testing.T) {
	for name, c := range bothCaches(t) {
		c.origin.answers("Cache-Control", "max-age=1, stale-while-revalidate=3600")
		release := make(chan struct{})
		c.origin.before = func(n int) {
			if n == 2 {
				<-release
			}
		}
		require.Equal(t, "de 1", c.get(t, "/", "de"), name)
		require.Eventually(t, func() bool {
			require.Equal(t, "de 1", c.get(t, "/", "de"), name)
			return c.fetches("/") == 2
		}, 30*time.Second, 20*time.Millisecond, name)
		require.Equal(t, "de 1", c.get(t, "/", "de"), "%s answers while the origin does not", name)
		require.Equal(t, 2, c.fetches("/"), name)
		close(release)
		require.Eventually(t, func() bool { return c.get(t, "/", "de") != "de 1" }, 30*time.Second, 20*time.Millisecond, name)
	}
}
