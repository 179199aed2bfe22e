package bunny

import (
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func started(t *testing.T, change func(*Config)) (*service, *Sink) {
	t.Helper()
	s := startService(t, "token")
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("token"), 0o600))
	cfg := DefaultConfig()
	if change != nil {
		change(&cfg)
	}
	return s, openSink(t, cfg, s.URL, file, slog.New(slog.DiscardHandler))
}

func TestRequests(t *testing.T) {
	s, sink := started(t, nil)
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Tag, `a"b`)))
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Everything, "")))
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.URL, "https://shop.example/p/a%20b?x=1&y=%26")))
	bodies, queries := s.seen()
	require.Equal(t, []string{`{"CacheTag":"a\"b"}`, ""}, bodies)
	require.Equal(t, []url.Values{{"url": {"https://shop.example/p/a%20b?x=1&y=%26"}, "async": {"false"}}}, queries)
}

// A response with several tags has them in one header, and the API compares the whole of it.
func TestTagPattern(t *testing.T) {
	s, sink := started(t, func(c *Config) { c.TagPattern = "*,{tag},*" })
	s.fill(",product-7,merchant-1,", ",product-70,", ",merchant-1,")
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Tag, "product-7")))
	require.False(t, s.has(",product-7,merchant-1,"))
	require.True(t, s.has(",product-70,"))
	err := sink.Purge(t.Context(), batchOf(invalidation.Tag, "product-*"))
	class, _ := sinks.ClassOf(sinks.ItemError(err))
	require.Equal(t, sinks.Item, class)
	require.ErrorContains(t, err, "wildcard")
	require.True(t, s.has(",product-70,"))
}

// Nothing that a row can put into a value purges more than that value.
func TestNoValueIsAWildcard(t *testing.T) {
	cfg, exact := DefaultConfig(), DefaultConfig()
	exact.ExactPaths = true
	tag := func(v string) error {
		return cfg.Accepts(invalidation.Invalidation{Kind: invalidation.Tag, Value: v})
	}
	page := func(c *Config, v string) error {
		return c.Accepts(invalidation.Invalidation{Kind: invalidation.URL, Value: v})
	}
	for _, v := range []string{"", " ", "*", "a*", "*a", "a*b", "a,b", "a b", "\t", "a\n", "ü", "\xff", strings.Repeat("a", 1025)} {
		require.Error(t, tag(v), "%q", v)
	}
	for _, v := range []string{"a", "a?", "[a-z]", "a%2A", `a"b`, `\`, "null", strings.Repeat("a", 1024)} {
		require.NoError(t, tag(v), "%q", v)
	}
	for _, v := range []string{
		"", "*", "https://*/a", "https://h/*", "https://h/a*", "https://h/a*b", "https://h/a?b=*", "https://h/%2A", "https://h/a?b=%2a",
		"https://h/a/../b", "https://h/%2e%2e/b", "https://u:p@h/a", "https://h/a#b", "//h/a", "h/a", "https://h/a b", "ftp://h/a",
	} {
		require.Error(t, page(&cfg, v), "%q", v)
		require.Error(t, page(&exact, v), "%q", v)
	}
	for _, v := range []string{"https://h", "https://h/", "https://h/a/", "https://h/a/?b=c", "https://h/a%2F", "https://h/a%2f?b=/"} {
		require.ErrorContains(t, page(&cfg, v), "ends with a slash", "%q", v)
		require.NoError(t, page(&exact, v), "%q", v)
	}
	for _, v := range []string{"https://h/a", "https://h/a?b=c/", "http://h:8080/a/b?c"} {
		require.NoError(t, page(&cfg, v), "%q", v)
	}
}

func TestExactPaths(t *testing.T) {
	s, sink := started(t, func(c *Config) { c.ExactPaths = true })
	s.fill("https://shop.example/", "https://shop.example/a")
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.URL, "https://shop.example/")))
	require.False(t, s.has("https://shop.example/"))
	require.True(t, s.has("https://shop.example/a"))
}

func TestCheck(t *testing.T) {
	s, sink := started(t, func(c *Config) { c.ExactPaths = true })
	s.fill("a")
	require.NoError(t, sink.Check(t.Context()))
	require.True(t, s.has("a"), "a check purges nothing")
	for says, zone := range map[string]map[string]any{
		"exact_paths has no effect":             {"Id": 4711, "IgnoreQueryStrings": true},
		"purges by tag do not work":             {"Id": 4711, "PermaCacheStorageZoneId": 7},
		"the answer is not about the pull zone": {"Id": 12},
	} {
		s.mu.Lock()
		s.zone = zone
		s.mu.Unlock()
		require.ErrorContains(t, sink.Check(t.Context()), says)
	}
	s.mu.Lock()
	s.zone = map[string]any{"Id": 4711, "PermaCacheStorageZoneId": 7}
	s.mu.Unlock()
	urls := sink.cfg.Using(invalidation.Kinds(invalidation.URL)).(*Config)
	other := openSink(t, *urls, s.URL, sink.cfg.APITokenFile, slog.New(slog.DiscardHandler))
	require.NoError(t, other.Check(t.Context()), "it sends no tags")
	s.mu.Lock()
	s.token = "another"
	s.mu.Unlock()
	err := sink.Check(t.Context())
	require.ErrorContains(t, err, "the API key is refused")
}

func TestValidate(t *testing.T) {
	cfg := Config{PullZoneID: "shop", TagPattern: "tag", BaseURL: "http://elsewhere", Budget: Budget{RequestsPerSecond: -1, Burst: -1}}
	for _, key := range []string{"pull_zone_id", "api_token_file", "tag_pattern", "base_url", "limits.requests_per_second", "limits.burst"} {
		require.ErrorContains(t, cfg.Validate(), key+":")
	}
	cfg = DefaultConfig()
	cfg.PullZoneID, cfg.APITokenFile = "1", "t"
	require.NoError(t, cfg.Validate())
	require.Equal(t, 5.0, cfg.Budgets()[0].PerSecond)
	require.Equal(t, 3, cfg.Budgets()[0].Cost(batchOf(invalidation.Tag, "a", "b", "c")))
}
