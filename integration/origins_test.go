package integration

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// listener takes what the daemon sends, and refuses some of it.
type listener struct {
	*httptest.Server
	mu       sync.Mutex
	outage   int
	requests []heard
}

type heard struct {
	method, tags, key string
	body              string
}

func listen(t *testing.T, outage int) *listener {
	l := &listener{outage: outage}
	l.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.requests = append(l.requests, heard{r.Method, r.Header.Get("xkey"), r.Header.Get("Idempotency-Key"), string(body)})
		w.Header().Set("Walpurge-Purged", "1")
		if l.outage > 0 {
			l.outage--
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(l.Close)
	return l
}

func (l *listener) heard() []heard {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.requests)
}

// The daemon wires up the sinks of an origin: a change reaches both, a repetition
// is one under the same key, and a sink is done only when it has answered well.
func TestOriginsArePurged(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	page, app := listen(t, 0), listen(t, 2)
	r.edgeExtra = fmt.Sprintf(`  page:
    varnish: {nodes: [%q]}
    after: [cache]
    flush: {tags: [all]}
  app:
    webhook: {url: %q, json: '{"tags": tags, "keys": keys, "all": everything}'}
    after: [page]
    flush: {everything: true}
`, page.URL, app.URL)
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'p1')")
	d := r.start()
	r.exec("UPDATE products SET name = 'x' WHERE id = 1")
	d.wait(r.lsn(), 20*time.Second)

	got := page.heard()
	require.Len(t, got, 1)
	require.Equal(t, heard{"PURGE", "product-1", "", ""}, got[0])
	got = app.heard()
	require.Len(t, got, 3)
	var body struct {
		Tags, Keys []string
		All        bool
	}
	require.NoError(t, json.Unmarshal([]byte(got[2].body), &body))
	require.Equal(t, []string{"product-1"}, body.Tags)
	require.ElementsMatch(t, []string{"product:1", "product:slug:p1"}, body.Keys)
	require.False(t, body.All)
	require.Equal(t, got[0], got[2], "a repetition of the first call")

	r.exec("UPDATE products SET name = 'y' WHERE id = 1")
	d.wait(r.lsn(), 20*time.Second)
	got = app.heard()
	require.Len(t, got, 4)
	require.Equal(t, got[2].body, got[3].body)
	require.NotEqual(t, got[2].key, got[3].key, "another change")
}
