package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

func (h *hand) explain(change []byte) (any, error) {
	h.asked = string(change)
	return json.RawMessage(`[]`), h.err
}

// Every file of the page is served with the same walls around it.
func TestPageIsServedBehindItsPolicy(t *testing.T) {
	paths := map[string]string{"/": "text/html; charset=utf-8"}
	types := map[string]string{"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
	entries, err := fs.ReadDir(files, "page")
	require.NoError(t, err)
	for _, e := range entries {
		_, ending, _ := strings.Cut(e.Name(), ".")
		paths["/page/"+e.Name()] = types[ending]
	}
	require.Greater(t, len(paths), 8)
	for path, kind := range paths {
		code, body, h := do(t, &daemon{}, httptest.NewRequest("GET", path, nil))
		require.Equal(t, 200, code, path)
		require.NotEmpty(t, body)
		require.Equal(t, kind, h.Get("Content-Type"), path)
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "DENY", h.Get("X-Frame-Options"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		csp := h.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'", "require-trusted-types-for 'script'"} {
			require.Contains(t, strings.Split(csp, "; "), want)
		}
		require.NotContains(t, csp, "unsafe")
	}
	for _, path := range []string{"/page/", "/page/none.js", "/page/..", "/page/%2e%2e%2fpage.go", "/index.html", "/page/page/page.html"} {
		code, _, _ := do(t, &daemon{}, httptest.NewRequest("GET", path, nil))
		require.Contains(t, []int{307, 404}, code, path)
	}
}

// What the policy forbids is not in the page, and it names no other host.
func TestPageKeepsItsPolicy(t *testing.T) {
	entries, err := fs.ReadDir(files, "page")
	require.NoError(t, err)
	forbidden := regexp.MustCompile(`(?i)innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function|\son[a-z]+="|\sstyle="|javascript:|localStorage|https?://`)
	var all strings.Builder
	for _, e := range entries {
		text, err := files.ReadFile("page/" + e.Name())
		require.NoError(t, err)
		all.Write(text)
		for line := range strings.Lines(strings.ReplaceAll(string(text), "http://www.w3.org/2000/svg", "")) {
			require.NotRegexp(t, forbidden, line, e.Name())
		}
	}
	// Nothing is asked for that is not there.
	for _, m := range regexp.MustCompile(`["/](?:page|\.)/([a-z]+\.[a-z]+)"`).FindAllStringSubmatch(all.String(), -1) {
		_, err := files.Open("page/" + m[1])
		require.NoError(t, err)
	}
}

func TestExplain(t *testing.T) {
	d := &daemon{}
	code, body, _ := do(t, d, local("/api/v1/explain", `{"table": "public.products", "truncate": true}`))
	require.Equal(t, 200, code)
	require.JSONEq(t, `[]`, body)
	require.Equal(t, `{"table": "public.products", "truncate": true}`, d.hand.asked)

	d.hand.err = &BadRequestError{Err: errors.New("change:1:2: unknown key")}
	code, body, h := do(t, d, local("/api/v1/explain", `{`))
	require.Equal(t, 400, code)
	require.Equal(t, "change:1:2: unknown key", isError(t, body, h))

	d = &daemon{}
	code, _, _ = do(t, d, local("/api/v1/explain", strings.Repeat("x", maxBody+1)))
	require.Equal(t, 400, code)
	r := local("/api/v1/explain", `{}`)
	r.Header.Set("Origin", "http://shop.example")
	code, _, _ = do(t, d, r)
	require.Equal(t, 403, code)
	require.Nil(t, d.hand.asked)
}

// TestExplainIsBounded: no more than so many changes are explained at once, and one ends with its client.
func TestExplainIsBounded(t *testing.T) {
	var running, most atomic.Int32
	entered, release := make(chan struct{}, 100), make(chan struct{})
	s := New(Config{Registry: prometheus.NewRegistry(), Hand: &hand{}, Explain: func(ctx context.Context, _ []byte) (any, error) {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		entered <- struct{}{}
		select {
		case <-release:
			return 1, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}})
	var all sync.WaitGroup
	clients, leave := context.WithCancel(t.Context())
	for range 20 {
		all.Go(func() {
			r := local("/api/v1/explain", "{}").WithContext(clients)
			s.handler.ServeHTTP(httptest.NewRecorder(), r)
		})
	}
	for range maxExplaining {
		<-entered
	}
	leave()
	all.Wait()
	require.Zero(t, running.Load())
	require.LessOrEqual(t, most.Load(), int32(maxExplaining))
	close(release)
	w := httptest.NewRecorder()
	s.handler.ServeHTTP(w, local("/api/v1/explain", "{}"))
	require.Equal(t, 200, w.Code)
}

// follow opens the events of a server.
func follow(t *testing.T, url string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	resp, err := http.Get(url + "/api/v1/events")
	require.NoError(t, err)
	return resp, bufio.NewScanner(resp.Body)
}

// counting is a server whose status counts how often it was asked.
func counting(every time.Duration) *Server {
	s := (&daemon{}).server()
	n := 0
	s.watchers.status = func(context.Context) any { n++; return map[string]any{"n": n, "text": "a\nb</script>"} }
	s.watchers.every = every
	return s
}

func TestEventsFollowTheStatusUntilTheServerEnds(t *testing.T) {
	s := counting(20 * time.Millisecond)
	f := NewFront(s)
	f.http.ReadTimeout = 50 * time.Millisecond // bounds the request, not the answer
	url, stop := runFront(t, f)
	resp, lines := follow(t, url)
	defer resp.Body.Close()
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	require.Equal(t, "no-store", resp.Header.Get("Cache-Control"))
	for n := 0; n < 3; {
		require.True(t, lines.Scan())
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		require.True(t, found, lines.Text())
		var doc struct{ N int }
		require.NoError(t, json.Unmarshal([]byte(data), &doc))
		require.GreaterOrEqual(t, doc.N, n, "never an older one")
		n = doc.N
		require.True(t, lines.Scan())
		require.Empty(t, lines.Text(), "an event ends with an empty line")
	}
	stop()
	for lines.Scan() {
		require.NotContains(t, lines.Text(), "error")
	}
	// Ended in order, and not cut off after the grace.
	require.NoError(t, lines.Err())
}

func TestEventsHaveSoManySeats(t *testing.T) {
	s := counting(time.Hour)
	url, stop := run(t, s)
	var all []*http.Response
	for range maxWatchers {
		resp, lines := follow(t, url)
		all = append(all, resp)
		require.True(t, lines.Scan())
		require.Contains(t, lines.Text(), `"n":1,`, "all of them share one document")
	}
	late, _ := follow(t, url)
	require.Equal(t, 503, late.StatusCode)
	body, err := io.ReadAll(late.Body)
	require.NoError(t, err)
	require.NoError(t, late.Body.Close())
	require.NotEmpty(t, late.Header.Get("Retry-After"))
	require.Contains(t, isError(t, string(body), late.Header), "32 clients follow the status already")

	require.NoError(t, all[0].Body.Close())
	require.Eventually(t, func() bool { return len(s.watchers.seats) < maxWatchers }, 30*time.Second, time.Millisecond, "who leaves gives up the seat")
	again, lines := follow(t, url)
	require.True(t, lines.Scan())
	stop()
	for _, resp := range append(all, again) {
		_ = resp.Body.Close()
	}
}

func TestEventsAreForTheOwnPage(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // who is let in gets one event
	for _, site := range []string{"cross-site", "same-site"} {
		r := httptest.NewRequest("GET", "/api/v1/events", nil).WithContext(ctx)
		r.Header.Set("Sec-Fetch-Site", site)
		code, body, h := do(t, &daemon{}, r)
		require.Equal(t, 403, code)
		require.Contains(t, isError(t, body, h), "another origin")
	}
	// The page's own, and curl's.
	for _, site := range []string{"same-origin", "none", ""} {
		r := httptest.NewRequest("GET", "/api/v1/events", nil).WithContext(ctx)
		r.Header.Set("Sec-Fetch-Site", site)
		code, body, _ := do(t, &daemon{}, r)
		require.Equal(t, 200, code)
		require.Equal(t, "data: {\"summary\":\"FRESH\"}\n\n", body)
	}
}
