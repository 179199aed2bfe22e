//go:build failpoints

package integration

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// crashPoint is a place on the way of a change, in their order, and what makes
// the daemon come by if writers do not.
type crashPoint struct {
	name, where string
	cause       func(r *rig, d *daemon)
}

var crashPoints = []crashPoint{
	{"received", "between the connection and the decoder", nil},
	{"evaluated", "between the rules and the stream", nil},
	{"published", "between the publication and its acknowledgement", nil},
	{"stored", "between the acknowledgement and the claim", nil},
	{"claimed", "between the claim and the sync", nil},
	{"synced", "between the sync and the confirmation", nil},
	{"confirmed", "after the confirmation", nil},
	{"delivered", "between the delivery and the purge", nil},
	{"purging", "between two calls of one turn", func(r *rig, _ *daemon) {
		r.exec("INSERT INTO products (id, slug) SELECT n, 'many' FROM generate_series(1, 400) n ON CONFLICT (id) DO UPDATE SET name = 'many'")
	}},
	{"purged", "between the purge and the announcement", nil},
	{"announced", "between the announcement and the acknowledgement", nil},
	{"acknowledged", "between the acknowledgement and the mark", nil},
	{"reloading", "between old and new rules", func(r *rig, d *daemon) {
		r.edit("rules/catalog.yaml", "  - name: product\n", "  - {name: version, table: public.versions, keys: [\"version:{id}\"]}\n  - name: product\n")
		require.NoError(r.t, d.cmd.Process.Signal(syscall.SIGHUP))
	}},
	{"parking", "between a parked purge and its sync", func(_ *rig, d *daemon) { d.run("purge", "--sink", "edge", "--tag", "x y") }},
}

// ends waits for a daemon that is to crash.
func (d *daemon) ends(where string) {
	d.t.Helper()
	select {
	case <-d.done:
		require.ErrorContains(d.t, d.err, "killed", where)
	case <-time.After(30 * time.Second):
		require.FailNow(d.t, "the daemon did not come by "+where, d.logs.tail(30))
	}
}

// recovered starts a daemon after a crash, which is to crash at a place of its
// own once the file exists, and judges what the crash before has lost.
func recovered(r *rig, o *oracle, next crashPoint, trigger, before string) *daemon {
	r.t.Helper()
	passages := 1 + rand.IntN(5)
	if next.cause != nil {
		passages = 1
	}
	d := r.start(fmt.Sprintf("WALPURGE_FAILPOINTS=%s:%d@%s", next.name, passages, trigger))
	if before == "parking" {
		eventually(r.t, 30*time.Second, func() bool { return d.sink("edge").Parked > 0 }, "what was being parked is parked")
		d.ok("parked", "drop", "--all")
	}
	d.wait(r.lsn(), time.Minute)
	require.Empty(r.t, o.lost(), "killed at %s", before)
	return d
}

// TestCrashPoints kills the daemon at each of the places that a change comes by,
// while four writers write.
func TestCrashPoints(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	histories, commits, before := 0, 0, "none"
	for round := range rounds(1, 8) {
		for _, p := range crashPoints {
			trigger := r.path(fmt.Sprintf("crash-%d-%s", round, p.name))
			d := recovered(r, o, p, trigger, before)
			r.write("rules/catalog.yaml", catalog)
			w := startWriters(r, 4)
			require.NoError(t, os.WriteFile(trigger, nil, 0o600))
			if p.cause != nil {
				p.cause(r, d)
			}
			d.ends(p.where)
			eventually(t, 20*time.Second, func() bool { return w.count() > 100 }, "the writers go on without the daemon")
			commits += w.halt(t)
			histories++
			before = p.name
		}
	}
	d := recovered(r, o, crashPoint{name: "none"}, "none", before)
	require.Equal(t, "0", d.metric(`walpurge_flushes_total{reason="stream_behind",sink="cache"}`), "a killed daemon is not a gap")
	t.Logf("%d crashes, %d transactions committed, none lost", histories, commits)
	d.kill()

	// The answer to a gap is no different.
	require.NoError(t, os.RemoveAll(r.path("data")))
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET slug = 'b'")
	r.fill([]string{"product:1", "stays"}, "/product-1")
	r.launch("WALPURGE_FAILPOINTS=bridging").ends("between the flushes of a gap")
	require.True(t, r.edge.Stored(r.edge.URL()+"/product-1"), "killed before the claim, and so before the second sink")
	d = r.start()
	d.wait(r.lsn(), time.Minute)
	require.Equal(t, []string{"stays"}, r.held("product:1", "stays"))
	require.Zero(t, r.edge.Objects())
	eventually(t, 30*time.Second, func() bool { return strings.HasPrefix(d.status().Summary, "FRESH") }, "fresh by itself")
	d.term()
}

// catchUpPoints are the places that a backlog comes by which is read through SQL, in their order. Each is passed
// once or more for a chunk.
var catchUpPoints = []string{"received", "evaluated", "published", "copied", "stored", "claimed", "synced", "advanced", "delivered", "purged", "announced", "acknowledged"}

// TestCrashPointsWhileCatchingUp kills the daemon at each of the places that a backlog comes by, while it reads
// the backlog through SQL.
func TestCrashPointsWhileCatchingUp(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	const sql = "catch_up_always"
	r.start().kill()
	commits := 0
	for range rounds(1, 5) {
		for _, point := range catchUpPoints {
			w := startWriters(r, 4)
			eventually(t, hang, func() bool { return w.count() > 300 }, "the writers make a backlog")
			commits += w.halt(t)
			r.launch(fmt.Sprintf("WALPURGE_FAILPOINTS=%s:1,%s", point, sql)).ends("killed at " + point)
			d := r.start("WALPURGE_FAILPOINTS=" + sql)
			d.wait(r.lsn(), time.Minute)
			require.Empty(t, o.lost(), "killed at %s", point)
			require.Equal(t, "0", d.metric(`walpurge_flushes_total{reason="stream_behind",sink="cache"}`), "a killed daemon is not a gap")
			d.kill()
		}
	}
	t.Logf("%d transactions committed, none lost", commits)
}

// TestEdgeBeforeCacheIsCaught proves that the oracle judges order, too.
func TestEdgeBeforeCacheIsCaught(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	o.slow(40 * time.Millisecond)
	d := r.start("WALPURGE_FAILPOINTS=after_gate_ignored")
	w := startWriters(r, 4)
	eventually(t, 20*time.Second, func() bool { return w.count() > 200 }, "rows are written")
	w.halt(t)
	o.slow(0)
	d.wait(r.lsn(), time.Minute)
	require.NotEmpty(t, o.lost(), "the oracle must see an edge that is purged before the cache behind it")
}
