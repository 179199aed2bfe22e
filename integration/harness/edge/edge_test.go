package edge

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	zoneA = "023e105f4ecef8ad9ca31a8372d0c353"
	zoneB = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	zoneC = "cccccccccccccccccccccccccccccccc"
	token = "good-token"
)

// clock is a time that only tests move.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

// shop is an origin that counts its answers and tags them as the path says.
type shop struct{ served atomic.Int64 }

func (s *shop) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := s.served.Add(1)
	w.Header().Add("Cache-Tag", r.URL.Query().Get("tags"))
	w.Header().Add("cache-tag", ",Shared , ,")
	switch r.URL.Path {
	case "/private":
		w.Header().Set("Cache-Control", "max-age=60, Private")
	case "/cookie":
		w.Header().Set("Set-Cookie", "a=b")
	case "/missing":
		w.WriteHeader(http.StatusNotFound)
	}
	fmt.Fprintf(w, "answer %d", n)
}

type bench struct {
	t     *testing.T
	edge  *Edge
	shop  *shop
	clock *clock
}

func newBench(t *testing.T, change func(*Config)) *bench {
	b := &bench{t: t, shop: &shop{}, clock: &clock{time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)}}
	cfg := Config{
		Origin:     b.shop,
		PublicURL:  "https://shop.example",
		PurgeDelay: new(time.Duration(0)),
		Clock:      b.clock.read,
		Accounts: []Account{
			{Plan: Business, Tokens: []string{token}, Zones: []Zone{{ID: zoneA}, {ID: zoneB, Hosts: []string{"Other.Example"}}}},
			{Plan: Enterprise, Tokens: []string{"big-token"}, Zones: []Zone{{ID: zoneC}}},
		},
	}
	if change != nil {
		change(&cfg)
	}
	var err error
	b.edge, err = New(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.edge.Close()) })
	return b
}

// get asks the site and returns the cache status and the body.
func (b *bench) get(target string, headers ...string) (string, string) {
	r := httptest.NewRequest(http.MethodGet, target, nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, r)
	require.Empty(b.t, w.Header().Values("Cache-Tag"), "visitors never see the tags")
	return w.Header().Get("CF-Cache-Status"), w.Body.String()
}

type reply struct {
	status int
	header http.Header
	env    envelope
	codes  []int
}

func (b *bench) call(method, path, contentType, auth, body string) reply {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	r.Header.Set("Authorization", auth)
	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, r)
	return b.read(w.Result())
}

func (b *bench) read(resp *http.Response) reply {
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	require.NoError(b.t, err)
	out := reply{status: resp.StatusCode, header: resp.Header}
	require.NoError(b.t, json.Unmarshal(raw, &out.env), "%s", raw)
	for _, field := range []string{"success", "errors", "messages", "result"} {
		require.True(b.t, bytes.Contains(raw, []byte(`"`+field+`":`)), "%s in %s", field, raw)
	}
	require.NotContains(b.t, string(raw), `"errors":null`)
	require.NotEmpty(b.t, resp.Header.Get("Ratelimit"))
	require.NotEmpty(b.t, resp.Header.Get("Ratelimit-Policy"))
	require.Equal(b.t, resp.StatusCode == http.StatusTooManyRequests, resp.Header.Get("Retry-After") != "", "retry-after on 429 only")
	for _, e := range out.env.Errors {
		out.codes = append(out.codes, e.Code)
	}
	return out
}

func purgePath(zone string) string { return "/client/v4/zones/" + zone + "/purge_cache" }

func (b *bench) purge(body string) reply {
	return b.call(http.MethodPost, purgePath(zoneA), "application/json", "Bearer "+token, body)
}

func TestSite(t *testing.T) {
	b := newBench(t, nil)
	status, first := b.get("http://127.0.0.1:80/a?tags=x")
	require.Equal(t, "MISS", status)
	status, second := b.get("http://shop.example/a?tags=x")
	require.Equal(t, "HIT", status, "an address names the public host")
	require.Equal(t, first, second)
	require.True(t, b.edge.Stored("https://SHOP.example:443/a?tags=x"))
	require.False(t, b.edge.Stored("http://shop.example/a?tags=x"))
	status, _ = b.get("http://shop.example/a?tags=y")
	require.Equal(t, "MISS", status, "the query is part of the key")
	status, _ = b.get("http://other.example/a?tags=x")
	require.Equal(t, "MISS", status, "the host is part of the key")

	for _, path := range []string{"/private", "/cookie", "/missing"} {
		for range 2 {
			status, _ = b.get("http://shop.example" + path)
			require.Equal(t, "MISS", status, "%s is never stored", path)
		}
	}
	for range 2 {
		status, _ = b.get("http://shop.example/mine", "Authorization", "Bearer me")
		require.Equal(t, "MISS", status)
	}

	w := httptest.NewRecorder()
	b.edge.ServeHTTP(w, httptest.NewRequest(http.MethodHead, "http://shop.example/a?tags=x", nil))
	require.Equal(t, "HIT", w.Header().Get("CF-Cache-Status"))
	require.Empty(t, w.Body.String())
	w = httptest.NewRecorder()
	b.edge.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "http://shop.example/a?tags=x", strings.NewReader("q")))
	require.Equal(t, "DYNAMIC", w.Header().Get("CF-Cache-Status"))
}

