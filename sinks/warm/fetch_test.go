package warm

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/urlvariant"
)

func TestRequests(t *testing.T) {
	var got []*http.Request
	edge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r)
		switch r.URL.Path {
		case "/gone":
			w.WriteHeader(http.StatusNotFound)
		case "/moved":
			http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
		case "/busy":
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/large":
			_, _ = io.Copy(w, io.LimitReader(zeros{}, maxBody+5))
		}
	}))
	defer edge.Close()
	cfg := DefaultConfig()
	cfg.Base = edge.URL
	cfg.Headers = urlvariant.Headers{"Authorization": {"Bearer 1"}, "X-Device": {"desktop"}, "User-Agent": {"warmer"}}
	cfg.Variants = []urlvariant.Headers{{"Accept-Language": {"de", "en"}}, {"x-device": {"mobile"}, "Accept-Encoding": {""}}}
	f, err := NewFetcher(cfg, "shop/warm")
	require.NoError(t, err)
	defer f.Close()
	fetch := func(value string) (Answer, error) {
		t.Helper()
		p, err := f.Page(value)
		require.NoError(t, err)
		require.Equal(t, 3, p.Requests())
		return f.Fetch(t.Context(), p, 0)
	}

	t.Run("each variant, at the host of the URL, byte for byte", func(t *testing.T) {
		got = nil
		p, err := f.Page("https://Shop.Example/p/a%2Fb%20c?x=1&y=%C3%A4")
		require.NoError(t, err)
		for i := range p.Requests() {
			a, err := f.Fetch(t.Context(), p, i)
			require.NoError(t, err)
			require.True(t, a.Good())
		}
		require.Len(t, got, 3)
		for i, r := range got {
			require.Equal(t, "shop.example", r.Host)
			require.Equal(t, "/p/a%2Fb%20c?x=1&y=%C3%A4", r.RequestURI)
			require.Equal(t, "shop/warm", r.Header.Get(Header))
			require.Equal(t, "Bearer 1", r.Header.Get("Authorization"))
			require.Equal(t, "warmer", r.UserAgent())
			require.Equal(t, []string{"de", "en", ""}[i], r.Header.Get("Accept-Language"))
			require.Equal(t, []string{"desktop", "desktop", "mobile"}[i], r.Header.Get("X-Device"))
		}
		require.Equal(t, "gzip, deflate, br, zstd", got[0].Header.Get("Accept-Encoding"))
	})
	t.Run("the variant of a rule", func(t *testing.T) {
		got = nil
		p, err := f.Page(urlvariant.Variant{"X-Device": "tablet"}.Append("https://shop.example/"))
		require.NoError(t, err)
		_, err = f.Fetch(t.Context(), p, 2)
		require.NoError(t, err)
		require.Equal(t, "tablet", got[0].Header.Get("X-Device"))
		require.Equal(t, "https://shop.example/ X-Device=tablet", p.URL)
	})
	t.Run("a path is one of base", func(t *testing.T) {
		got = nil
		_, err := fetch("/p/7?a=b")
		require.NoError(t, err)
		require.Equal(t, strings.TrimPrefix(edge.URL, "http://"), got[0].Host)
		require.Equal(t, "/p/7?a=b", got[0].RequestURI)
	})
	t.Run("no redirect is followed", func(t *testing.T) {
		got = nil
		a, err := fetch("/moved")
		require.NoError(t, err)
		require.Equal(t, Answer{Status: http.StatusFound, Bytes: a.Bytes}, a)
		require.True(t, a.Good())
		require.Len(t, got, 1)
	})
	t.Run("a page that is gone is warmed", func(t *testing.T) {
		a, err := fetch("/gone")
		require.NoError(t, err)
		require.NoError(t, a.Err())
	})
	t.Run("an edge that asks for a pause", func(t *testing.T) {
		a, err := fetch("/busy")
		require.NoError(t, err)
		require.EqualError(t, a.Err(), "HTTP 503")
		require.Equal(t, 7*time.Second, a.RetryAfter)
	})
	t.Run("a huge response is cut off", func(t *testing.T) {
		a, err := fetch("/large")
		require.NoError(t, err)
		require.EqualValues(t, maxBody, a.Bytes)
	})
	t.Run("not a URL", func(t *testing.T) {
		for _, value := range []string{"", "p/7", "//elsewhere.example/", "ftp://shop.example/", "https://user:secret@shop.example/", "https://shop.example/a b", "https://shop.example/#a",
			"https://shop.example/\r\nX: y", "https:///x", "/p/7 X", "https://shop.example/" + strings.Repeat("a", maxURL)} {
			_, err := f.Page(value)
			require.Error(t, err, value)
			require.NotContains(t, err.Error(), "secret")
		}
	})
	t.Run("an edge that is down", func(t *testing.T) {
		edge.Close()
		_, err := fetch("/p/7")
		require.ErrorContains(t, err, "no answer")
		require.NotContains(t, err.Error(), "/p/7")
		require.ErrorContains(t, f.Check(t.Context()), "warm: base: no answer")
	})
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func TestTimeout(t *testing.T) {
	release := make(chan struct{})
	edge := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer edge.Close()
	defer close(release)
	cfg := DefaultConfig()
	cfg.Base, cfg.Timeout = edge.URL, time.Millisecond
	f, err := NewFetcher(cfg, "shop/warm")
	require.NoError(t, err)
	defer f.Close()
	p, err := f.Page("/")
	require.NoError(t, err)
	_, err = f.Fetch(t.Context(), p, 0)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.EqualError(t, err, "no response within 1ms: context deadline exceeded")
}

