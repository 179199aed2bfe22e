package varnish

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// testVCL lets tests look into the cache without filling it. Later subs of the
// same name are appended to the earlier ones.
const testVCL = `
sub vcl_recv { if (req.http.Probe) { return (hash); } }
sub vcl_hit { if (req.http.Probe) { if (obj.ttl > 0s) { return (synth(200)); } return (synth(203)); } }
sub vcl_miss { if (req.http.Probe) { return (synth(204)); } }
sub vcl_hash {
    if (req.http.Host == "variants.example") {
        hash_data(req.http.X-Forwarded-Proto);
        hash_data(req.http.X-Device);
        hash_data(req.http.Accept-Language);
    }
}
sub vcl_backend_response { set beresp.ttl = 1h; set beresp.grace = 1h; }
`

// instance is a real Varnish with an application behind it.
type instance struct {
	addr   string
	client *http.Client
}

// documented is the VCL of the sink's page.
func documented(t testing.TB) string {
	t.Helper()
	vcl, err := harness.DocumentedVCL("../../docs/sinks/varnish.md")
	require.NoError(t, err)
	return vcl
}

// startVarnish starts a server with a VCL, in front of an application that tags
// what it answers.
func startVarnish(t testing.TB, vcl string, listen ...string) *instance {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(application))
	t.Cleanup(app.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	v, err := harness.StartVarnish(ctx, harness.VarnishConfig{VCL: vcl, Backend: app.Listener.Addr().String(), Listen: listen})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, v.Close()) })
	return &instance{addr: v.Addr(), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
}

// application answers everything, PURGE included, as some do. /v/ paths hold a
// value in base64, which is the tag if a header can carry it.
func application(w http.ResponseWriter, r *http.Request) {
	if text, ok := strings.CutPrefix(r.URL.Path, "/v/"); ok {
		if tag, err := base64.RawURLEncoding.DecodeString(text); err == nil && !strings.ContainsFunc(string(tag), unicode.IsControl) {
			w.Header().Set("Xkey", string(tag))
		}
	}
	_, _ = io.WriteString(w, "page")
}

// pathOf is where the application has the entry of a tag. The longest values
// stay in front of what a request line can hold.
func pathOf(value string) string {
	path := "/v/" + base64.RawURLEncoding.EncodeToString([]byte(value))
	return path[:min(len(path), 4000)]
}

func (s *instance) get(t testing.TB, ctx context.Context, host, path string, probe bool, headers ...string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	require.NoError(t, err)
	req.Host = host
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	if probe {
		req.Header.Set("Probe", "1")
	}
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(t, err)
	return resp.StatusCode
}

const shop = "shop.example"

func (s *instance) fill(t testing.TB, host string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		require.Equal(t, http.StatusOK, s.get(t, context.Background(), host, p, false), fmt.Sprint(len(p)))
	}
}

// The states of an entry.
const (
	fresh  = http.StatusOK
	stale  = http.StatusNonAuthoritativeInfo
	absent = http.StatusNoContent
)

func (s *instance) state(t testing.TB, host, path string) int {
	t.Helper()
	return s.get(t, context.Background(), host, path, true)
}
