//go:build full

package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestCheckKnowsFailover goes from a slot that no failover survives to one that does, by
// what check says.
func TestCheckKnowsFailover(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{binaries: major(t, 17)})
	r.config(freeAddr(t))
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  failover: false\n")
	require.Zero(t, r.call("setup").code)
	heir := r.heir(map[string]string{"sync_replication_slots": "off"})
	standby := func() bool {
		var n int
		require.NoError(t, r.pg.QueryRow(t.Context(), "app", "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn IS NOT NULL", &n))
		return n == 1
	}
	eventually(t, 20*time.Second, standby, "the standby replays")
	found := func(want ...string) {
		t.Helper()
		o := r.call("check")
		out := lines(o.stdout)
		if len(want) == 0 {
			require.Zero(t, o.code, o.stdout)
			return
		}
		require.Equal(t, 1, o.code)
		require.Len(t, out, len(want), o.stdout)
		for i, text := range want {
			require.Contains(t, out[i], text)
		}
	}
	// Who wants none is not told.
	found()
	r.config(freeAddr(t))
	found(`slot "walpurge_app" is no failover slot`)
	r.exec("SELECT pg_drop_replication_slot('walpurge_app')")
	require.Zero(t, r.call("setup").code)
	const worker = `no standby takes over slot "walpurge_app": a failover is a gap; fix: on the standby set sync_replication_slots = on`
	found("ALTER SYSTEM SET synchronized_standby_slots = 'heir'; SELECT pg_reload_conf();", worker)
	set(t, r.pg, "synchronized_standby_slots", "heir")
	found(worker)
	set(t, heir, "sync_replication_slots", "on")
	eventually(t, 20*time.Second, func() bool { return r.call("check").code == 0 }, "the standby takes slots over")
	set(t, r.pg, "synchronized_standby_slots", "heir, other")
	found("synchronized_standby_slots names other, which no standby reads: nothing is streamed until one does")
}
