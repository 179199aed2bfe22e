package integration

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestGapsFlush breaks the line while the daemon is down. What changed meanwhile
// is unknown, so every copy must go, inner cache first.
func TestGapsFlush(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, reason string
		breakIt      func(r *rig)
	}{
		{"slot dropped", "slot_lost", func(r *rig) { r.exec("SELECT pg_drop_replication_slot('walpurge_app')") }},
		{"stream deleted", "stream_behind", func(r *rig) { require.NoError(r.t, os.RemoveAll(r.path("data"))) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
			d := r.start()
			d.wait(r.lsn(), 30*time.Second)
			require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+tc.reason+`"}`), "a first start is not a gap")
			d.term()
			tc.breakIt(r)
			r.exec("UPDATE products SET slug = 'b' WHERE id = 1")
			r.fill([]string{"product:1", "product:slug:a", "session:1"}, "/product-1")

			d = r.start()
			d.wait(r.lsn(), 30*time.Second)
			require.Equal(t, []string{"session:1"}, r.held("product:1", "product:slug:a", "session:1"), "what rules write goes, the rest stays")
			require.Zero(t, r.edge.Objects())
			require.Equal(t, "1", d.metric(`walpurge_gaps_total{reason="`+tc.reason+`"}`))
			d.logged("gap in the line")
			d.term()

			d = r.start()
			d.wait(r.lsn(), 30*time.Second)
			require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+tc.reason+`"}`), "a gap is bridged once")
			d.term()
		})
	}
}

func TestGapStopsWhereAsked(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	d.term()
	require.NoError(t, os.RemoveAll(r.path("data")))
	// The rig's own configuration, with on_gap: stop.
	path := r.config("127.0.0.1:0")
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	r.write("stop.yaml", strings.Replace(string(text), "postgres:\n", "postgres:\n  on_gap: stop\n", 1))
	out, err := command(nil, "run", "-c", r.path("stop.yaml")).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "gap: stream_behind")
	require.Contains(t, string(out), "on_gap: flush")
}
