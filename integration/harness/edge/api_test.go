package edge

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func list(n int, item string) string {
	return strings.TrimSuffix(strings.Repeat(`"`+item+`",`, n), ",")
}

func TestStrictness(t *testing.T) {
	const j, auth = "application/json", "Bearer " + token
	good := `{"tags":["a"]}`
	path := purgePath(zoneA)
	type test struct {
		name, method, path, contentType, auth, body string
		status                                      int
		codes                                       []int
	}
	tests := []test{
		{"fine", "POST", path, j, auth, good, 200, nil},
		{"GET", "GET", path, j, auth, good, 404, []int{7003, 7000}},
		{"PUT", "PUT", path, j, auth, good, 404, []int{7003, 7000}},
		{"slash at the end", "POST", path + "/", j, auth, good, 404, []int{7003, 7000}},
		{"other path", "POST", "/client/v4/zones/" + zoneA + "/settings", j, auth, good, 404, []int{7003, 7000}},
		{"no zone", "POST", "/client/v4/zones/purge_cache", j, auth, good, 404, []int{7003, 7000}},
		{"unknown zone", "POST", purgePath(strings.Repeat("0", 32)), j, auth, good, 404, []int{7003, 7000}},
		{"zone in capitals", "POST", purgePath(strings.ToUpper(zoneA)), j, auth, good, 404, []int{7003, 7000}},
		{"no token", "POST", path, j, "", good, 403, []int{10000}},
		{"wrong token", "POST", path, j, "Bearer other", good, 403, []int{10000}},
		{"token of another account", "POST", path, j, "Bearer big-token", good, 403, []int{10000}},
		{"no Bearer", "POST", path, j, token, good, 403, []int{10000}},
		{"form", "POST", path, "application/x-www-form-urlencoded", auth, good, 400, []int{6003}},
		{"no content type", "POST", path, "", auth, good, 400, []int{6003}},
	}
	body := func(name, body string, status int, codes ...int) {
		tests = append(tests, test{name, "POST", path, j, auth, body, status, codes})
	}
	body("not JSON", `tags=a`, 400, 6007)
	body("empty", ``, 400, 6007)
	body("array", `["a"]`, 400, 6007)
	body("null", `null`, 400, 6007)
	body("two objects", good+good, 400, 6007)
	body("no kind", `{}`, 400, 1012)
	body("two kinds", `{"tags":["a"],"hosts":["h"]}`, 400, 1012)
	body("everything and tags", `{"purge_everything":true,"tags":["a"]}`, 400, 1012)
	body("unknown key", `{"keys":["a"]}`, 400, 1012)
	body("known and unknown key", `{"tags":["a"],"x":1}`, 400, 1012)
	body("kind in capitals", `{"Tags":["a"]}`, 400, 1012)
	body("everything false", `{"purge_everything":false}`, 400, 1012)
	body("everything as text", `{"purge_everything":"true"}`, 400, 1012)
	body("tags as text", `{"tags":"a"}`, 400, 1014)
	body("tags null", `{"tags":null}`, 400, 1014)
	body("files as object", `{"files":{"url":"https://shop.example/"}}`, 400, 1014)
	body("no items", `{"tags":[]}`, 400, 1999)
	body("100 tags", `{"tags":[`+list(100, "a")+`]}`, 200)
	body("101 tags", `{"tags":[`+list(101, "a")+`]}`, 400, 1999)
	body("101 hosts", `{"hosts":[`+list(101, "h.example")+`]}`, 400, 1999)
	body("101 files", `{"files":[`+list(101, "https://shop.example/")+`]}`, 400, 1999)
	body("number for a tag", `{"tags":[7]}`, 400, 1999)
	body("null for a tag", `{"tags":[null]}`, 400, 1999)
	body("object for a tag", `{"tags":[{"url":"x"}]}`, 400, 1999)
	body("file without url", `{"files":[{"headers":{}}]}`, 400, 1999)
	body("longest tag", `{"tags":["`+strings.Repeat("t", 1024)+`"]}`, 200)
	body("too long a tag", `{"tags":["`+strings.Repeat("t", 1025)+`"]}`, 200, 1100, 1016)
	body("umlaut in a tag", `{"tags":["käse"]}`, 200, 1315, 1016)
	body("line break in a tag", `{"tags":["a\nb"]}`, 200, 1315, 1016)
	body("space in a tag", `{"tags":["a b"]}`, 200, 1999, 1016)
	body("comma in a tag", `{"tags":["a,b"]}`, 200, 1999, 1016)
	body("empty tag", `{"tags":[""]}`, 200, 1999, 1016)
	body("host with scheme", `{"hosts":["https://shop.example"]}`, 400, 1999)
	body("empty host", `{"hosts":[""]}`, 400, 1999)
	body("prefix with scheme", `{"prefixes":["https://shop.example/a"]}`, 400, 1999)
	body("prefix with query", `{"prefixes":["shop.example/a?b"]}`, 400, 1999)
	body("prefix with fragment", `{"prefixes":["shop.example/a#b"]}`, 400, 1999)
	body("prefix without host", `{"prefixes":["/a"]}`, 400, 1999)
	body("31 slashes", `{"prefixes":["shop.example`+strings.Repeat("/a", 31)+`"]}`, 200)
	body("32 slashes", `{"prefixes":["shop.example`+strings.Repeat("/a", 32)+`"]}`, 400, 1999)
	body("prefix with a wildcard", `{"prefixes":["shop.example/*"]}`, 400, 1999)
	body("prefix with a user", `{"prefixes":["a@shop.example/"]}`, 400, 1999)
	body("prefix with an umlaut", `{"prefixes":["shop.example/ü"]}`, 400, 1999)
	body("prefix with a space", `{"prefixes":["shop.example/a b"]}`, 400, 1999)
	body("101 prefixes", `{"prefixes":[`+list(101, "shop.example/a")+`]}`, 400, 1999)
	body("100 files", `{"files":[`+list(100, "https://shop.example/a?b=%2A")+`]}`, 200)
	body("file with a fragment", `{"files":["https://shop.example/a#b"]}`, 400, 1999)
	body("file with a user", `{"files":["https://a:b@shop.example/"]}`, 400, 1999)
	body("file with a wildcard", `{"files":["https://shop.example/*"]}`, 400, 1999)
	body("file with a space", `{"files":["https://shop.example/a b"]}`, 400, 1999)
	body("file with an umlaut", `{"files":["https://shop.example/ü"]}`, 400, 1999)
	body("longest file", `{"files":["https://shop.example/`+strings.Repeat("a", 16<<10-21)+`"]}`, 200)
	body("too long a file", `{"files":["https://shop.example/`+strings.Repeat("a", 16<<10-20)+`"]}`, 400, 1999)
	body("file without host", `{"files":["/a"]}`, 400, 1999)
	body("file without scheme", `{"files":["shop.example/a"]}`, 400, 1999)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBench(t, nil)
			b.get("https://shop.example/p?tags=a")
			got := b.call(tt.method, tt.path, tt.contentType, tt.auth, tt.body)
			require.Equal(t, tt.status, got.status)
			require.Equal(t, tt.codes, got.codes)
			require.Equal(t, len(tt.codes) == 0, got.env.Success)
			require.Equal(t, got.env.Success, got.env.Result != nil)
			if !got.env.Success {
				require.True(t, b.edge.Stored("https://shop.example/p?tags=a"), "a refused request purges nothing")
			}
			logged := b.edge.Requests(0)
			require.Len(t, logged, 1)
			require.Equal(t, tt.status, logged[0].Status)
			require.Equal(t, got.header.Get("CF-Ray"), logged[0].Ray)
			require.Equal(t, got.env.Success, !logged[0].AppliedAt.IsZero())
		})
	}
}

