package cloudflare

import (
	"bytes"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks"
)

func tags(vv ...string) []invalidation.Invalidation {
	var batch []invalidation.Invalidation
	for _, v := range vv {
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: v})
	}
	return batch
}

func startSink(t *testing.T) (*edge, *Sink, string) {
	e := startEdge(t, "hunter2hunter2")
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hunter2hunter2"), 0o600))
	return e, openSink(t, e.URL, file, slog.New(slog.DiscardHandler)), file
}

func TestRequests(t *testing.T) {
	e, s, _ := startSink(t)
	require.NoError(t, s.Purge(t.Context(), tags("product-1", `a"b\<&>`)))
	e.fill("anything")
	require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.Everything}, {Kind: invalidation.Everything}}))
	require.False(t, e.holds("anything"))
	require.NoError(t, s.Check(t.Context()))
	_, bodies := e.purges()
	require.Len(t, bodies, 3, "one call, one request")
	require.JSONEq(t, `{"tags":["product-1","a\"b\\<&>"]}`, bodies[0])
	require.JSONEq(t, `{"purge_everything":true}`, bodies[1])
	require.JSONEq(t, `{"tags":["walpurge-check"]}`, bodies[2])
}

// What lies about in the environment for other tools must not reach a request.
func TestNothingOfTheEnvironmentIsSent(t *testing.T) {
	trap := startEdge(t, "x")
	for _, name := range []string{"API_TOKEN", "API_KEY", "EMAIL", "API_EMAIL", "API_USER_SERVICE_KEY"} {
		t.Setenv("CLOUDFLARE_"+name, "stray-credential")
	}
	t.Setenv("CLOUDFLARE_BASE_URL", trap.URL+"/stray-credential")
	t.Setenv("CLOUDFLARE_CUSTOM_HEADERS", "X-Stray: stray-credential")
	e, s, _ := startSink(t)
	require.NoError(t, s.Purge(t.Context(), tags("a")))
	requests, _ := e.seen()
	require.Len(t, requests, 1)
	require.Equal(t, []string{"Bearer hunter2hunter2"}, requests[0].Header["Authorization"])
	var sent bytes.Buffer
	require.NoError(t, requests[0].Header.Write(&sent))
	require.NotContains(t, sent.String()+requests[0].RequestURI, "stray")
	require.NotContains(t, strings.ToLower(sent.String()), "x-auth")
	require.NotContains(t, requests[0].RequestURI, "hunter2")
	trapped, _ := trap.seen()
	require.Empty(t, trapped)
}

// Every tag arrives as it is or is named as impossible, whatever bytes it has.
func TestTagsArriveByteForByte(t *testing.T) {
	e, s, _ := startSink(t)
	printable := rapid.Map(rapid.SliceOfN(rapid.ByteRange(0x21, 0x7e), 1, 30), func(b []byte) string { return string(b) })
	rapid.Check(t, func(rt *rapid.T) {
		tag := strings.ReplaceAll(printable.Draw(rt, "tag"), ",", ";")
		e.fill(tag)
		require.NoError(rt, s.Purge(t.Context(), tags(tag)))
		require.False(rt, e.holds(tag))
	})
}

func TestCallsBeyondTheLimitsSendNothing(t *testing.T) {
	e, s, _ := startSink(t)
	mixed := append(tags("a"), invalidation.Invalidation{Kind: invalidation.Everything})
	for name, batch := range map[string][]invalidation.Invalidation{
		"oversize": tags(make([]string, 101)...), "mixed": mixed, "all impossible": tags("", "a b", strings.Repeat("x", 1025)),
		"foreign":       {{Kind: invalidation.Key, Value: "product:1"}},
		"mixed by host": {{Kind: invalidation.URL, Value: "https://shop.example/"}, {Kind: invalidation.URLPrefix, Value: "shop.example/"}},
	} {
		err := s.Purge(t.Context(), batch)
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Item, class, name)
	}
	requests, _ := e.seen()
	require.Empty(t, requests)
}

