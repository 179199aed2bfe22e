package integration

import (
	"bufio"
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/status"
)

// What the status page is told by a daemon that works: counts, incidents, events,
// explanations.
func TestWhatThePageIsTold(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	require.Empty(t, d.status().Incidents, "a first start is no gap")
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d.wait(r.lsn(), 20*time.Second)
	s := d.status()
	require.EqualValues(t, 1, s.Changes)
	require.Equal(t, "product", s.Rules[0].Name)
	require.Equal(t, "public.products", s.Rules[0].Of)
	require.EqualValues(t, 1, s.Rules[0].Matches)
	require.Positive(t, s.Rules[0].Invalidations)
	for _, sink := range s.Sinks {
		require.Positive(t, sink.Work.Purged, sink.Name)
		require.Positive(t, sink.Work.LatencyCount, sink.Name)
		require.Positive(t, sink.Work.LatencySeconds, sink.Name)
	}
	require.Equal(t, "1", d.metric(`walpurge_rule_matches_total{rule="product"}`), "the same in /metrics")

	code, body := d.get("/")
	require.Equal(t, 200, code)
	require.Contains(t, body, "/page/main.js")

	// The rules in service answer as the command line does.
	change := `{"table": "public.products", "update": {"old": {"id": 1, "slug": "a"}, "new": {"id": 1, "slug": "b"}}}`
	code, body = d.post("/api/v1/explain", change)
	require.Equal(t, 200, code, body)
	o := call(t, nil, "rules", "explain", "-c", r.path("walpurge.yaml"), "--json", "--change", change)
	require.Zero(t, o.code, o.stderr)
	require.JSONEq(t, o.stdout, body)
	require.Contains(t, body, "product:slug:b")
	for _, wrong := range []string{`{"table": "public.product", "truncate": true}`, `{"tabel": 1}`, ``} {
		code, body = d.post("/api/v1/explain", wrong)
		require.Equal(t, 400, code, body)
	}

	// Who follows the status does not hold up the end.
	resp, err := http.Get("http://" + d.addr + "/api/v1/events")
	require.NoError(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	require.True(t, lines.Scan())
	data, found := strings.CutPrefix(lines.Text(), "data: ")
	require.True(t, found)
	var event status.Status
	require.NoError(t, json.Unmarshal([]byte(data), &event))
	require.Equal(t, "app", event.Pipeline)
	d.term()
	for lines.Scan() {
		require.NotContains(t, lines.Text(), "error")
	}
	require.NoError(t, lines.Err())

	// A gap is remembered, and so is each flush that it led to.
	require.NoError(t, os.RemoveAll(r.path("data")))
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	var told []string
	for _, i := range d.status().Incidents {
		require.WithinDuration(t, time.Now(), i.At, time.Minute)
		told = append(told, i.Kind+" "+i.Sink+" "+i.Reason)
	}
	require.ElementsMatch(t, []string{"gap  stream_behind", "flush cache stream_behind", "flush edge stream_behind"}, told)
	d.term()
}