func TestPurgeKinds(t *testing.T) {
	pages := []string{
		"https://shop.example/p/a?tags=Product-1,menu",
		"https://shop.example/p/ab?tags=product-2",
		"https://other.example/p/a?tags=product-1",
	}
	tests := []struct {
		name, zone, body string
		gone             []int
	}{
		{"tag without case", zoneA, `{"tags":["PRODUCT-1"]}`, []int{0, 2}},
		{"tag within a zone", zoneB, `{"tags":["product-1"]}`, []int{2}},
		{"tag of a second header", zoneA, `{"tags":["shared"]}`, []int{0, 1, 2}},
		{"tag is not a prefix", zoneA, `{"tags":["product"]}`, nil},
		{"unknown tag", zoneA, `{"tags":["nobody"]}`, nil},
		{"host", zoneA, `{"hosts":["Shop.example"]}`, []int{0, 1}},
		{"prefix is text", zoneA, `{"prefixes":["shop.example/p/a"]}`, []int{0, 1}},
		{"prefix of a directory", zoneA, `{"prefixes":["shop.example/p/a/"]}`, nil},
		{"prefix of a host", zoneA, `{"prefixes":["shop.example"]}`, []int{0, 1}},
		{"file", zoneA, `{"files":["https://shop.example/p/ab?tags=product-2"]}`, []int{1}},
		{"file of another scheme", zoneA, `{"files":["http://shop.example/p/ab?tags=product-2"]}`, nil},
		{"file with headers", zoneA, `{"files":[{"url":"https://shop.example/p/ab?tags=product-2","headers":{"CF-IPCountry":"DE"}}]}`, []int{1}},
		{"everything in a zone", zoneB, `{"purge_everything":true}`, []int{2}},
		{"everything", zoneA, `{"purge_everything":true}`, []int{0, 1, 2}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, nil)
			for _, page := range pages {
				b.get(page)
				require.True(t, b.edge.Stored(page))
			}
			got := b.call(http.MethodPost, purgePath(tt.zone), "application/json; charset=utf-8", "Bearer "+token, tt.body)
			require.Equal(t, http.StatusOK, got.status)
			require.True(t, got.env.Success)
			require.Equal(t, tt.zone, got.env.Result.ID)
			var gone []int
			for i, page := range pages {
				if !b.edge.Stored(page) {
					gone = append(gone, i)
				}
			}
			require.Equal(t, tt.gone, gone)
			require.Equal(t, len(pages)-len(gone), b.edge.Objects())
		})
	}
}

func TestTagsOf(t *testing.T) {
	require.Equal(t, []string{"a", "b"}, tagsOf(http.Header{"Cache-Tag": {"A,,b ", "a"}}))
	long := strings.Repeat("t", 10_000)
	require.Equal(t, []string{long}, tagsOf(http.Header{"Cache-Tag": {long + "," + strings.Repeat("u", 10_000)}}), "no more than 16 KB, and no half tag")
}

func TestPurgeTakesEffectLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, func(c *Config) { c.PurgeDelay, c.Clock = nil, nil })
		const page = "https://shop.example/p?tags=x"
		b.get(page)
		begun := time.Now()
		require.True(t, b.purge(`{"tags":["x"]}`).env.Success)
		require.Zero(t, time.Since(begun), "the reply does not wait")
		time.Sleep(149 * time.Millisecond)
		require.True(t, b.edge.Stored(page))
		require.True(t, b.edge.Requests(0)[0].AppliedAt.IsZero())
		time.Sleep(2 * time.Millisecond)
		require.False(t, b.edge.Stored(page))
		require.Equal(t, begun.Add(150*time.Millisecond), b.edge.Requests(0)[0].AppliedAt)

		b.get(page)
		require.True(t, b.purge(`{"tags":["x"]}`).env.Success)
		require.NoError(t, b.edge.Close())
		time.Sleep(time.Second)
		require.True(t, b.edge.Stored(page), "a closed edge does nothing more")
	})
}

// An answer that the origin gave before a purge is stored after it, and lives.
func TestFetchInFlight(t *testing.T) {
	for _, dropped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			b := newBench(t, func(c *Config) {
				c.DropLateFetches = dropped
				c.Origin = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Cache-Tag", "x")
					<-release
				})
			})
			const page = "https://shop.example/p"
			go b.get(page)
			synctest.Wait()
			require.True(t, b.purge(`{"tags":["x"]}`).env.Success)
			close(release)
			synctest.Wait()
			require.Equal(t, !dropped, b.edge.Stored(page))
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	b := newBench(t, func(c *Config) { c.MaxObjects = 3 })
	for i := range 10 {
		b.get(fmt.Sprintf("https://shop.example/%d?tags=t%d", i, i))
	}
	require.Equal(t, 3, b.edge.Objects())
	require.Len(t, b.edge.cache.byTag, 3+1, "the index shrinks with the cache")
}

func TestConfigErrors(t *testing.T) {
	accounts := []Account{{Plan: Free, Zones: []Zone{{ID: zoneA}}}}
	for want, cfg := range map[string]Config{
		"OriginURL or Origin": {Accounts: accounts},
		"no account":          {Origin: &shop{}},
		"no plan":             {Origin: &shop{}, Accounts: []Account{{Plan: "gold"}}},
		"32 hexadecimal":      {Origin: &shop{}, Accounts: []Account{{Plan: Free, Zones: []Zone{{ID: "shop"}}}}},
		"PublicURL":           {Origin: &shop{}, Accounts: accounts, PublicURL: "shop.example"},
	} {
		_, err := New(cfg)
		require.ErrorContains(t, err, want)
	}
}