func TestTokenFile(t *testing.T) {
	_, s, file := startSink(t)
	for says, write := range map[string]func() error{
		"make it readable":            func() error { return os.Remove(file) },
		"api_token_file: it is empty": func() error { return os.WriteFile(file, []byte(" \n"), 0o600) },
		"holds more than a token":     func() error { return os.WriteFile(file, []byte("hunter2hunter2\r\nX-Auth-Key: x\n"), 0o600) },
		"token is refused":            func() error { return os.WriteFile(file, []byte("hunter3hunter3"), 0o600) },
	} {
		require.NoError(t, os.WriteFile(file, []byte("hunter2hunter2\n"), 0o600))
		require.NoError(t, s.Purge(t.Context(), tags("a")))
		require.NoError(t, write())
		for _, err := range []error{s.Purge(t.Context(), tags("a")), s.Check(t.Context())} {
			require.ErrorContains(t, err, says)
			require.NotContains(t, err.Error(), "hunter")
			class, _ := sinks.ClassOf(err)
			require.Equal(t, sinks.Lane, class)
		}
	}
}

func TestErrorsTellWhatSupportAsksFor(t *testing.T) {
	e, s, _ := startSink(t)
	e.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cf-Ray", "8c0ffee8c0ffee00-FRA")
		refuse(w, 403, 10000, "Authentication error")
	})
	require.ErrorContains(t, s.Purge(t.Context(), tags("a")), "HTTP 403, code 10000, ray 8c0ffee8c0ffee00-FRA: the token is refused")
	e.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cf-Ray", "hunter2hunter2 <b>")
		refuse(w, 403, 10000, "Authentication error")
	})
	require.NotContains(t, s.Purge(t.Context(), tags("a")).Error(), "hunter2")
}

// A custom cache key has headers, so a URL is purged once for each combination.
func TestHeadersOfURLs(t *testing.T) {
	e, _, file := startSink(t)
	cfg := DefaultConfig()
	cfg.ZoneID, cfg.APITokenFile, cfg.BaseURL = zoneID, file, e.URL
	cfg.Headers = urlvariant.Headers{"CF-Device-Type": {"mobile", "desktop"}, "Origin": {"https://shop.example", ""}}
	s, err := New(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(s.Close)
	require.Equal(t, 25, s.limits.ItemsOf(invalidation.URL), "each variant counts")
	batch := []invalidation.Invalidation{
		{Kind: invalidation.URL, Value: "https://shop.example/a"},
		{Kind: invalidation.URL, Value: "https://shop.example/b CF-IPCountry=US&origin="},
	}
	for _, b := range cfg.Budgets() {
		if strings.HasSuffix(b.Share, ": urls") {
			require.Equal(t, 8, b.Cost(batch))
		}
	}
	e.set(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write([]byte(`{"success":true,"errors":[],"messages":[],"result":{"id":"x"}}`))
	})
	require.NoError(t, s.Purge(t.Context(), batch))
	_, bodies := e.seen()
	require.JSONEq(t, `{"files":[
		{"url":"https://shop.example/a","headers":{"CF-Device-Type":"mobile","Origin":"https://shop.example"}},
		{"url":"https://shop.example/a","headers":{"CF-Device-Type":"mobile"}},
		{"url":"https://shop.example/a","headers":{"CF-Device-Type":"desktop","Origin":"https://shop.example"}},
		{"url":"https://shop.example/a","headers":{"CF-Device-Type":"desktop"}},
		{"url":"https://shop.example/b","headers":{"CF-Device-Type":"mobile","CF-IPCountry":"US"}},
		{"url":"https://shop.example/b","headers":{"CF-Device-Type":"desktop","CF-IPCountry":"US"}}]}`, bodies[len(bodies)-1])

	many := strings.Split("abcdefghijk", "")
	cfg.Budget.ItemsPerRequest, cfg.Headers = 10, urlvariant.Headers{"CF-IPCountry": many}
	require.ErrorContains(t, cfg.Validate(), "headers: the lists make 11 combinations, and a request carries at most 10 URLs")
	cfg.Headers = urlvariant.Headers{"CF-IPCountry": many, "CF-Device-Type": many}
	require.ErrorContains(t, cfg.Validate(), "headers: the lists make more than 64 combinations")
}
