package integration

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// historyChanges is how often the daemon found another history of the cache and what it did.
func (d *daemon) historyChanges(reason, answer string) string {
	return d.metric(fmt.Sprintf(`walpurge_history_changes_total{answer=%q,reason=%q,sink="cache"}`, answer, reason))
}

// productKeys are the keys of some products.
func productKeys(first, last int) (keys []string) {
	for id := first; id <= last; id++ {
		keys = append(keys, "product:"+strconv.Itoa(id))
	}
	return keys
}

// TestValkeyComesBackWithWhatWasPurged: a Valkey that saves comes back from kill -9, alone and together with the
// daemon, and from a snapshot that an operator restores, with entries that were purged. They are purged again.
func TestValkeyComesBackWithWhatWasPurged(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{valkey: []string{"--save", "3600 1 300 100 60 10000"}})
	r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, 20) n")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	kept := []string{"other", "product:21"}
	purge := func() string {
		r.exec("UPDATE products SET name = name || 'x' WHERE id <= 10")
		return r.lsn()
	}
	filled := func() {
		r.fill(append(productKeys(1, 10), kept...))
		r.do("SAVE")
	}
	restart := func() { require.NoError(t, r.vk.Restart(t.Context())) }

	filled()
	d.wait(purge(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.NoError(t, r.vk.Kill())
	restart()
	eventually(t, 20*time.Second, func() bool { return d.historyChanges("restarted", "purge") == "1" }, "the daemon notices")
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.Equal(t, kept, r.held(kept...), "it is not flushed")
	d.logged("the cache may hold again what was purged, that is purged again")

	// Daemon and cache are killed together.
	filled()
	d.wait(purge(), 20*time.Second)
	d.kill()
	require.NoError(t, r.vk.Kill())
	restart()
	require.Equal(t, productKeys(1, 10), r.held(productKeys(1, 10)...), "they are back")
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.Equal(t, "1", d.historyChanges("restarted", "purge"))
	d.fresh()

	// An operator restores an older snapshot while the daemon is down.
	filled()
	snapshot, err := os.ReadFile(r.path("valkey/dump.rdb"))
	require.NoError(t, err)
	d.wait(purge(), 20*time.Second)
	r.do("SAVE")
	d.term()
	require.NoError(t, r.vk.Stop(t.Context()))
	require.NoError(t, os.WriteFile(r.path("valkey/dump.rdb"), snapshot, 0o644))
	restart()
	require.Equal(t, productKeys(1, 10), r.held(productKeys(1, 10)...), "they are back")
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.Equal(t, kept, r.held(kept...), "it is not flushed")
	d.fresh()
	d.term()
}