func TestBasePath(t *testing.T) {
	var got string
	edge := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.RequestURI }))
	defer edge.Close()
	cfg := DefaultConfig()
	cfg.Base = edge.URL + "/stage/"
	f, err := NewFetcher(cfg, "shop/warm")
	require.NoError(t, err)
	defer f.Close()
	p, err := f.Page("https://shop.example/p/7")
	require.NoError(t, err)
	_, err = f.Fetch(t.Context(), p, 0)
	require.NoError(t, err)
	require.Equal(t, "/stage/p/7", got)
}

func TestValidate(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"fine":              {func(*Config) {}, ""},
		"no base":           {func(c *Config) { c.Base = "" }, "base: write the address of the edge"},
		"base without host": {func(c *Config) { c.Base = "shop.example" }, "base: not an address"},
		"base with secret":  {func(c *Config) { c.Base = "https://u:secret@shop.example" }, "base: a user and a password do not belong here"},
		"base with a query": {func(c *Config) { c.Base = "https://shop.example/?secret" }, "base: a query or a fragment"},
		"no concurrency":    {func(c *Config) { c.Concurrency = 0 }, "concurrency: 0; write a number from 1 to 256"},
		"much concurrency":  {func(c *Config) { c.Concurrency = 257 }, "concurrency: 257"},
		"no rate":           {func(c *Config) { c.RequestsPerSecond = 0 }, "requests_per_second: write a number above 0"},
		"negative rate":     {func(c *Config) { c.RequestsPerSecond = -1 }, "requests_per_second"},
		"no timeout":        {func(c *Config) { c.Timeout = 0 }, "timeout: 0s; write a time above 0"},
		"long timeout":      {func(c *Config) { c.Timeout = time.Hour }, "timeout: 1h0m0s"},
		"no age":            {func(c *Config) { c.MaxAge = 0 }, "max_age: 0s"},
		"the marker":        {func(c *Config) { c.Headers = urlvariant.Headers{"walpurge-warm": {"secret"}} }, "headers: walpurge-warm: this header says something about the request itself"},
		"host":              {func(c *Config) { c.Headers = urlvariant.Headers{"Host": {"secret"}} }, "headers: Host"},
		"a conditional":     {func(c *Config) { c.Headers = urlvariant.Headers{"If-None-Match": {"secret"}} }, "headers: If-None-Match"},
		"a line break":      {func(c *Config) { c.Headers = urlvariant.Headers{"X": {"secret\n"}} }, "headers: X: value 1"},
		"a name":            {func(c *Config) { c.Headers = urlvariant.Headers{"X Y": {"secret"}} }, `headers: "X Y" is not the name of a header`},
		"twice":             {func(c *Config) { c.Headers = urlvariant.Headers{"A": {"secret"}, "a": {"secret"}} }, "headers: a: the header is named twice"},
		"an empty variant":  {func(c *Config) { c.Variants = []urlvariant.Headers{{}} }, "variants: number 1 is empty"},
		"a bad variant":     {func(c *Config) { c.Variants = []urlvariant.Headers{{"A": {"x"}}, {"Host": {"secret"}}} }, "variants: number 2: Host"},
		"many requests": {func(c *Config) {
			c.Headers = urlvariant.Headers{"A": {"1", "2", "3", "4", "5", "6", "7", "8", "9"}, "B": {"1", "2", "3", "4", "5", "6", "7", "8"}}
		}, "more than 64 requests for each page"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Base = "https://shop.example"
			tc.change(&cfg)
			err := cfg.Validate()
			if tc.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.want)
			require.NotContains(t, err.Error(), "secret")
			_, err = NewFetcher(cfg, "x")
			require.ErrorContains(t, err, "warm: ")
		})
	}
}

// Values of variables that are not set in an offline check are not compared.
func TestKnown(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Base = "${A}"
	cfg.Headers = urlvariant.Headers{"Authorization": {"${B}\n"}}
	cfg.Variants = []urlvariant.Headers{{"X": {"${C}\n", "${D}\n"}}}
	require.Error(t, cfg.Validate())
	require.NoError(t, cfg.Known(func(v string) bool { return bytes.Contains([]byte(v), []byte("${")) }).Validate())
}