func TestEnterpriseAndForeignHosts(t *testing.T) {
	b := newBench(t, nil)
	files := func(n int) string { return `{"files":[` + list(n, "https://shop.example/") + `]}` }
	call := func(zone, token, body string) int {
		return b.call("POST", purgePath(zone), "application/json", "Bearer "+token, body).status
	}
	require.Equal(t, 200, call(zoneC, "big-token", files(500)))
	require.Equal(t, 400, call(zoneC, "big-token", files(501)))
	require.Equal(t, 400, call(zoneB, token, files(1)), "not a host of the zone")
	require.Equal(t, 400, call(zoneB, token, `{"prefixes":["shop.example/a"]}`))
	require.Equal(t, 400, call(zoneB, token, `{"prefixes":["another.example/a"]}`), "a name that only ends alike")
	for _, host := range []string{"other.example", "WWW.Other.Example", "other.example:8443"} {
		require.Equal(t, 200, call(zoneB, token, `{"prefixes":["`+host+`/a"]}`))
		require.Equal(t, 200, call(zoneB, token, `{"files":["https://`+host+`/a"]}`))
	}
}

func TestVerify(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Accounts[0].Expired = []string{"old-token"} })
	verify := func(token string) (int, string) {
		r := httptest.NewRequest(http.MethodGet, "/client/v4/user/tokens/verify", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		w := httptest.NewRecorder()
		b.edge.ServeHTTP(w, r)
		require.NotEmpty(t, w.Header().Get("Ratelimit"))
		return w.Code, w.Body.String()
	}
	for token, want := range map[string]string{token: `"status":"active"`, "big-token": `"status":"active"`, "old-token": `"status":"expired"`} {
		code, body := verify(token)
		require.Equal(t, 200, code)
		require.Contains(t, body, want)
	}
	code, body := verify("other")
	require.Equal(t, 401, code)
	require.Contains(t, body, `"code":1000`)
	require.Equal(t, 403, b.call("POST", purgePath(zoneA), "application/json", "Bearer old-token", `{"tags":["a"]}`).status)
	for range 1200 {
		code, _ = verify(token)
	}
	require.Equal(t, 429, code, "verify counts like every request")
	require.Equal(t, 429, b.purge(`{"tags":["a"]}`).status)
}

