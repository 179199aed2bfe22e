package varnish

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"
)

// testVCL lets tests look into the cache without filling it. Later subs of the
// same name are appended to the earlier ones.
const testVCL = `
sub vcl_recv { if (req.http.Probe) { return (hash); } }
sub vcl_hit { if (req.http.Probe) { if (obj.ttl > 0s) { return (synth(200)); } return (synth(203)); } }
sub vcl_miss { if (req.http.Probe) { return (synth(204)); } }
sub vcl_backend_response { set beresp.ttl = 1h; set beresp.grace = 1h; }
`

// instance is a real Varnish with an application behind it.
type instance struct {
	addr   string
	client *http.Client
}

// documented is the VCL of docs/varnish.md.
func documented(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/varnish.md")
	require.NoError(t, err)
	_, vcl, found := strings.Cut(string(text), "\n```vcl\n")
	require.True(t, found)
	vcl, _, _ = strings.Cut(vcl, "\n```\n")
	return vcl
}

func findVarnish(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"varnishd", "/usr/sbin/varnishd", "/usr/local/sbin/varnishd"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatal("varnishd is not installed: apt-get install varnish varnish-modules")
	return ""
}

// startVarnish starts a server with a VCL, in front of an application that tags
// what it answers.
func startVarnish(t testing.TB, vcl string) *instance {
	t.Helper()
	binary := findVarnish(t)
	app := httptest.NewServer(http.HandlerFunc(application))
	t.Cleanup(app.Close)
	vcl = strings.Replace(vcl, `.port = "8080"`, `.port = "`+strconv.Itoa(app.Listener.Addr().(*net.TCPAddr).Port)+`"`, 1)
	for range 5 {
		dir := t.TempDir()
		file := filepath.Join(dir, "test.vcl")
		require.NoError(t, os.WriteFile(file, []byte(vcl), 0o600))
		s := &instance{addr: freeAddr(t), client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}
		// Without a jail: the directory is the test's alone.
		cmd := exec.Command(binary, "-F", "-j", "none", "-n", filepath.Join(dir, "work"), "-f", file, "-a", s.addr,
			"-s", "malloc,32m", "-p", "thread_pools=1", "-p", "thread_pool_min=10")
		if s.run(t, cmd) {
			return s
		}
	}
	t.Fatal("no varnishd came up on five free ports")
	return nil
}

// run reports whether the server came up; another process may have taken the port.
func (s *instance) run(t testing.TB, cmd *exec.Cmd) bool {
	var said strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &said
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		select {
		case <-done:
			t.Logf("varnishd ended: %s", said.String())
			return false
		case <-time.After(20 * time.Millisecond):
		}
		if resp, err := s.client.Get("http://" + s.addr + "/up"); err == nil {
			_ = resp.Body.Close()
			return true
		}
	}
	return false
}

func freeAddr(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	return l.Addr().String()
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

func (s *instance) get(t testing.TB, ctx context.Context, host, path string, probe bool) int {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.addr+path, nil)
	require.NoError(t, err)
	req.Host = host
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
