package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// TestForeignHosts: a page whose name points at the listener (DNS rebinding) counts as the listener's own origin. It gets nothing
// but what tells nothing.
func TestForeignHosts(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("open-sesame"), 0o600))
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // events and tail would not end
	answers := func(d *daemon, method, path, host, bearer string) int {
		t.Helper()
		r := httptest.NewRequest(method, path, nil).WithContext(ctx)
		r.Host = host
		if bearer != "" {
			r.Header.Set("Authorization", "Bearer "+bearer)
		}
		w := httptest.NewRecorder()
		d.server().handler.ServeHTTP(w, r)
		return w.Code
	}
	open := &daemon{wait: func(context.Context, cdc.LSN, string) error { return nil }}
	locked := &daemon{wait: open.wait, token: token}
	foreign := []string{"rebind.example", "rebind.example:7468", "localhost.rebind.example", "127.0.0.1.nip.io:7468", "localhost.:7468", "", "@127.0.0.1", "127.0.0.1,rebind.example"}
	for _, path := range []string{
		"/", "/page/page.js", "/api/v1/status", "/api/v1/wait?lsn=0/1", "/api/v1/events", "/api/v1/parked", "/api/v1/parked?sink=cache", "/api/v1/tail", "//", "/api/v1/nothing",
		"/metrics/", "/-/healthy/..%2f..%2fapi/v1/parked",
	} {
		for _, host := range foreign {
			for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodOptions} {
				require.Equal(t, http.StatusForbidden, answers(open, method, path, host, ""), "%s %s as %q", method, path, host)
				require.Equal(t, http.StatusForbidden, answers(locked, method, path, host, "wrong"), "%s %s as %q", method, path, host)
			}
		}
		require.NotEqual(t, http.StatusForbidden, answers(open, http.MethodGet, path, "127.0.0.1:7468", ""), path)
		require.NotEqual(t, http.StatusForbidden, answers(open, http.MethodGet, path, "10.0.0.5:7468", ""), path)
		require.NotEqual(t, http.StatusForbidden, answers(open, http.MethodGet, path, "localhost:7468", ""), path)
		require.NotEqual(t, http.StatusForbidden, answers(locked, http.MethodGet, path, "walpurge.internal:7468", "open-sesame"), "who has the token is no page")
	}
	for _, path := range forOthers {
		require.Equal(t, http.StatusOK, answers(open, http.MethodGet, path, "walpurge.internal:7468", ""), path)
		require.Equal(t, http.StatusForbidden, answers(open, http.MethodPost, path, "walpurge.internal:7468", ""), path)
	}
}

// TestForwardedCalls: a proxy on this machine connects from loopback, for every client that it forwards.
func TestForwardedCalls(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("open-sesame"), 0o600))
	for _, name := range []string{
		"Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Server", "X-Forwarded", "X-Real-IP", "X-Original-Forwarded-For",
		"X-Client-IP", "X-Cluster-Client-IP", "True-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP", "Fly-Client-IP", "CDN-Loop", "X-Envoy-External-Address", "x-forwarded-for",
		"X_Forwarded_For", "x_real_ip", "Proxy-Client-IP", "WL-Proxy-Client-IP", "Front-End-Https", "Incap-Client-IP", "X-Vercel-Forwarded-For", "X-Sucuri-ClientIP", "X-Scheme", "Remote-Addr",
	} {
		for _, value := range []string{"203.0.113.7", "127.0.0.1", ""} {
			d := &daemon{}
			r := reload()
			r.Header.Set(name, value)
			code, body, h := do(t, d, r)
			require.Equal(t, http.StatusUnauthorized, code, "%s: %s", name, value)
			require.Contains(t, isError(t, body, h), "set http.token_file to allow this through a proxy")
			require.Zero(t, d.reloads)
			d.token = token
			r = reload()
			r.Header.Set(name, value)
			r.Header.Set("Authorization", "Bearer open-sesame")
			code, _, _ = do(t, d, r)
			require.Equal(t, http.StatusOK, code, name)
		}
	}
}

// What browsers and clients send of themselves is not taken for a proxy's.
func TestDirectCalls(t *testing.T) {
	d := &daemon{}
	r := reload()
	for _, name := range []string{
		"Accept", "Accept-Encoding", "Accept-Language", "Cache-Control", "Connection", "Content-Length", "Cookie", "Dnt", "Pragma", "Priority", "Te", "User-Agent", "Traceparent",
		"Sec-Ch-Ua", "Sec-Fetch-Dest", "Sec-Gpc", "Idempotency-Key",
	} {
		r.Header.Set(name, "1")
	}
	code, body, _ := do(t, d, r)
	require.Equal(t, http.StatusOK, code, body)
}

func TestTailsHaveSoManySeats(t *testing.T) {
	s := (&daemon{hand: hand{tail: func(ctx context.Context, each func([]byte) error) error {
		_ = each(nil)
		<-ctx.Done()
		return nil
	}}}).server()
	url, stop := run(t, s)
	defer stop()
	var all []*http.Response
	tail := func() *http.Response {
		resp, err := http.Get(url + "/api/v1/tail")
		require.NoError(t, err)
		all = append(all, resp)
		return resp
	}
	for range maxTails {
		require.Equal(t, http.StatusOK, tail().StatusCode)
	}
	late := tail()
	require.Equal(t, http.StatusServiceUnavailable, late.StatusCode)
	require.NotEmpty(t, late.Header.Get("Retry-After"))
	require.NoError(t, all[0].Body.Close())
	require.Eventually(t, func() bool { return len(s.tails) < maxTails }, 30*time.Second, time.Millisecond, "who leaves gives up the seat")
	require.Equal(t, http.StatusOK, tail().StatusCode)
	for _, resp := range all {
		_ = resp.Body.Close()
	}
}

func TestATailThatIsNotReadEnds(t *testing.T) {
	ended := make(chan error, 1)
	s := (&daemon{hand: hand{tail: func(_ context.Context, each func([]byte) error) error {
		err := each(nil)
		for payload := make([]byte, 1<<20); err == nil; {
			err = each(payload)
		}
		ended <- err
		return err
	}}}).server()
	s.watchers.patience = 50 * time.Millisecond
	url, stop := run(t, s)
	defer stop()
	resp, err := http.Get(url + "/api/v1/tail")
	require.NoError(t, err)
	defer resp.Body.Close()
	select {
	case err := <-ended:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-time.After(30 * time.Second):
		require.Fail(t, "a client that does not read holds the daemon's goroutine")
	}
}
