package integration

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	neturl "net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// standbyCalls are all routes of the listener, what is sent to each, and the status with which a process that stands by
// answers: on a stream that it shares with the leader, and on one of its own. The table in docs/operations.md has a row
// for each; a test in integration/house compares both with the routes of cmd/admin.
var standbyCalls = []struct {
	route, query, body string
	shared, own        int
}{
	{"GET /-/healthy", "", "", 200, 200},
	{"GET /-/ready", "", "", 200, 200},
	{"GET /-/streaming", "", "", 503, 503},
	{"GET /metrics", "", "", 200, 200},
	{"GET /{$}", "", "", 200, 200},
	{"GET /page/{file}", "", "", 200, 200},
	{"GET /api/v1/status", "", "", 200, 200},
	{"GET /api/v1/events", "", "", 200, 200},
	{"GET /api/v1/wait", "?lsn=0/1&timeout=10ms", "", 504, 504},
	{"GET /api/v1/parked", "", "", 200, 503},
	{"GET /api/v1/tail", "", "", 200, 503},
	{"POST /api/v1/explain", "", `{"table": "public.categories", "insert": {"id": 7}}`, 200, 200},
	{"POST /api/v1/purge", "", `{"sink": "cache", "keys": ["category:0"]}`, 200, 503},
	{"POST /api/v1/replay", "", `{"since": "2100-01-01T00:00:00Z"}`, 200, 503},
	{"POST /api/v1/pause", "", `{"sink": "edge", "for": "1h"}`, 200, 503},
	{"POST /api/v1/resume", "", `{"sink": "edge"}`, 200, 503},
	{"POST /api/v1/parked", "", `{"action": "drop", "sink": "cache"}`, 200, 503},
	{"POST /api/v1/skip", "", `{"to": "current", "pipeline": "app"}`, 503, 503},
	{"POST /-/reload", "", `{}`, 200, 200},
}

// standbyAnswers calls every route of a process that stands by. An answer says either what was asked for, or who leads.
func standbyAnswers(t *testing.T, second *daemon, shared bool, leader string) {
	t.Helper()
	for _, c := range standbyCalls {
		method, path, _ := strings.Cut(c.route, " ")
		path = strings.NewReplacer("{$}", "", "{file}", "main.js").Replace(path)
		want := c.own
		if shared {
			want = c.shared
		}
		ctx, cancel := context.WithTimeout(t.Context(), hang)
		req, err := http.NewRequestWithContext(ctx, method, "http://"+second.addr+path+c.query, strings.NewReader(c.body))
		require.NoError(t, err)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err, c.route)
		body := []byte("not read, since it does not end")
		if want != http.StatusOK || path != "/api/v1/tail" && path != "/api/v1/events" {
			body, err = io.ReadAll(resp.Body)
			require.NoError(t, err, c.route)
		}
		cancel()
		_ = resp.Body.Close()
		require.Equal(t, want, resp.StatusCode, "%s: %s", c.route, body)
		if want < 500 {
			continue
		}
		require.Contains(t, string(body), "this process stands by: ", c.route)
		require.Contains(t, strings.ReplaceAll(string(body), `\"`, `"`), leader, c.route)
	}
}

// throttling is what stands before the edge's API and, while it is on, asks callers to come back tomorrow.
type throttling struct{ on atomic.Bool }

func (th *throttling) before(t *testing.T, api string) (url string) {
	to, err := neturl.Parse(api)
	require.NoError(t, err)
	pass := httputil.NewSingleHostReverseProxy(&neturl.URL{Scheme: to.Scheme, Host: to.Host})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !th.on.Load() {
			pass.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Retry-After", "86400")
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusTooManyRequests)
		_, _ = io.WriteString(w, `{"success": false, "errors": [{"code": 971, "message": "throttled"}], "result": null}`)
	}))
	t.Cleanup(s.Close)
	return s.URL + to.Path
}

