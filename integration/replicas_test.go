package integration

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// standby is a read replica that shows a commit a while after the primary does.
func (r *rig) standby(delay string) *harness.Postgres {
	r.t.Helper()
	s, err := r.pg.StartStandby(r.t.Context(), harness.PostgresConfig{
		Dir: filepath.Join(r.dir, "standby"), Settings: map[string]string{"recovery_min_apply_delay": delay},
	})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, s.Close()) })
	r.db.Reset() // connections may have ended
	return s
}

// behind starts the daemon with replicas set.
func (r *rig) behind(replicas string) *daemon {
	r.t.Helper()
	addr := freeAddr(r.t)
	r.config(addr)
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  replicas: "+replicas+"\n")
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	return d
}

// shown is what a reader of the replica sees of product 1.
func shown(t *testing.T, s *harness.Postgres) (name string) {
	require.NoError(t, s.QueryRow(t.Context(), "app", "SELECT name FROM products WHERE id = 1", &name))
	return name
}

// TestPurgeWaitsForReplicas: a cache that is filled from a replica must not be purged
// before the replica shows the change. Without the gate it is.
func TestPurgeWaitsForReplicas(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, replicas, target string
		sees                   bool
	}{
		{"no gate", "[]", "", false},
		{"listed", "LIST", "", true},
		{"told by the primary", "auto", "auto", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigOptions{})
			r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
			s := r.standby("2s")
			replicas := tc.replicas
			if replicas == "LIST" {
				replicas = fmt.Sprintf("[%q]", s.URL("app"))
				tc.target = fmt.Sprintf("127.0.0.1:%d", s.Port())
			}
			d := r.behind(replicas)
			d.wait(r.lsn(), 30*time.Second)
			eventually(t, 20*time.Second, func() bool { return shown(t, s) == "" }, "the replica serves")
			r.fill([]string{"product:1"}, "/product-1")
			r.exec("UPDATE products SET name = 'new' WHERE id = 1")
			end := r.lsn()
			eventually(t, 20*time.Second, func() bool { return len(r.held("product:1")) == 0 }, "the key is purged")
			if !tc.sees {
				require.Empty(t, shown(t, s), "a reader of the replica would fill the cache with the old row")
				return
			}
			require.Equal(t, "new", shown(t, s), "a reader of the replica fills the cache with the new row")
			d.wait(end, 20*time.Second)
			require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"))
			require.NotEmpty(t, d.metric(`walpurge_lag_seconds{stage="replayed",target="`+tc.target+`"}`))
			require.Equal(t, "0", d.metric("walpurge_replicas_away"))
			require.Equal(t, "0", d.metric(`walpurge_gate_timeouts_total{gate="replicas",sink="cache"}`))
			d.fresh()
		})
	}
}

// TestReplicaThatIsGone: a replica that does not answer holds purges back for as long
// as their patience lasts, and they are repeated when it has caught up.
func TestReplicaThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.sinkExtra = "    max_wait: 1s"
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	s := r.standby("0")
	d := r.behind(fmt.Sprintf("[%q]", s.URL("app")))
	d.wait(r.lsn(), 30*time.Second)
	_, err := s.Stop(t.Context(), harness.Fast)
	require.NoError(t, err)
	r.fill([]string{"product:1"})
	r.exec("UPDATE products SET name = 'new' WHERE id = 1")
	end := r.lsn()
	eventually(t, 20*time.Second, func() bool { return len(r.held("product:1")) == 0 }, "purged early")
	require.Equal(t, "1", d.metric(`walpurge_gate_timeouts_total{gate="replicas",sink="cache"}`))
	// A reader fills the cache from the replica, before that has the change.
	r.fill([]string{"product:1"})
	require.Equal(t, 1, d.run("wait", end, "--sink", "cache", "--timeout", "100ms").code, "the mark waits for the repeat")
	require.Contains(t, r.call("check").stdout, fmt.Sprintf("postgres.replicas: 127.0.0.1:%d: ", s.Port()))
	require.NoError(t, s.Restart(t.Context()))
	d.wait(end, 30*time.Second)
	require.Empty(t, r.held("product:1"), "the repeat takes the stale copy away")
}

// TestReplicaThatIsNone: what is not a replica of the database is found by check.
func TestReplicaThatIsNone(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	r.edit("walpurge.yaml", "postgres:\n", fmt.Sprintf("postgres:\n  replicas: [%q]\n", r.pg.URL("app")))
	out := r.call("check")
	require.Equal(t, 1, out.code)
	require.Contains(t, out.stdout, "the server is no replica: it is not in recovery; it was promoted, or postgres.replicas names the primary")
	r.exec("CREATE ROLE plain LOGIN REPLICATION")
	r.exec("GRANT CREATE ON DATABASE app TO plain")
	r.edit("walpurge.yaml", fmt.Sprintf("replicas: [%q]", r.pg.URL("app")), "replicas: auto", "postgres://postgres@", "postgres://plain@")
	require.Contains(t, r.call("check").stdout, `GRANT pg_monitor TO "plain";`)
}
