package integration

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// hang makes commits wait for a standby that does not exist: their records are
// in the log and reach the stream, and no reader sees them.
func (r *rig) hang() {
	r.t.Helper()
	r.exec("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	r.exec("SELECT pg_reload_conf()")
	// The checkpointer puts it in force some time later, for new commits.
	eventually(r.t, 30*time.Second, func() bool {
		ctx, cancel := context.WithCancel(r.t.Context())
		defer cancel()
		committed := make(chan struct{})
		go func() {
			defer close(committed)
			_, _ = r.db.Exec(ctx, "SELECT pg_logical_emit_message(true, 'probe', '')")
		}()
		for {
			var waits bool
			require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')").Scan(&waits))
			if waits {
				return true
			}
			select {
			case <-committed:
				return false
			case <-time.After(time.Millisecond):
			}
		}
	}, "commits wait")
}

// release lets waiting commits become visible.
func (r *rig) release() {
	r.t.Helper()
	ctx := context.Background()
	conn, err := r.pg.Connect(ctx, "app")
	require.NoError(r.t, err)
	defer conn.Close(ctx)
	for _, sql := range []string{"SET synchronous_commit = local", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"} {
		_, err = conn.Exec(ctx, sql)
		require.NoError(r.t, err)
	}
}

// TestPurgeWaitsUntilVisible shows the race and its answer: the stream delivers
// a commit that a reader cannot see yet, and a purge now would let the cache be
// filled with the old row again.
func TestPurgeWaitsUntilVisible(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	r.fill([]string{"product:1"}, "/product-1")
	r.hang()

	committed := make(chan error, 1)
	go func() {
		_, err := r.db.Exec(context.Background(), "UPDATE products SET name = 'new' WHERE id = 1")
		committed <- err
	}()
	eventually(t, 30*time.Second, func() bool { return d.sink("cache").State == "gated" }, "the lane has the change and waits")
	var name string
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT name FROM products WHERE id = 1").Scan(&name))
	require.Empty(t, name, "a reader still sees the old row")
	require.Equal(t, []string{"product:1"}, r.held("product:1"))
	require.True(t, r.edge.Stored(r.edge.URL()+"/product-1"))

	r.release()
	require.NoError(t, <-committed)
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"))
}

// TestClosedGateIsNotForEver: past max_wait the purge goes out early, is counted,
// and comes again when the gate opens; the lane's mark waits for that.
func TestClosedGateIsNotForEver(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.sinkExtra = "    max_wait: 1s"
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	r.fill([]string{"product:1"})
	r.hang()
	committed := make(chan error, 1)
	go func() {
		_, err := r.db.Exec(context.Background(), "UPDATE products SET name = 'new' WHERE id = 1")
		committed <- err
	}()
	eventually(t, 30*time.Second, func() bool { return len(r.held("product:1")) == 0 }, "purged early")
	require.Equal(t, "1", d.metric(`walpurge_gate_timeouts_total{gate="visible",sink="cache"}`))
	// A reader fills the cache with the row that it still sees.
	r.fill([]string{"product:1"})
	r.release()
	require.NoError(t, <-committed)
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"), "the repeat takes the stale copy away")
}
