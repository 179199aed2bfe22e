package integration

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness/edge"
)

// walsender is the process id of the server's side of the line, 0 without one.
func (r *rig) walsender() (pid int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(),
		"SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots WHERE slot_name = 'walpurge_app'").Scan(&pid))
	return pid
}

// fresh waits until the daemon calls itself fresh.
func (d *daemon) fresh() {
	d.t.Helper()
	eventually(d.t, time.Minute, func() bool { return strings.HasPrefix(d.status().Summary, "FRESH") }, "fresh by itself")
}

// TestBrokenLineLosesNothing ends the walsender under load, and stops it for a
// while as a paused machine would.
func TestBrokenLineLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	d := r.start()
	w := startWriters(r, 4)
	for range rounds(2, 5) {
		pick(100*time.Millisecond, 400*time.Millisecond)
		old := r.walsender()
		r.exec("SELECT pg_terminate_backend($1)", old)
		eventually(t, 20*time.Second, func() bool { now := r.walsender(); return now != 0 && now != old }, "the reader connects again")
	}
	// In the long run the reader gives the connection up, finds the slot taken by
	// the stopped walsender, and stands by for it.
	pid := r.walsender()
	require.NoError(t, syscall.Kill(pid, syscall.SIGSTOP))
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
	<-time.After(time.Duration(rounds(1, 75)) * time.Second)
	require.NoError(t, syscall.Kill(pid, syscall.SIGCONT))
	w.halt(t)
	d.untilStreaming()
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	for _, reason := range []string{"slot_lost", "stream_behind"} {
		require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+reason+`"}`), "a broken connection is not a gap")
	}
	d.fresh()
}

// TestSlotDroppedWhileRunning takes the slot away from a running daemon: it makes
// a new one, and flushes what may have changed in between.
func TestSlotDroppedWhileRunning(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "product:slug:a", "stays"}, "/product-1", "/product-2")
	eventually(t, 20*time.Second, func() bool {
		if pid := r.walsender(); pid != 0 {
			r.exec("SELECT pg_terminate_backend($1, 5000)", pid)
		}
		_, err := r.db.Exec(t.Context(), "SELECT pg_drop_replication_slot('walpurge_app')")
		return err == nil
	}, "the slot is free for a moment")
	r.exec("UPDATE products SET slug = 'b' WHERE id = 1")
	eventually(t, 30*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="slot_lost"}`) == "1" }, "the gap is found")
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:slug:a", "stays"))
	require.Zero(t, r.edge.Objects())
	d.fresh()
}

// TestHangingEdge lets the edge take calls and never answer. The cache before it
// goes on at full speed, and the edge's purges come when it answers again.
func TestHangingEdge(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	d := r.start()
	// In the long run it is the sink that gives up.
	hang := edge.Fault{Kind: edge.Timeout, Wait: 2 * time.Second * time.Duration(rounds(1, 10))}
	r.edge.Inject(-1, hang)
	w := startWriters(r, 4)
	eventually(t, 20*time.Second, func() bool { return w.count() > 300 }, "rows are written")
	key := "category:7"
	r.fill([]string{key})
	r.exec("INSERT INTO categories (id) VALUES (7)")
	eventually(t, 30*time.Second, func() bool { return len(r.held(key)) == 0 }, "the cache does not wait for the edge")
	eventually(t, 30*time.Second, func() bool { return d.sink("edge").State == "blocked" }, "the lane says that the sink fails")
	w.halt(t)
	r.edge.Heal()
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	require.Zero(t, d.sink("edge").Parked, fmt.Sprintf("what hangs for %s is not given up", hang.Wait))
	d.fresh()
}
