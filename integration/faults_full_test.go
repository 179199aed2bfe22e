//go:build full

package integration

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDiskFull fills the disk under the stream. The server would answer nothing
// from then on, so the daemon ends and says why, for a supervisor to start it
// again; with room it goes on where it was.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	// One that is read while it runs would be known by its tables only, as its spool finds no
	// room, and the few bytes of that may still fit into the stream.
	r := newRig(t, rigOptions{postgres: map[string]string{"logical_decoding_work_mem": "64MB"}})
	r.extra = "drain_timeout: 2s"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 3000) n")
	holder := r.smallDisk()
	d := r.onDisk(holder)
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	filler := "/proc/" + strconv.Itoa(holder) + "/root" + r.path("data/filler")
	require.ErrorIs(t, os.WriteFile(filler, make([]byte, 64<<20), 0o600), syscall.ENOSPC)
	r.fill([]string{"product:1", "product:3000", "stays"}, "/product-1")
	r.exec("UPDATE products SET ver = ver + 1")
	for started := range 2 {
		select {
		case <-d.done:
		case <-time.After(30 * time.Second):
			require.FailNow(t, "the daemon goes on without a store", d.logs.tail(30))
		}
		require.Error(t, d.err)
		require.Contains(t, d.logs.String(), "no space left on device")
		require.Contains(t, d.logs.String(), "make room on its disk")
		if started > 0 {
			require.NoError(t, os.Remove(filler))
		}
		d = r.onDisk(holder)
	}
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:3000", "stays"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"))
	for _, reason := range []string{"slot_lost", "stream_behind"} {
		require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+reason+`"}`), "nothing was confirmed that is not in the stream")
	}
	d.fresh()
}

// TestOverwrittenStore changes bytes in the middle of the newest block. The server
// goes on appending to it and hands out nothing of it any more. That is never
// called fresh, and a start without the damaged files flushes.
func TestOverwrittenStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	for range 20 {
		r.exec("UPDATE products SET ver = ver + 1 WHERE id = 1")
	}
	d.wait(r.lsn(), 30*time.Second)
	d.term()
	for _, path := range r.blocks() {
		raw, err := os.ReadFile(path)
		require.NoError(t, err)
		for i := len(raw) / 3; i < len(raw); i += 97 {
			raw[i] ^= 0x55
		}
		require.NoError(t, os.WriteFile(path, raw, 0o600))
	}
	r.fill([]string{"product:1", "stays"}, "/product-1")
	r.exec("UPDATE products SET name = 'b' WHERE id = 1")
	d = r.start()
	eventually(t, time.Minute, func() bool {
		s := d.status().Summary
		return strings.HasPrefix(s, "STALE") || strings.HasPrefix(s, "UNKNOWN") || len(r.held("product:1")) == 0
	}, "purged or stale, and never fresh for long without a purge")
	d.kill()
	require.NoError(t, os.RemoveAll(r.path("data")))
	d = r.start()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "stays"))
	require.Zero(t, r.edge.Objects())
	d.fresh()
}
