package admin

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/cdc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// daemon is what the listener shows.
type daemon struct {
	ill, notReady, notStreaming, reloadErr error
	reloads                                int
	wait                                   func(ctx context.Context, lsn cdc.LSN, sink string) error
	token                                  string
	hand                                   hand
}

func (d *daemon) server() *Server {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewBuildInfoCollector())
	return New(Config{
		Status:    func(context.Context) any { return map[string]string{"summary": "FRESH"} },
		Healthy:   func() error { return d.ill },
		Ready:     func() error { return d.notReady },
		Streaming: func() error { return d.notStreaming },
		Reload:    func(context.Context) error { d.reloads++; return d.reloadErr },
		Wait:      func(ctx context.Context, lsn cdc.LSN, sink string) error { return d.wait(ctx, lsn, sink) },
		Hand:      &d.hand,
		Explain:   func(_ context.Context, change []byte) (any, error) { return d.hand.explain(change) },
		Registry:  reg, TokenFile: d.token, Logger: slog.New(slog.DiscardHandler),
	})
}

// do sends a request to the handler; the body is returned as text.
func do(t *testing.T, d *daemon, r *http.Request) (int, string, http.Header) {
	t.Helper()
	if r.Host == "example.com" { // what httptest writes
		r.Host = "127.0.0.1:7468"
	}
	w := httptest.NewRecorder()
	d.server().handler.ServeHTTP(w, r)
	return w.Code, w.Body.String(), w.Header()
}

// isError checks that an answer is an error in JSON and returns its text.
func isError(t *testing.T, body string, h http.Header) string {
	t.Helper()
	var e map[string]string
	require.NoError(t, json.Unmarshal([]byte(body), &e), "%s", body)
	require.Len(t, e, 1)
	require.Equal(t, "application/json", h.Get("Content-Type"))
	return e["error"]
}

func TestProbes(t *testing.T) {
	no := errors.New("reader is connecting: no route to host")
	for _, c := range []struct {
		d    daemon
		path string
		code int
		body string
	}{
		{daemon{notReady: no, notStreaming: no}, "/-/healthy", 200, "OK\n"},
		{daemon{ill: no}, "/-/healthy", 503, no.Error() + "\n"},
		{daemon{}, "/-/ready", 200, "OK\n"},
		{daemon{notStreaming: no}, "/-/ready", 200, "OK\n"},
		{daemon{notReady: no}, "/-/ready", 503, no.Error() + "\n"},
		{daemon{}, "/-/streaming", 200, "OK\n"},
		{daemon{notStreaming: no}, "/-/streaming", 503, no.Error() + "\n"},
	} {
		code, body, _ := do(t, &c.d, httptest.NewRequest("GET", c.path, nil))
		require.Equal(t, c.code, code, c.path)
		require.Equal(t, c.body, body, c.path)
	}
}

func TestStatusAndMetrics(t *testing.T) {
	code, body, h := do(t, &daemon{}, httptest.NewRequest("GET", "/api/v1/status", nil))
	require.Equal(t, 200, code)
	require.JSONEq(t, `{"summary": "FRESH"}`, body)
	require.Equal(t, "no-store", h.Get("Cache-Control"))
	code, body, _ = do(t, &daemon{}, httptest.NewRequest("GET", "/metrics", nil))
	require.Equal(t, 200, code)
	require.Contains(t, body, "go_build_info")
}

func TestWait(t *testing.T) {
	var lsn cdc.LSN
	var sink string
	calls := 0
	d := &daemon{wait: func(ctx context.Context, l cdc.LSN, s string) error {
		lsn, sink = l, s
		switch s {
		case "none":
			return &NotFoundError{What: "sink none"}
		case "slow":
			<-ctx.Done()
			return ctx.Err()
		case "leaderless":
			return &ParkedUnknownError{Err: io.EOF}
		case "leaderless, then slow":
			if calls++; calls == 1 {
				return &ParkedUnknownError{Err: io.EOF}
			}
			<-ctx.Done()
			return ctx.Err()
		case "a leader is elected":
			if calls++; calls < 3 {
				return &ParkedUnknownError{Err: io.EOF}
			}
		case "led":
			<-ctx.Done()
			return &StandbyError{Leader: cdc.Leader{Address: "10.0.0.7:7468", Host: "node-a"}}
		case "stuck":
			<-ctx.Done()
			return &BlockedError{Sink: s, Why: "purges of tags fail"}
		}
		return nil
	}}
	get := func(query string) (int, string, http.Header) {
		return do(t, d, httptest.NewRequest("GET", "/api/v1/wait?"+query, nil))
	}
	code, body, _ := get("lsn=0/16B3748&sink=cache&timeout=1s")
	require.Equal(t, 200, code)
	require.JSONEq(t, `{"purged": true, "lsn": "0/16B3748"}`, body)
	require.Equal(t, cdc.LSN(0x16B3748), lsn)
	require.Equal(t, "cache", sink)

	code, body, h := get("lsn=0/1&sink=slow&timeout=10ms")
	require.Equal(t, 504, code)
	require.Equal(t, "not purged up to 0/1 within 10ms", isError(t, body, h))
	code, body, _ = get("lsn=0/1&sink=led&timeout=10ms")
	require.Equal(t, 504, code)
	require.JSONEq(t, `{"error": "what is purged up to 0/1 is not known here: this process stands by: 10.0.0.7:7468 on host node-a leads; call that one, with --addr 10.0.0.7:7468",
		"leader": {"address": "10.0.0.7:7468", "host": "node-a"}}`, body)
	code, body, h = get("lsn=0/1&sink=stuck&timeout=10ms")
	require.Equal(t, 504, code)
	require.Equal(t, "not purged up to 0/1 within 10ms; sink stuck: purges of tags fail", isError(t, body, h))
	for _, sink := range []string{"sink=leaderless&timeout=10ms", "sink=leaderless,+then+slow&timeout=250ms"} {
		code, body, h = get("lsn=0/1&" + sink)
		require.Equal(t, 504, code)
		require.Equal(t, "purged up to 0/1, but whether anything is parked below cannot be read: EOF", isError(t, body, h))
	}
	calls = 0
	code, body, _ = get("lsn=0/1&sink=a+leader+is+elected&timeout=5m")
	require.Equal(t, 200, code, body)
	code, body, h = get("lsn=0/1&sink=none")
	require.Equal(t, 404, code)
	require.Equal(t, "there is no sink none", isError(t, body, h))
	for _, bad := range []string{"", "lsn=17", "lsn=0/1&timeout=soon", "lsn=0/1&timeout=0s", "lsn=0/1&timeout=-1s", "lsn=0/1&timeout=5m1s"} {
		code, body, h = get(bad)
		require.Equal(t, 400, code, bad)
		require.NotEmpty(t, isError(t, body, h))
	}
}

