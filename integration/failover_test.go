//go:build full || soak

package integration

import (
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// heir starts a standby that is to take the primary's place. Daemon and application
// know both addresses, and the standby's comes first.
func (r *rig) heir(settings map[string]string) *harness.Postgres {
	r.t.Helper()
	ctx := r.t.Context()
	r.exec("SELECT pg_create_physical_replication_slot('heir', true)")
	all := map[string]string{"primary_slot_name": "heir", "hot_standby_feedback": "on", "sync_replication_slots": "on"}
	for k, v := range settings {
		all[k] = v
	}
	heir, err := r.pg.StartStandby(ctx, harness.PostgresConfig{Dir: filepath.Join(r.dir, "heir"), Settings: all})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, heir.Close()) })
	r.pgURL = fmt.Sprintf("postgres://postgres@127.0.0.1:%d,127.0.0.1:%d/app?sslmode=disable&target_session_attrs=read-write", heir.Port(), r.pg.Port())
	r.db.Close()
	r.db, err = pgxpool.New(ctx, r.pgURL)
	require.NoError(r.t, err)
	r.t.Cleanup(r.db.Close)
	return heir
}

// set changes a setting of a running server.
func set(t *testing.T, pg *harness.Postgres, name, value string) {
	t.Helper()
	require.NoError(t, pg.Exec(t.Context(), "app", fmt.Sprintf("ALTER SYSTEM SET %s = '%s'", name, value)))
	require.NoError(t, pg.Exec(t.Context(), "app", "SELECT pg_reload_conf()"))
}

// inherited reports that the standby has a slot of the pipeline that survives a promotion.
func inherited(t *testing.T, heir *harness.Postgres) (yes bool) {
	require.NoError(t, heir.QueryRow(t.Context(), "app", `SELECT EXISTS (SELECT FROM pg_replication_slots
		WHERE slot_name = 'walpurge_app' AND synced AND NOT temporary AND invalidation_reason IS NULL)`, &yes))
	return yes
}

// succeed has the standby take the place of the primary, which is killed.
func (r *rig) succeed(d *daemon, heir *harness.Postgres) {
	r.t.Helper()
	require.NoError(r.t, r.pg.Kill())
	require.NoError(r.t, heir.Exec(r.t.Context(), "app", "SELECT pg_promote()"))
	eventually(r.t, 30*time.Second, func() bool {
		return d.status().Reader.State == "streaming" && d.timeline("received", "") == 2
	}, "the daemon streams on the new timeline")
	r.db.Reset()
}

// timeline is that of a stage.
func (d *daemon) timeline(stage, target string) uint32 {
	for _, m := range d.status().Watermarks {
		if m.Stage == stage && m.Target == target {
			return m.Timeline
		}
	}
	return 0
}

// waitBeyond has somebody wait, until the test ends, for a position that the log does
// not come to, and returns where an answer would arrive.
func (d *daemon) waitBeyond(r *rig) <-chan string {
	var lsn string
	require.NoError(d.t, r.db.QueryRow(d.t.Context(), "SELECT (pg_current_wal_lsn() + 1e12::numeric)::text").Scan(&lsn))
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, "http://"+d.addr+"/api/v1/wait?timeout=4m&lsn="+url.QueryEscape(lsn), nil)
	require.NoError(d.t, err)
	answer := make(chan string, 1)
	go func() {
		if resp, err := http.DefaultClient.Do(req); err == nil {
			resp.Body.Close()
			answer <- resp.Status
		}
	}()
	return answer
}

// gaps counts the gaps of every reason.
func (d *daemon) gaps() map[string]string {
	out := make(map[string]string)
	for _, reason := range []string{"slot_lost", "stream_behind", "system_changed", "timeline_forked", "skipped", "max_retained", "undecodable", "unproven_claim", "table"} {
		if n := d.metric(`walpurge_gaps_total{reason="` + reason + `"}`); n != "0" {
			out[reason] = n
		}
	}
	return out
}

