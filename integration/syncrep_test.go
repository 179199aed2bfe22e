package integration

import (
	"context"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// syncNames sets synchronous_standby_names, and waits until the server and the daemon go by it.
func (d *daemon) syncNames(r *rig, names string) {
	d.t.Helper()
	r.exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	r.exec("SELECT pg_reload_conf()")
	eventually(d.t, 30*time.Second, func() bool {
		return d.status().Reader.SynchronousStandbyNames == names && !r.reports("flush_lsn IS NOT NULL OR replay_lsn IS NOT NULL OR sync_state <> 'async'")
	}, "the daemon reports no flush position under %s", names)
}

// reports asks pg_stat_replication about the daemon's connection.
func (r *rig) reports(condition string) (yes bool) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT coalesce(bool_or("+condition+"), false) FROM pg_stat_replication WHERE application_name = 'walpurge'").Scan(&yes))
	return yes
}

// commitWaits starts an UPDATE of product 1 and waits until its COMMIT waits for a standby. The
// channel has its end.
func (r *rig) commitWaits() <-chan error {
	r.t.Helper()
	done := make(chan error, 1)
	go func() {
		_, err := r.db.Exec(context.Background(), "UPDATE products SET ver = ver + 1 WHERE id = 1")
		done <- err
	}()
	eventually(r.t, 30*time.Second, func() bool { return r.syncWaits() == 1 }, "COMMIT waits for a standby")
	return done
}

func (r *rig) syncWaits() (n int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n))
	return n
}

// moves waits until the slot's position has moved beyond where it was.
func (r *rig) moves(position string, do func()) {
	r.t.Helper()
	at := func() (lsn string) {
		require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT "+position+"::text FROM pg_replication_slots WHERE slot_name = 'walpurge_app'").Scan(&lsn))
		return lsn
	}
	before := at()
	eventually(r.t, time.Minute, func() bool { do(); return at() != before }, "%s moves", position)
}

// TestSynchronousStandby: with a synchronous standby up, commits do not depend on the daemon, be
// it named first and stopped; with the standby gone, they wait as they would without the daemon,
// which confirms its slot meanwhile.
func TestSynchronousStandby(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	standby := r.standby("0")
	d := r.start()
	standbyIs := func(states string) {
		eventually(t, 30*time.Second, func() bool {
			var is bool
			require.NoError(t, r.db.QueryRow(t.Context(), "SELECT coalesce(bool_or(sync_state = ANY($1)), false) FROM pg_stat_replication WHERE application_name <> 'walpurge'",
				"{"+states+"}").Scan(&is))
			return is
		}, "the standby is "+states)
	}
	for _, names := range []string{"*", "ANY 1 (*)", "FIRST 1 (walpurge, walreceiver)"} {
		d.syncNames(r, names)
		standbyIs("sync,quorum")
		r.fill([]string{"product:1"})
		d.frozen(func() {
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			_, err := r.db.Exec(ctx, "UPDATE products SET ver = ver + 1 WHERE id = 1")
			require.NoError(t, err, "COMMIT does not wait for a daemon that stands still")
		})
		d.wait(r.lsn(), 30*time.Second)
		require.Empty(t, r.held("product:1"))
	}
	d.fresh()
	o := d.run("status")
	require.Zero(t, o.code, o.stdout)
	require.Contains(t, o.stdout, "note: synchronous_standby_names = 'FIRST 1 (walpurge, walreceiver)' can name walpurge")
	// From PostgreSQL 17 on a failover takes more than this standby has, which is another finding.
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  failover: false\n")
	o = r.call("check")
	require.Zero(t, o.code, o.stdout)
	require.Contains(t, o.stdout, "ALTER SYSTEM SET synchronous_standby_names")
	r.edit("walpurge.yaml", "postgres:\n  failover: false\n", "postgres:\n")

	// Patroni writes * when the last standby is gone.
	_, err := standby.Stop(t.Context(), harness.Fast)
	require.NoError(t, err)
	d.syncNames(r, "*")
	r.fill([]string{"product:1"})
	committed := r.commitWaits()
	segment := func() { r.exec("SELECT pg_logical_emit_message(false, 'filler', 'x'), pg_switch_wal()") }
	r.moves("confirmed_flush_lsn", segment)
	r.moves("restart_lsn", func() { segment(); r.exec("CHECKPOINT") })
	require.Equal(t, 1, r.syncWaits(), "COMMIT waits for a standby still")
	require.False(t, r.reports("flush_lsn IS NOT NULL OR replay_lsn IS NOT NULL OR sync_state <> 'async'"))
	r.release()
	require.NoError(t, <-committed)
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"))
	require.Empty(t, d.status().Incidents)
	eventually(t, 30*time.Second, func() bool { return r.reports("flush_lsn IS NOT NULL") }, "a flush position is reported again")
	r.moves("confirmed_flush_lsn", func() {})
	d.logged("synchronous_standby_names can name this connection")

	// A stop confirms what is safe.
	d.syncNames(r, "*")
	conn, err := r.pg.Connect(t.Context(), "app")
	require.NoError(t, err)
	defer conn.Close(context.Background())
	_, err = conn.Exec(t.Context(), "SET synchronous_commit = local; UPDATE products SET ver = ver + 1 WHERE id = 1")
	require.NoError(t, err)
	at := r.lsn()
	d.wait(at, 30*time.Second)
	d.term()
	var confirmed bool
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = 'walpurge_app'", at).Scan(&confirmed))
	require.True(t, confirmed)
}

// TestSynchronousStandbyWhenNothingIsPurged: the slot's position may be that of a sink that does
// not answer, or of a stream that is full. Neither holds commits up, or the stop of the server.
func TestSynchronousStandbyWhenNothingIsPurged(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, stream string }{
		{"confirmed when purged", "confirm: purged"},
		{"a full stream", "max_bytes: 1MiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			r.extra = "stream: {" + c.stream + "}"
			r.sinkExtra, r.edgeExtra = "    on_overflow: stop", "    on_overflow: stop"
			r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 10000) n")
			standby := r.standby("0")
			d := r.start()
			d.wait(r.lsn(), 30*time.Second)
			d.syncNames(r, "ANY 1 (*)")
			require.NoError(t, syscall.Kill(r.vk.PID(), syscall.SIGSTOP))
			ctx, cancel := context.WithTimeout(t.Context(), hang)
			defer cancel()
			_, err := r.db.Exec(ctx, "UPDATE products SET ver = ver + 1")
			require.NoError(t, err)
			if strings.HasPrefix(c.stream, "max_bytes") {
				eventually(t, 30*time.Second, func() bool { return d.status().Reader.Blocked == "stream_full" }, "the stream fills")
			}
			_, err = r.db.Exec(ctx, "UPDATE products SET ver = ver + 1 WHERE id = 1")
			require.NoError(t, err, "the application is not held up")
			_, err = standby.Stop(ctx, harness.Fast)
			require.NoError(t, err)
			_, err = r.pg.Stop(ctx, harness.Fast)
			require.NoError(t, err, "a fast stop of the server")
			require.NoError(t, syscall.Kill(r.vk.PID(), syscall.SIGCONT))
			r.restart()
			r.release()
			d.untilStreaming()
			r.fill([]string{"product:1"})
			r.exec("UPDATE products SET ver = ver + 1 WHERE id = 1")
			d.wait(r.lsn(), time.Minute)
			require.Empty(t, r.held("product:1"))
			require.Empty(t, d.status().Incidents)
			d.term()
		})
	}
}
