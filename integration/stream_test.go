package integration

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTenTimesMaxBytes pushes far more through the stream than it may hold. What
// all lanes have acknowledged is trimmed from its head, so a healthy pipeline
// never fills it, and the reader never waits.
func TestTenTimesMaxBytes(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const limit, rows, width = 1 << 20, 125, 300
	r.extra = "stream: {max_bytes: 1MiB}"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', $1) || n FROM generate_series(1, $2::int) n", width, rows)
	d := r.start()
	d.wait(r.lsn(), time.Minute)
	for sent := 0; sent < 10*limit; sent += rows * width {
		r.exec("UPDATE products SET ver = ver + 1")
		if sent%(4*rows*width) == 0 {
			d.wait(r.lsn(), time.Minute)
		}
	}
	d.wait(r.lsn(), time.Minute)
	for _, reason := range []string{"stream_full", "nats_unreachable"} {
		require.Equal(t, "0", d.metric(`walpurge_reader_blocked_seconds_total{reason="`+reason+`"}`))
	}
	s := d.status()
	require.LessOrEqual(t, s.Stream.Bytes, s.Stream.LimitBytes)
	require.True(t, strings.HasPrefix(s.Summary, "FRESH"), s.Summary)
}

// TestTransactionLargerThanTheStream cannot be held whole: lanes must work off
// its beginning, in order, before its end is known.
func TestTransactionLargerThanTheStream(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "stream: {max_bytes: 2MiB}"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 20000) n")
	d := r.start()
	r.fill([]string{"product:1", "product:20000", "stays"}, "/product-1", "/product-20000")
	r.exec("UPDATE products SET ver = ver + 1")
	d.wait(r.lsn(), time.Minute)
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:20000", "stays"))
	require.Zero(t, r.edge.Objects())
	require.Equal(t, "0", d.metric(`walpurge_gate_timeouts_total{gate="cache",sink="edge"}`), "the edge follows the cache piece by piece")
}
