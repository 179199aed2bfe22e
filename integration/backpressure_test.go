package integration

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// TestFullStream kills a sink until the stream is full. The reader waits and
// keeps its connection; the application is not held up; a fast shutdown of the
// database ends all the same; and with the sink back everything is purged.
func TestFullStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "stream: {max_bytes: 1MiB}"
	r.sinkExtra, r.edgeExtra = "    on_overflow: stop", "    on_overflow: stop"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 10000) n")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "product:10000"})
	// The server dies with what it holds; the keys are put back at its return.
	require.NoError(t, r.vk.Kill())
	r.exec("UPDATE products SET ver = ver + 1")
	eventually(t, 30*time.Second, func() bool { return d.status().Reader.Blocked == "stream_full" }, "the stream fills")
	code, why := d.get("/-/streaming")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, why, "stream_full")
	code, _ = d.get("/-/healthy")
	require.Equal(t, http.StatusOK, code, "a restart would not help")

	ending, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := r.db.Exec(ending, "UPDATE categories SET name = 'free'")
	require.NoError(t, err, "the application is not held up")
	blocked := d.metric(`walpurge_reader_blocked_seconds_total{reason="stream_full"}`)
	require.NotEqual(t, "0", blocked)

	took, err := r.pg.Stop(ending, harness.Fast)
	require.NoError(t, err, "a fast stop with a full stream")
	t.Logf("the server ended after %s", took)
	require.NoError(t, r.pg.Restart(t.Context()))
	r.db.Reset()
	r.cacheReturns(d, "product:1", "product:10000", "stays")
	eventually(t, 60*time.Second, func() bool { return strings.HasPrefix(d.status().Summary, "FRESH") }, "it recovers by itself")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:10000", "stays"))
}