// TestFailoverIsNoGap kills the primary under load, with everything set that a failover
// slot needs. No commit that anybody saw is lost with it, since a synchronous standby
// has them all; so no purge may be lost, and nothing is flushed.
func TestFailoverIsNoGap(t *testing.T) {
	t.Parallel()
	for _, version := range []int{17, 18} {
		t.Run(fmt.Sprint("PostgreSQL ", version), func(t *testing.T) {
			r := newRig(t, rigOptions{binaries: major(t, version)})
			heir := r.heir(nil)
			set(t, r.pg, "synchronized_standby_slots", "heir")
			set(t, r.pg, "synchronous_standby_names", "*")
			r.config(freeAddr(t))
			o := r.call("setup")
			require.Zero(t, o.code, o.stderr)
			judge := newOracle(r)
			d := r.start()
			w := startWriters(r, 4)
			// The server's worker waits up to 30 s between two tries.
			eventually(t, 2*time.Minute, func() bool { return inherited(t, heir) && w.count() > 300 }, "the slot is synchronised")
			o = r.call("check")
			require.Zero(t, o.code, o.stdout)
			require.Equal(t, uint32(1), d.timeline("purged", "cache"))

			early := d.waitBeyond(r)
			r.succeed(d, heir)
			w.forgive()
			n := w.count()
			eventually(t, 30*time.Second, func() bool { return w.count() > n+300 }, "rows are written on the new primary")
			commits := w.halt(t)
			d.wait(r.lsn(), time.Minute)
			select {
			case answer := <-early:
				require.FailNow(t, "nothing was purged up to there", answer)
			default:
			}
			require.Empty(t, judge.lost())
			require.Empty(t, d.gaps(), "a failover with its slot is no gap")
			for _, m := range d.status().Watermarks {
				require.Equal(t, uint32(2), m.Timeline, "%s %s goes on on the new timeline", m.Stage, m.Target)
			}
			d.fresh()
			t.Logf("%d transactions committed, none lost", commits)

			// And the claims of the new timeline hold over a restart.
			d.kill()
			r.fill([]string{"category:1"})
			r.exec("INSERT INTO categories (id) VALUES (1)")
			d = r.start()
			d.wait(r.lsn(), time.Minute)
			require.Empty(t, r.held("category:1"))
			require.Empty(t, d.gaps())
		})
	}
}

// TestFailoverWithoutTheSlot: where the slot did not come along, what was not read is
// unknown.
func TestFailoverWithoutTheSlot(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, failover string
		standby        map[string]string
	}{
		{"no failover slot", "false", nil},
		{"not synchronised", "true", map[string]string{"sync_replication_slots": "off"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := newRig(t, rigOptions{binaries: major(t, 17)})
			r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
			heir := r.heir(tc.standby)
			set(t, r.pg, "synchronous_standby_names", "*")
			addr := freeAddr(t)
			r.config(addr)
			r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  failover: "+tc.failover+"\n")
			d := r.spawn(addr, r.path("walpurge.yaml"), nil)
			d.untilStreaming()
			d.wait(r.lsn(), 20*time.Second)
			require.False(t, inherited(t, heir))
			r.fill([]string{"product:1", "product:slug:a", "session:1"}, "/product-1")

			r.succeed(d, heir)
			d.wait(r.lsn(), time.Minute)
			require.Equal(t, []string{"session:1"}, r.held("product:1", "product:slug:a", "session:1"))
			require.Zero(t, r.edge.Objects())
			require.Equal(t, map[string]string{"slot_lost": "1"}, d.gaps())
			r.fill([]string{"product:1"})
			r.exec("UPDATE products SET name = 'new' WHERE id = 1")
			d.wait(r.lsn(), time.Minute)
			require.Empty(t, r.held("product:1"), "the line goes on")
			d.fresh()
		})
	}
}

// TestFailoverThatUndoesCommits: a standby without the newest commit takes over with the
// slot. A copy of the row that was undone is stale, and no change will ever say so. Where
// the primary streams nothing that the standby lacks, the daemon had nothing of it.
func TestFailoverThatUndoesCommits(t *testing.T) {
	t.Parallel()
	for _, held := range []bool{false, true} {
		t.Run(fmt.Sprint("held back ", held), func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{binaries: major(t, 17)})
			r.exec("INSERT INTO products (id, slug, name) VALUES (1, 'a', 'old')")
			heir := r.heir(nil)
			if held {
				set(t, r.pg, "synchronized_standby_slots", "heir")
			}
			d := r.start()
			d.wait(r.lsn(), 20*time.Second)
			eventually(t, 60*time.Second, func() bool { return inherited(t, heir) }, "the slot is synchronised")
			set(t, heir, "primary_conninfo", "")
			eventually(t, 20*time.Second, func() bool {
				var receivers int
				require.NoError(t, heir.QueryRow(t.Context(), "app", "SELECT count(*) FROM pg_stat_wal_receiver", &receivers))
				return receivers == 0
			}, "the standby receives nothing more")
			if held {
				r.fill([]string{"product:1"}, "/product-1")
			}
			r.exec("UPDATE products SET name = 'undone' WHERE id = 1")
			if !held {
				d.wait(r.lsn(), 20*time.Second)
				r.fill([]string{"product:1"}, "/product-1") // with what a reader saw after the purge
			}

			r.succeed(d, heir)
			d.wait(r.lsn(), time.Minute)
			var name string
			require.NoError(t, r.db.QueryRow(t.Context(), "SELECT name FROM products WHERE id = 1").Scan(&name))
			require.Equal(t, "old", name)
			if held {
				require.Empty(t, d.gaps())
				require.Equal(t, []string{"product:1"}, r.held("product:1"), "the copy is of a row that did not change")
			} else {
				require.Equal(t, map[string]string{"timeline_forked": "1"}, d.gaps())
				require.Empty(t, r.held("product:1"))
				require.Zero(t, r.edge.Objects())
			}
			r.fill([]string{"product:1"})
			r.exec("UPDATE products SET name = 'new' WHERE id = 1")
			d.wait(r.lsn(), time.Minute)
			require.Empty(t, r.held("product:1"), "the line goes on")
			d.fresh()
		})
	}
}
