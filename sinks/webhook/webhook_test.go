package webhook

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

var quiet = slog.New(slog.DiscardHandler)

func start(t *testing.T, change func(*Config)) (*service, *Sink) {
	svc := startService(t, "")
	cfg := DefaultConfig()
	cfg.URL = svc.URL
	if change != nil {
		change(&cfg)
	}
	return svc, open(t, cfg, quiet)
}

var every = []invalidation.Invalidation{
	{Kind: invalidation.Key, Value: "product:7", Rule: "product"}, {Kind: invalidation.Tag, Value: `a"b<&>`, Rule: "product"}, {Kind: invalidation.URL, Value: "https://shop.example/p/7", Rule: "page"},
	{Kind: invalidation.URLPrefix, Value: "shop.example/m/", Rule: "page"}, {Kind: invalidation.KeyPrefix, Value: "p:", Rule: "product"}, {Kind: invalidation.Generation, Value: "catalog", Rule: "product"},
	{Kind: invalidation.Field, Value: invalidation.JoinField("products", "7"), Rule: "product"},
	{Kind: invalidation.Key, Value: "\xff", Rule: "product"}, {Kind: invalidation.Field, Value: invalidation.JoinField("h", "\xff"), Rule: "product"},
}

func TestTheFixedForm(t *testing.T) {
	svc, s := start(t, func(c *Config) {
		c.Method, c.Headers = "PUT", map[string]string{"X-Api-Key": "k", "content-type": "application/x"}
	})
	require.NoError(t, s.Purge(t.Context(), every))
	require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.Everything, Rule: "flush"}}))
	bodies, heads := svc.seen()
	require.Equal(t, `{"v":1,"items":[`+
		`{"rule":"product","keys":["product:7"],"tags":["a\"b\u003c\u0026\u003e"],"urls":[],"url_prefixes":[],"key_prefixes":["p:"],"generations":["catalog"],"fields":[{"key":"products","field":"7"},{"key":"aA==","field":"/w==","base64":true}],"base64":{"key":["/w=="]}},`+
		`{"rule":"page","keys":[],"tags":[],"urls":["https://shop.example/p/7"],"url_prefixes":["shop.example/m/"],"key_prefixes":[],"generations":[]}],"everything":false}`, bodies[0])
	require.Equal(t, `{"v":1,"items":[],"everything":true}`, bodies[1])
	require.Equal(t, []string{"k"}, heads[0]["X-Api-Key"])
	require.Equal(t, []string{"application/x"}, heads[0]["Content-Type"])
	require.NotEmpty(t, heads[0]["X-Walpurge-Timestamp"])
	require.Empty(t, heads[0]["X-Walpurge-Signature"])
}

// A service may say how many of the values it had.
func TestHits(t *testing.T) {
	hits := map[string][2]int{}
	svc, s := start(t, func(c *Config) {
		c.Hits = func(rule string, existed, absent int) { hits[rule] = [2]int{existed, absent} }
	})
	for header, want := range map[string]map[string][2]int{
		"": {}, "many": {}, "-1": {}, "0": {"product": {0, 7}, "page": {0, 2}}, "3": {"product": {3, 4}, "page": {2, 0}}, "100": {"product": {7, 0}, "page": {2, 0}},
	} {
		clear(hits)
		svc.set(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Walpurge-Existed", header) })
		require.NoError(t, s.Purge(t.Context(), every))
		require.Equal(t, want, hits, header)
	}
	clear(hits)
	svc.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Walpurge-Existed", "3")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	require.Error(t, s.Purge(t.Context(), every))
	require.Empty(t, hits)
}

func TestExpressions(t *testing.T) {
	for text, want := range map[string]string{
		`{"tags": tags, "expire": 0}`:                                                       `{"expire":0,"tags":["a\"b\u003c\u0026\u003e"]}`,
		`keys + urls + url_prefixes + key_prefixes + generations`:                           `["product:7","https://shop.example/p/7","shop.example/m/","p:","catalog"]`,
		`fields.map(f, f.key + "/" + f.field)`:                                              `["products/7"]`,
		`everything ? dyn({"purge": "all"}) : dyn({"purge": keys.map(k, {"id": k})})`:       `{"purge":[{"id":"product:7"}]}`,
		`tags.map(t, t.upperAscii()).join(" ")`:                                             `"A\"B\u003c\u0026\u003e"`,
		`{"n": keys.size(), "big": 1795176000123, "f": 0.5, "null": null, "b": everything}`: `{"b":false,"big":1795176000123,"f":0.5,"n":1,"null":null}`,
		`base64.encode(bytes(keys.join("")))`:                                               `"cHJvZHVjdDo3"`,
	} {
		require.Empty(t, CheckJSON(text), text)
		x, found := compile(text)
		require.Empty(t, found)
		body, err := x.body(t.Context(), every[:7])
		require.NoError(t, err, text)
		require.Equal(t, want, string(body), text)
	}
}

func TestWrongExpressions(t *testing.T) {
	for text, want := range map[string]Finding{
		`{"tags": tag}`:              {9, "undeclared reference to 'tag'"},
		"{\n  \"tags\": ü}":          {12, "Syntax error"},
		`tags +`:                     {6, "Syntax error"},
		`tags[0]`:                    {-1, "lists are empty, as when everything is flushed: index out of bounds"},
		`everything ? "x" : tags[1]`: {-1, "one value of each kind: index out of bounds"},
		`tags + 1`:                   {5, "no matching overload"},
		`type(tags)`:                 {-1, "has no form in JSON"},
		`"a".matches("(")`:           {12, "invalid matches argument"},
	} {
		found := CheckJSON(text)
		require.NotEmpty(t, found, text)
		require.Equal(t, want.Offset, found[0].Offset, text)
		require.Contains(t, found[0].Text, want.Text)
		cfg := DefaultConfig()
		cfg.URL, cfg.JSON = "https://a", text
		require.ErrorContains(t, cfg.Validate(), "json: "+found[0].Text)
	}
}

// What a batch of the largest size costs is far from the limit; what is not stops.
func TestExpressionsAreBounded(t *testing.T) {
	var batch []invalidation.Invalidation
	for range maxItems {
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: strings.Repeat("t", 256)})
	}
	svc, s := start(t, func(c *Config) { c.JSON = `{"tags": tags.filter(t, t.size() > 1).map(t, {"tag": "x-" + t})}` })
	svc.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(204) })
	require.NoError(t, s.Purge(t.Context(), batch))

	_, s = start(t, func(c *Config) { c.JSON = `tags.map(a, tags.map(b, a + b))` })
	begun := time.Now()
	err := s.Purge(t.Context(), batch)
	require.ErrorContains(t, err, "cost limit exceeded")
	require.Less(t, time.Since(begun), 20*time.Second)
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Item, class, "half of it may pass")
}