// standbyActs has a process that stands by carry out each request that changes something, on a stream that it shares with
// the leader, and looks at what comes of it there.
func (r *rig) standbyActs(first, second *daemon, th *throttling) {
	t := r.t
	t.Helper()
	s := second.status()
	require.Equal(t, first.addr, s.Leader.Address)
	require.Equal(t, first.addr, first.status().Leader.Address)
	require.Contains(t, s.Summary, "NOT STREAMING since ")
	require.Contains(t, s.Summary, first.addr)
	require.Contains(t, s.Summary, "leads. Try: walpurge status --addr "+first.addr)
	o := second.run("status")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stdout, "leads. Try: walpurge status --addr "+first.addr)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+second.addr+"/api/v1/tail?sink=cache", http.NoBody)
	require.NoError(t, err)
	tail, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer tail.Body.Close()
	r.fill([]string{"standby:1"})
	second.ok("purge", "--sink", "cache", "--key", "standby:1")
	eventually(t, hang, func() bool { return len(r.held("standby:1")) == 0 }, "the leader carries out a purge that the standby took")
	lines := bufio.NewScanner(tail.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), "standby:1") {
	}
	require.NoError(t, lines.Err(), "the purge is in the standby's tail")
	require.Contains(t, second.ok("purge", "--sink", "cache", "--all", "--supersede", "--dry-run"), "would purge")

	from := r.lsn()
	r.exec("INSERT INTO categories (id) VALUES (700)")
	first.wait(r.lsn(), hang)
	r.fill([]string{"category:700"})
	require.Regexp(t, `[1-9]`, second.ok("replay", "--from", from, "--sink", "cache"))
	eventually(t, hang, func() bool { return len(r.held("category:700")) == 0 }, "the leader carries out a replay")

	second.ok("purge", "--sink", "edge", "--tag", "x y")
	eventually(t, hang, func() bool { return first.sink("edge").Parked == 1 && second.sink("edge").Parked == 1 }, "the refused tag is parked")
	id := func() uint64 {
		var list []struct{ ID uint64 }
		require.NoError(t, json.Unmarshal([]byte(second.ok("parked", "list", "--json")), &list))
		if len(list) != 1 {
			return 0
		}
		return list[0].ID
	}
	before := id()
	require.NotZero(t, before)
	second.ok("parked", "retry", "--sink", "edge")
	eventually(t, hang, func() bool { now := id(); return now != 0 && now != before }, "what is refused again is parked again")
	require.Equal(t, "dropped 1 message\n", second.ok("parked", "drop", "--all"))
	require.Equal(t, "nothing is parked\n", first.ok("parked", "list"))

	th.on.Store(true)
	r.fill(nil, "/category-700")
	r.exec("UPDATE categories SET name = 'b' WHERE id = 700")
	eventually(t, hang, func() bool { return first.sink("edge").State == "throttled" }, "the provider asks the leader to come back tomorrow")
	th.on.Store(false)
	second.ok("resume", "--sink", "edge")
	eventually(t, hang, func() bool { return !r.edge.Stored(r.edge.URL() + "/category-700") }, "a resume that the standby took ends the leader's wait")

	o = second.run("skip", "--to", "current", "--pipeline", "app", "-c", r.path("second.yaml"))
	require.Equal(t, 1, o.code, o.stdout)
	require.Contains(t, o.stderr, first.addr)
	require.Contains(t, o.stderr, "leads; call that one, with --addr "+first.addr)
	o = second.run("skip", "--to", "current", "--pipeline", "app", "-c", r.path("second.yaml"), "--addr", freeAddr(t))
	require.NotZero(t, o.code, "no daemon is there, but the slot is in use")
	require.Contains(t, o.stderr, `slot "walpurge_app" is active for PostgreSQL process`)
	require.Contains(t, o.stderr, first.addr)
	require.Equal(t, "0", first.metric(`walpurge_gaps_total{reason="skipped"}`), "nothing was skipped")
	o = second.run("wait", "0/1", "--timeout", "10ms")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, "leads; call that one, with --addr "+first.addr)
	require.Equal(t, time.Duration(0), second.sink("edge").PausedFor)
}
