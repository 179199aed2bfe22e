package integration

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// A sink that is dead and past its share trades its backlog for one flush, which
// outlives a kill of the daemon.
func TestABacklogIsTradedForAFlush(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.sinkExtra = "    max_backlog: 256KiB"
	r.extra = "stream: {max_bytes: 8MiB}"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 3000) n")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.NoError(t, r.vk.Kill())
	r.exec("UPDATE products SET ver = ver + 1")
	end := r.lsn()
	eventually(t, 30*time.Second, func() bool {
		b := d.sink("cache").Backlog
		return d.metric(`walpurge_flushes_total{reason="overflow",sink="cache"}`) == "1" && b > 0 && b < 20
	}, "the flush is tried, and stands for the rest")
	require.Equal(t, 1, d.run("wait", end, "--sink", "cache", "--timeout", "100ms").code, "nothing counts as purged")
	d.kill()

	require.NoError(t, r.vk.Restart(t.Context()))
	r.fill([]string{"category:1", "product:3000", "stays"}) // no change of the category is in the backlog
	d = r.start()
	d.wait(end, 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("category:1", "product:3000", "stays"))
	require.Equal(t, "1", d.metric(`walpurge_flushes_total{reason="overflow",sink="cache"}`))
	eventually(t, 30*time.Second, func() bool { return d.sink("cache").Backlog == 0 }, "and then it is done")
}

// A sink that is dead never stops another: before the stream is full of what it has
// not taken, one flush takes the place of that.
func TestADeadSinkStopsNoOther(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	other, err := harness.StartValkey(t.Context(), harness.ValkeyConfig{Dir: filepath.Join(r.dir, "other")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	r.sinkExtra = fmt.Sprintf("  other:\n    valkey: {url: %q}", other.URL())
	r.extra = "stream: {max_bytes: 1MiB}"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 3000) n")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.NoError(t, r.vk.Kill())
	for range rounds(3, 8) { // each about as large as the stream
		r.exec("UPDATE products SET ver = ver + 1")
		end := r.lsn()
		eventually(t, 30*time.Second, func() bool { return d.run("wait", end, "--sink", "other", "--timeout", "1s").code == 0 }, "the other sink keeps up")
	}
	require.NotEqual(t, "0", d.metric(`walpurge_flushes_total{reason="overflow",sink="cache"}`))
	require.Equal(t, "0", d.metric(`walpurge_flushes_total{reason="overflow",sink="other"}`))
	require.True(t, strings.HasPrefix(d.status().Summary, "STALE"), d.status().Summary)

	r.cacheReturns(d, "category:1", "product:3000", "stays")
	d.fresh()
	require.Equal(t, []string{"stays"}, r.held("category:1", "product:3000", "stays"))
	require.Zero(t, r.edge.Objects())
}