// reload is a request that is in order, unless a test changes it.
func reload() *http.Request {
	r := httptest.NewRequest("POST", "http://127.0.0.1:7468/-/reload", strings.NewReader("{}"))
	r.Header.Set("Content-Type", "application/json; charset=utf-8")
	r.RemoteAddr = "127.0.0.1:5555"
	return r
}

func TestReload(t *testing.T) {
	d := &daemon{}
	code, body, _ := do(t, d, reload())
	require.Equal(t, 200, code)
	require.JSONEq(t, `{"reloaded": true}`, body)
	require.Equal(t, 1, d.reloads)
	d.reloadErr = errors.New("rules.yaml:3:1: unknown key")
	code, body, h := do(t, d, reload())
	require.Equal(t, 422, code)
	require.Equal(t, "rules.yaml:3:1: unknown key", isError(t, body, h))
	code, _, _ = do(t, d, httptest.NewRequest("GET", "/-/reload", nil))
	require.Equal(t, 405, code)
}

func TestWhoMayReload(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(token, []byte("open-sesame\n"), 0o600))
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("\n"), 0o600))
	header := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set(name, value) }
	}
	host := func(h string) func(*http.Request) { return func(r *http.Request) { r.Host = h } }
	from := func(a string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = a } }
	for _, c := range []struct {
		name   string
		token  string
		change func(*http.Request)
		code   int
		text   string
	}{
		{"another site", "", header("Sec-Fetch-Site", "cross-site"), 403, "another origin"},
		{"another origin", "", header("Origin", "http://shop.example"), 403, "another origin"},
		{"the same origin", "", header("Origin", "http://127.0.0.1:7468"), 200, ""},
		{"foreign host", "", host("rebind.example:7468"), 403, "by its IP address or as localhost"},
		{"no host", "", host(""), 403, "by its IP address or as localhost"},
		{"localhost", "", host("localhost:7468"), 200, ""},
		{"IPv6", "", host("[::1]:7468"), 200, ""},
		{"IPv6 without a port", "", host("[::1]"), 200, ""},
		{"a form", "", header("Content-Type", "application/x-www-form-urlencoded"), 415, "Content-Type: application/json"},
		{"no type", "", func(r *http.Request) { r.Header.Del("Content-Type") }, 415, "Content-Type: application/json"},
		{"another machine without a token", "", from("10.0.0.9:5555"), 401, "set http.token_file"},
		{"an unknown address", "", from("@"), 401, "set http.token_file"},
		{"IPv6 loopback", "", from("[::1]:5555"), 200, ""},
		{"no token", token, func(*http.Request) {}, 401, "Authorization: Bearer"},
		{"wrong token", token, header("Authorization", "Bearer open-sesam"), 401, "Authorization: Bearer"},
		{"wrong token of the same length", token, header("Authorization", "Bearer open-sesamE"), 401, "Authorization: Bearer"},
		{"not a bearer", token, header("Authorization", "open-sesame"), 401, "Authorization: Bearer"},
		{"the token", token, header("Authorization", "Bearer open-sesame"), 200, ""},
		{"the token from another machine", token, func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer open-sesame")
			r.RemoteAddr = "10.0.0.9:5555"
		}, 200, ""},
		{"an empty token file", empty, header("Authorization", "Bearer "), 401, "Authorization: Bearer"},
		{"no token file", token + "gone", header("Authorization", "Bearer open-sesame"), 401, "cannot be read"},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := &daemon{token: c.token}
			r := reload()
			c.change(r)
			code, body, h := do(t, d, r)
			require.Equal(t, c.code, code, "%s", body)
			if c.code == 200 {
				require.Equal(t, 1, d.reloads)
				return
			}
			require.Zero(t, d.reloads)
			text := isError(t, body, h)
			require.Contains(t, text, c.text)
			require.NotContains(t, text, "sesame")
		})
	}
}

