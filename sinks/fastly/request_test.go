package fastly

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func startSink(t *testing.T, cfg Config) (*service, *Sink, string) {
	s := startService(t, "hunter2hunter2")
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte("hunter2hunter2"), 0o600))
	return s, openSink(t, cfg, s.URL, file, slog.New(slog.DiscardHandler)), file
}

func TestRequests(t *testing.T) {
	s, sink, _ := startSink(t, DefaultConfig())
	s.fill("a")
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Tag, "product-1", `a"b\<&>`, "a,b")))
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.URL, "https://Shop.example:8443/p/a%2Fb?c=d&e", "http://shop.example?q")))
	require.True(t, s.stored("a"))
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Everything, "", "")))
	require.False(t, s.stored("a"))
	requests, bodies := s.seen()
	require.Len(t, requests, 4)
	require.Equal(t, "/service/"+serviceID+"/purge", requests[0].RequestURI)
	require.JSONEq(t, `{"surrogate_keys":["product-1","a\"b\\<&>","a,b"]}`, bodies[0])
	require.ElementsMatch(t, []string{"/purge/Shop.example:8443/p/a%2Fb?c=d&e", "/purge/shop.example/?q"}, []string{requests[1].RequestURI, requests[2].RequestURI})
	require.Equal(t, "/service/"+serviceID+"/purge_all", requests[3].RequestURI)
	for i, r := range requests {
		require.Equal(t, "hunter2hunter2", r.Header.Get("Fastly-Key"))
		require.Empty(t, r.Header.Get("Fastly-Soft-Purge"))
		require.NotContains(t, r.RequestURI+bodies[i], "hunter2")
	}
}

// A soft purge leaves the object to be served while it is fetched again.
func TestSoftPurges(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Soft = true
	s, sink, _ := startSink(t, cfg)
	s.fill("a", "shop.example/b", "c")
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Tag, "a")))
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.URL, "https://shop.example/b")))
	for _, v := range []string{"a", "shop.example/b"} {
		require.True(t, s.stored(v))
		require.False(t, s.fresh(v))
	}
	require.True(t, s.fresh("c"))
	require.NoError(t, sink.Purge(t.Context(), batchOf(invalidation.Everything, "")), "everything cannot be soft")
	require.False(t, s.stored("a"))
}

func TestCallsBeyondTheLimitsSendNothing(t *testing.T) {
	s, sink, _ := startSink(t, DefaultConfig())
	for name, batch := range map[string][]invalidation.Invalidation{
		"oversize":       batchOf(invalidation.Tag, make([]string, 257)...),
		"oversize URLs":  batchOf(invalidation.URL, make([]string, urlsPerCall+1)...),
		"mixed":          append(batchOf(invalidation.Tag, "a"), batchOf(invalidation.Everything, "")...),
		"all impossible": batchOf(invalidation.Tag, "", "a b", strings.Repeat("x", 1025)),
		"foreign":        batchOf(invalidation.URLPrefix, "shop.example/a"),
		"elsewhere":      batchOf(invalidation.URL, "https://shop.example/../../service/"+serviceID+"/purge_all", "https://shop.example/%2e%2E/x", "//shop.example/"),
	} {
		class, _ := sinks.ClassOf(sink.Purge(t.Context(), batch))
		require.Equal(t, sinks.Item, class, name)
	}
	requests, _ := s.seen()
	require.Empty(t, requests)
}

func TestPauseUntilTheWindowIsRenewed(t *testing.T) {
	now := time.Unix(1763640000, 0)
	a := answer{status: 429, header: map[string][]string{"Fastly-Ratelimit-Reset": {"1763640090"}}}
	class, after := sinks.ClassOf(a.verdict(now))
	require.Equal(t, sinks.Throttled, class)
	require.Equal(t, 90*time.Second, after)
}

func TestCheck(t *testing.T) {
	cfg := DefaultConfig()
	cfg.FlushesAll = true
	s, sink, file := startSink(t, cfg)
	require.NoError(t, sink.Check(t.Context()))
	for says, change := range map[string]func(){
		"lacks the scope purge_all":      func() { s.scope = "purge_select" },
		"lacks the scope purge_select":   func() { s.scope = "purge_all global:read" },
		"not for this service":           func() { s.services = []string{"other"} },
		"the token is refused":           func() { s.token = "another" },
		"the API does not know the serv": func() { sink.cfg.ServiceID = "other" },
	} {
		s.mu.Lock()
		s.scope, s.services, s.token = "global", []string{serviceID}, "hunter2hunter2"
		sink.cfg.ServiceID = serviceID
		s.mu.Unlock()
		require.NoError(t, sink.Check(t.Context()), "a global token may do all")
		s.mu.Lock()
		change()
		if says == "the API does not know the serv" {
			s.services = nil
		}
		s.mu.Unlock()
		err := sink.Check(t.Context())
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		class, _ := sinks.ClassOf(err)
		require.Equal(t, sinks.Lane, class)
	}
	require.NoError(t, os.Remove(file))
	require.ErrorContains(t, sink.Check(t.Context()), "make it readable")
}

func TestConfig(t *testing.T) {
	valid := DefaultConfig()
	valid.ServiceID, valid.APITokenFile = serviceID, "/run/secrets/fastly"
	require.NoError(t, valid.Validate())
	for says, change := range map[string]func(*Config){
		"service_id: write":            func(c *Config) { c.ServiceID = "../hunter2" },
		"api_token_file: name":         func(c *Config) { c.APITokenFile = "" },
		"base_url: ":                   func(c *Config) { c.BaseURL = "hunter2" },
		"limits.requests_per_second: ": func(c *Config) { c.Budget.RequestsPerSecond = -1 },
		"limits.burst: ":               func(c *Config) { c.Budget.Burst = -1 },
		"from 1 to 256":                func(c *Config) { c.Budget.ItemsPerRequest = 257 },
	} {
		c := valid
		change(&c)
		err := c.Validate()
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "hunter2")
		_, err = New(c, nil)
		require.ErrorContains(t, err, says)
	}
	b := valid.Budgets()[0]
	require.Less(t, b.PerSecond*3600+float64(b.Burst), 100_000.0)
	require.Equal(t, 1, b.Cost(batchOf(invalidation.Tag, "a", "b")))
	require.Equal(t, 2, b.Cost(batchOf(invalidation.URL, "a", "b")))
	other := valid
	other.Budget = Budget{RequestsPerSecond: 3, Burst: 4, ItemsPerRequest: 5, Account: "main"}
	require.Equal(t, 5, other.Limits().ItemsOf(invalidation.Tag))
	require.Equal(t, 3.0, other.Budgets()[0].PerSecond)
	require.Equal(t, 4, other.Budgets()[0].Burst)
	require.NotEqual(t, b.Share, other.Budgets()[0].Share)
}