func TestAccountBucket(t *testing.T) {
	b := newBench(t, nil)
	// 50 at once, over both zones of the account, then 10 a second.
	for i := range 50 {
		zone := []string{zoneA, zoneB}[i%2]
		got := b.call("POST", purgePath(zone), "application/json", "Bearer "+token, `{"tags":["a"]}`)
		require.Equal(t, 200, got.status, i)
		require.Equal(t, fmt.Sprintf(`"burst";r=%d;t=%d`, 49-i, (i+10)/10), got.header.Get("Ratelimit"))
		require.Equal(t, `"burst";q=50;w=5`, got.header.Get("Ratelimit-Policy"))
	}
	got := b.purge(`{"hosts":["shop.example"]}`)
	require.Equal(t, 429, got.status)
	require.Equal(t, []int{971}, got.codes)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	require.Equal(t, 200, b.purge(`{"files":["https://shop.example/"]}`).status, "files have a bucket of their own")
	b.clock.now = b.clock.now.Add(100 * time.Millisecond)
	require.Equal(t, 200, b.purge(`{"tags":["a"]}`).status)
	require.Equal(t, 429, b.purge(`{"tags":["a"]}`).status)
}

func TestFreePlanWaits(t *testing.T) {
	b := newBench(t, func(c *Config) { c.Accounts[0].Plan = Free })
	for range 25 {
		require.Equal(t, 200, b.purge(`{"purge_everything":true}`).status)
	}
	got := b.purge(`{"purge_everything":true}`)
	require.Equal(t, "12", got.header.Get("Retry-After"), "5 a minute")
	b.clock.now = b.clock.now.Add(12 * time.Second)
	require.Equal(t, 200, b.purge(`{"purge_everything":true}`).status)
}

func TestURLRate(t *testing.T) {
	b := newBench(t, nil)
	body := `{"files":[` + list(100, "https://shop.example/") + `]}`
	for range 15 {
		require.Equal(t, 200, b.purge(body).status)
	}
	require.Equal(t, 429, b.purge(body).status, "1,500 URLs a second")
	b.clock.now = b.clock.now.Add(60 * time.Millisecond)
	require.Equal(t, 429, b.purge(body).status)
	b.clock.now = b.clock.now.Add(7 * time.Millisecond)
	require.Equal(t, 200, b.purge(body).status)
}

func TestAPIBlock(t *testing.T) {
	b := newBench(t, nil)
	// Malformed requests count, and take nothing from the account's bucket.
	for i := range 1200 {
		require.Equal(t, 400, b.purge(`{}`).status, i)
	}
	got := b.purge(`{"tags":["a"]}`)
	require.Equal(t, 429, got.status)
	require.Equal(t, "300", got.header.Get("Retry-After"))
	require.Equal(t, `"default";r=0;t=300`, got.header.Get("Ratelimit"))
	require.Equal(t, `"default";q=1200;w=300`, got.header.Get("Ratelimit-Policy"))
	b.clock.now = b.clock.now.Add(299 * time.Second)
	got = b.purge(`{"tags":["a"]}`)
	require.Equal(t, 429, got.status)
	require.Equal(t, "1", got.header.Get("Retry-After"))
	b.clock.now = b.clock.now.Add(time.Second)
	require.Equal(t, 200, b.purge(`{"tags":["a"]}`).status)
}