// run serves on a real listener and returns its address and what stops it.
func run(t *testing.T, s *Server) (url string, stop func()) {
	t.Helper()
	return runFront(t, NewFront(s))
}

func runFront(t *testing.T, f *Front) (url string, stop func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, l) }()
	return "http://" + l.Addr().String(), func() {
		cancel()
		require.NoError(t, <-done)
		http.DefaultClient.CloseIdleConnections()
	}
}

// The time that a request may take to come in does not bound its answer.
func TestAWaitOutlivesTheReadTimeout(t *testing.T) {
	release := make(chan struct{})
	d := &daemon{wait: func(ctx context.Context, _ cdc.LSN, _ string) error {
		select {
		case <-release:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}
	f := NewFront(d.server())
	f.http.ReadTimeout = 50 * time.Millisecond
	url, stop := runFront(t, f)
	defer stop()
	time.AfterFunc(300*time.Millisecond, func() { close(release) })
	resp, err := http.Get(url + "/api/v1/wait?lsn=0/1&timeout=30s")
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, 200, resp.StatusCode, "%s", body)
}

// A wait that a reload overtakes goes on at the pipeline of the new configuration, since the old one
// never gets there. What the old one says while it stops is no answer.
func TestAWaitGoesOnAtTheNextServer(t *testing.T) {
	for name, stopping := range map[string]error{"the old one stops": context.Canceled, "it cannot read what is parked": &ParkedUnknownError{Err: io.EOF}} {
		t.Run(name, func(t *testing.T) {
			began, stop := make(chan struct{}, 100), make(chan struct{})
			old := &daemon{wait: func(ctx context.Context, _ cdc.LSN, _ string) error {
				began <- struct{}{}
				select {
				case <-stop:
				case <-ctx.Done():
				}
				return stopping
			}}
			asked := make(chan cdc.LSN, 1)
			next := &daemon{wait: func(_ context.Context, lsn cdc.LSN, _ string) error {
				asked <- lsn
				return nil
			}}
			f := NewFront(old.server())
			url, end := runFront(t, f)
			defer end()
			code := make(chan int, 1)
			go func() {
				resp, err := http.Get(url + "/api/v1/wait?lsn=0/7&timeout=4m")
				if err != nil {
					code <- 0
					return
				}
				resp.Body.Close()
				code <- resp.StatusCode
			}()
			<-began
			close(stop)
			<-began // it is asked again, since its time is not up
			f.Exchange(next.server())
			require.Equal(t, cdc.LSN(7), <-asked)
			require.Equal(t, http.StatusOK, <-code)
		})
	}
}

func TestRunEndsAndCutsWhatHangs(t *testing.T) {
	began := make(chan struct{})
	d := &daemon{wait: func(ctx context.Context, _ cdc.LSN, _ string) error {
		close(began)
		<-ctx.Done()
		return ctx.Err()
	}}
	url, stop := run(t, d.server())
	failed := make(chan error, 1)
	go func() {
		resp, err := http.Get(url + "/api/v1/wait?lsn=0/1&timeout=4m")
		if err == nil {
			resp.Body.Close()
		}
		failed <- err
	}()
	<-began
	start := time.Now()
	stop()
	require.Less(t, time.Since(start), time.Minute, "the request may wait four")
	require.Error(t, <-failed)
}

func TestAListenerThatFailsIsAnError(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	require.ErrorContains(t, NewFront((&daemon{}).server()).Run(t.Context(), l), "http listener")
}

// What answers is exchanged without a gap: no connection is refused, who follows the
// old one is sent away, and a request that the old one answers is answered.
func TestExchange(t *testing.T) {
	asked, release := make(chan struct{}), make(chan struct{})
	first := (&daemon{wait: func(context.Context, cdc.LSN, string) error { close(asked); <-release; return nil }}).server()
	f := NewFront(first)
	url, stop := runFront(t, f)
	defer stop()
	waited := make(chan int, 1)
	go func() {
		resp, err := http.Get(url + "/api/v1/wait?lsn=0/1")
		if err != nil {
			waited <- 0
			return
		}
		resp.Body.Close()
		waited <- resp.StatusCode
	}()
	<-asked
	resp, lines := follow(t, url)
	defer resp.Body.Close()
	require.True(t, lines.Scan())
	f.Exchange((&daemon{notReady: errors.New("another one")}).server())
	for lines.Scan() {
	}
	require.NoError(t, lines.Err())
	close(release)
	require.Equal(t, 200, <-waited)
	ready, err := http.Get(url + "/-/ready")
	require.NoError(t, err)
	defer ready.Body.Close()
	body, err := io.ReadAll(ready.Body)
	require.NoError(t, err)
	require.Equal(t, "another one\n", string(body))
}