// A repetition keeps its key. A later call never has an earlier one's, or a
// service that looks at keys would not purge.
func TestIdempotencyKeys(t *testing.T) {
	svc, s := start(t, nil)
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	s.now = func() time.Time { now = now.Add(time.Millisecond); return now }
	a, b := every[:1], every[1:2]
	answer := func(code int) { svc.set(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }) }
	send := func(batch []invalidation.Invalidation) string {
		_ = s.Purge(t.Context(), batch)
		_, heads := svc.seen()
		require.Len(t, heads, 1)
		require.Regexp(t, "^[0-9a-f]{32}$", heads[0].Get("Idempotency-Key"))
		return heads[0].Get("Idempotency-Key")
	}
	answer(500)
	first := send(a)
	require.Equal(t, first, send(a))
	require.NotEqual(t, first, send(b))
	answer(429)
	require.Equal(t, first, send(a))
	answer(204)
	require.Equal(t, first, send(a))
	second := send(a)
	require.NotEqual(t, first, second, "after a success")
	answer(400)
	third := send(a)
	require.NotEqual(t, second, third)
	require.NotEqual(t, third, send(a), "after a refusal")
	answer(500)
	fourth := send(a)
	now = now.Add(sameFor)
	require.NotEqual(t, fourth, send(a), "after a long time")
}

func TestCheckSendsNoBatch(t *testing.T) {
	svc, s := start(t, func(c *Config) { c.Headers = map[string]string{"authorization": "hunter2"} })
	var method string
	svc.set(func(w http.ResponseWriter, r *http.Request) {
		method = r.Method
		w.WriteHeader(http.StatusMethodNotAllowed)
	})
	require.NoError(t, s.Check(t.Context()))
	bodies, heads := svc.seen()
	require.Equal(t, "OPTIONS", method)
	require.Equal(t, []string{""}, bodies)
	require.Empty(t, heads[0]["Authorization"])
	svc.Close()
	require.ErrorContains(t, s.Check(t.Context()), "no answer")

	_, s = start(t, func(c *Config) { c.HMACFile = filepath.Join(t.TempDir(), "none") })
	require.ErrorContains(t, s.Check(t.Context()), "webhook: hmac_file: ")
	require.NoError(t, os.WriteFile(s.cfg.HMACFile, nil, 0o600))
	require.ErrorContains(t, s.Check(t.Context()), "hmac_file: it is empty")
}

func TestValidateNamesTheKeyAndRepeatsNothing(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"url: write an absolute URL":          func(c *Config) { c.URL = "hunter2" },
		"url: write":                          func(c *Config) { c.URL = "ftp://hunter2" },
		"url: no user or password":            func(c *Config) { c.URL = "https://u:hunter2@a" },
		"url: a fragment":                     func(c *Config) { c.URL = "https://hunter2/#" },
		"url: http:// to another machine":     func(c *Config) { c.URL = "http://hunter2/" },
		"method: write one of POST":           func(c *Config) { c.Method = "hunter2" },
		"headers: not a valid header name":    func(c *Config) { c.Headers = map[string]string{"a b": "hunter2"} },
		"headers: host is written by":         func(c *Config) { c.Headers = map[string]string{"Host": "hunter2"} },
		"headers: x-walpurge-signature is":    func(c *Config) { c.Headers = map[string]string{"X-Walpurge-Signature": "hunter2"} },
		"headers: a is there twice":           func(c *Config) { c.Headers = map[string]string{"A": "hunter2", "a": "hunter2"} },
		"headers: the value of a has a line":  func(c *Config) { c.Headers = map[string]string{"a": "hunter2\r\nb: c"} },
		"json: undeclared reference to 'tag'": func(c *Config) { c.JSON = "tag" },
		"timeout: 0s":                         func(c *Config) { c.Timeout = 0 },
		"timeout: 1h0m0s":                     func(c *Config) { c.Timeout = time.Hour },
	} {
		c := DefaultConfig()
		c.URL = "https://shop.example/api?token=x"
		require.NoError(t, c.Validate())
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = New(c, nil)
		require.ErrorContains(t, err, says)
	}
	for _, url := range []string{"http://localhost:3000/x", "http://127.0.0.1", "http://[::1]:80/", "https://10.0.0.1"} {
		c := DefaultConfig()
		c.URL = url
		require.NoError(t, c.Validate(), url)
	}
	c := DefaultConfig()
	c.URL, c.AllowHTTP = "http://next:3000/", true
	require.NoError(t, c.Validate())
}