func TestAPIWindowSlides(t *testing.T) {
	b := newBench(t, nil)
	for range 1300 {
		require.Equal(t, 400, b.purge(`{}`).status)
		b.clock.now = b.clock.now.Add(251 * time.Millisecond)
	}
}

func TestRequestLog(t *testing.T) {
	b := newBench(t, func(c *Config) { c.LogSize = 3 })
	b.purge(`{"tags":["a","B"]}`)
	b.clock.now = b.clock.now.Add(time.Second)
	b.purge(`{"prefixes":["shop.example/x"]}`)
	b.purge(`{"tags":[""]}`)
	all := b.edge.Requests(0)
	require.Len(t, all, 3)
	require.Equal(t, []string{"a", "B"}, all[0].Values)
	require.Equal(t, Tags, all[0].Kind)
	require.Equal(t, zoneA, all[0].Zone)
	require.Equal(t, time.Second, all[1].At.Sub(all[0].At))
	require.Equal(t, 1999, all[2].Code)
	require.Equal(t, all[1:], b.edge.Requests(1))
	b.purge(`{"purge_everything":true}`)
	all = b.edge.Requests(0)
	require.Len(t, all, 3)
	require.Equal(t, []uint64{2, 3, 4}, []uint64{all[0].Seq, all[1].Seq, all[2].Seq})
	require.Equal(t, 200, all[2].Status)
}

// Faults on a real connection.
func TestFaults(t *testing.T) {
	origin := httptest.NewServer(&shop{})
	defer origin.Close()
	s, err := Start(t.Context(), Config{
		OriginURL:  origin.URL,
		PublicURL:  "https://shop.example",
		PurgeDelay: new(time.Duration(0)),
		Accounts:   []Account{{Plan: Pro, Tokens: []string{token}, Zones: []Zone{{ID: zoneA}}}},
	})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()); require.NoError(t, s.Close()) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	const page = "https://shop.example/p?tags=x"
	fill := func() {
		resp, err := client.Get(s.URL() + "/p?tags=x")
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.True(t, s.Stored(page))
	}
	purge := func(ctx context.Context) (*http.Response, error) {
		r, err := http.NewRequestWithContext(ctx, "POST", s.APIURL()+"/zones/"+zoneA+"/purge_cache", strings.NewReader(`{"tags":["x"]}`))
		require.NoError(t, err)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Authorization", "Bearer "+token)
		return client.Do(r)
	}
	b := &bench{t: t, edge: s.Edge}
	fill()

	s.Inject(1, Fault{Kind: ServerError})
	s.Inject(1, Fault{Kind: Refused})
	s.Inject(1, Fault{Kind: Throttled, Wait: 1500 * time.Millisecond})
	s.Inject(1, Fault{Kind: Reset})
	resp, err := purge(t.Context())
	require.NoError(t, err)
	require.Equal(t, 502, resp.StatusCode)
	html, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Contains(t, string(html), "<html>")

	resp, err = purge(t.Context())
	require.NoError(t, err)
	got := b.read(resp)
	require.Equal(t, 200, got.status)
	require.False(t, got.env.Success)
	require.Nil(t, got.env.Result)

	resp, err = purge(t.Context())
	require.NoError(t, err)
	got = b.read(resp)
	require.Equal(t, 429, got.status)
	require.Equal(t, "2", got.header.Get("Retry-After"))

	_, err = purge(t.Context())
	require.ErrorIs(t, err, syscall.ECONNRESET)
	require.True(t, s.Stored(page), "none of these did anything")

	s.Inject(-1, Fault{Kind: Timeout})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // short: expires on purpose
	defer cancel()
	_, err = purge(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.False(t, s.Stored(page), "applied, only not said so")
	s.Heal()
	s.Inject(1, Fault{Kind: Timeout, Wait: time.Millisecond})
	fill()
	_, err = purge(t.Context())
	require.True(t, errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET), "%v", err)
	require.False(t, s.Stored(page))

	fill()
	resp, err = purge(t.Context())
	require.NoError(t, err)
	require.True(t, b.read(resp).env.Success)
	var faults []FaultKind
	for _, r := range s.Requests(0) {
		faults = append(faults, r.Fault)
	}
	require.Equal(t, []FaultKind{ServerError, Refused, Throttled, Reset, Timeout, Timeout, ""}, faults)
}
