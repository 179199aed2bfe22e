package integration

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// pair runs two daemons of one pipeline on a shared stream; first is the leader, and
// reaches the database by the cable.
func (r *rig) pair(c *natsCluster, line *cable) (first, second *daemon) {
	r.t.Helper()
	r.extra = fmt.Sprintf("nats: {url: '%s', replicas: 3}", c.url())
	addr := freeAddr(r.t)
	r.config(addr)
	r.edit("walpurge.yaml", fmt.Sprintf("127.0.0.1:%d/", r.pg.Port()), line.Addr().String()+"/")
	first = r.spawn(addr, r.path("walpurge.yaml"), nil)
	first.untilStreaming()
	require.NoError(r.t, os.Rename(r.path("walpurge.yaml"), r.path("first.yaml")))
	addr = freeAddr(r.t)
	r.config(addr)
	require.NoError(r.t, os.Rename(r.path("walpurge.yaml"), r.path("second.yaml")))
	second = r.spawn(addr, r.path("second.yaml"), nil)
	eventually(r.t, 30*time.Second, func() bool { code, _ := second.get("/-/ready"); return code == http.StatusOK }, "a standby is ready")
	require.Equal(r.t, "standby", second.status().Reader.State)
	code, _ := second.get("/-/streaming")
	require.Equal(r.t, http.StatusServiceUnavailable, code)
	require.Equal(r.t, "0", second.metric("walpurge_leader"))
	return first, second
}

func noGaps(t *testing.T, d *daemon) {
	t.Helper()
	for _, reason := range []string{"slot_lost", "stream_behind"} {
		require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+reason+`"}`), "the stream is shared, so taking over is no gap")
	}
}

// TestHighAvailability takes the leader away in three ways, under load: killed, it is
// gone at once; stopped, the server gives it up after wal_sender_timeout, and when it
// goes on it must notice that another one leads; cut off from the database, likewise.
// The other one takes over without a flush, the lanes with it, and nothing is lost.
func TestHighAvailability(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		within time.Duration
		takeAt func(d *daemon, line *cable)
		back   func(d *daemon, line *cable)
	}{
		{"killed", time.Minute, func(d *daemon, _ *cable) { d.kill() }, nil},
		{"stopped", time.Minute,
			func(d *daemon, _ *cable) { require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGSTOP)) },
			func(d *daemon, _ *cable) { require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGCONT)) }},
		{"cut off from the database", time.Minute,
			func(_ *daemon, line *cable) { line.cut.Store(true) },
			func(d *daemon, line *cable) {
				d.logged("another process has taken over the pipeline")
				line.cut.Store(false)
			}},
	} {
		if tc.back != nil && !full {
			continue // they take half a minute and more
		}
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{})
			c := startCluster(t, r.dir, "")
			o := newOracle(r)
			line := newCable(t, fmt.Sprintf("127.0.0.1:%d", r.pg.Port()))
			var th throttling
			r.edgeURL = th.before(t, r.edgeURL)
			first, second := r.pair(c, line)
			if tc.back == nil {
				standbyAnswers(t, second, true, first.addr)
				r.standbyActs(first, second, &th)
			}
			w := startWriters(r, 2)
			eventually(t, 20*time.Second, func() bool { return w.count() > 200 }, "rows are written")
			// The standby takes a pause for the pipeline, which outlives the leader.
			paused := func(d *daemon) func() bool { return func() bool { return d.sink("cache").State == "paused" } }
			code, body := second.post("/api/v1/pause", `{"sink": "cache", "for": "1h"}`)
			require.Equal(t, http.StatusOK, code, body)
			eventually(t, 20*time.Second, paused(first), "the leader holds the lane")
			began := time.Now()
			tc.takeAt(first, line)
			eventually(t, tc.within, func() bool { code, _ := second.get("/-/streaming"); return code == http.StatusOK }, "the standby takes over")
			t.Logf("%s: took over in %s", tc.name, time.Since(began).Round(time.Millisecond))
			require.True(t, paused(second)(), "a takeover keeps a pause")
			code, body = second.post("/api/v1/resume", `{"sink": "cache"}`)
			require.Equal(t, http.StatusOK, code, body)
			pick(200*time.Millisecond, 600*time.Millisecond)
			if tc.back != nil {
				tc.back(first, line)
				// It may find the slot taken before it reads in the stream that another one leads.
				eventually(t, 30*time.Second, func() bool {
					code, _ := first.get("/-/ready")
					return code == http.StatusOK && first.status().Reader.State == "standby" &&
						strings.Contains(first.logs.String(), "another process has taken over the pipeline")
				}, "the former leader stands by, since another process leads")
				pick(200*time.Millisecond, 600*time.Millisecond)
			}
			w.halt(t)
			second.wait(r.lsn(), time.Minute)
			require.Empty(t, o.lost())
			noGaps(t, second)
			second.fresh()
			if tc.back != nil {
				// And once more the other way round.
				second.term()
				first.untilStreaming()
				r.fill([]string{"category:1"})
				r.exec("INSERT INTO categories (id) VALUES (1)")
				first.wait(r.lsn(), 30*time.Second)
				require.Empty(t, r.held("category:1"))
				noGaps(t, first)
			}
		})
	}
}

// TestClusterNodesDie kills one of three servers of the stream, whose account is limited to what it needs, and nothing waits for it;
// the full suite then kills all and starts them again: the reader waits meanwhile and
// keeps its connection, the lag shows it, and everything goes on by itself.
func TestClusterNodesDie(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	c := startCluster(t, r.dir, shopAccount)
	o := newOracle(r)
	r.extra = fmt.Sprintf("nats: {url: '%s', replicas: 3}\nstream: {max_bytes: 64MiB}", c.url())
	d := r.start()
	w := startWriters(r, 2)
	eventually(t, 20*time.Second, func() bool { return w.count() > 100 }, "rows are written")
	c.kill(0)
	before := w.count()
	eventually(t, 30*time.Second, func() bool { return w.count() > before+200 }, "more rows are written")
	d.wait(r.lsn(), time.Minute)
	if full { // it takes a minute
		pid := r.walsender()
		c.kill(1)
		c.kill(2)
		eventually(t, 60*time.Second, func() bool { return d.status().Reader.Blocked == "nats_unreachable" }, "the reader waits")
		code, why := d.get("/-/streaming")
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Contains(t, why, "nats_unreachable")
		eventually(t, 60*time.Second, func() bool { return *d.sink("cache").LagSeconds > 5 }, "the lag grows")
		require.Equal(t, pid, r.walsender(), "the connection is kept")
		for i := range 3 {
			c.start(i)
		}
		eventually(t, 2*time.Minute, func() bool { code, _ := d.get("/-/streaming"); return code == http.StatusOK }, "it goes on by itself")
	}
	w.halt(t)
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	noGaps(t, d)
	require.False(t, strings.Contains(d.logs.String(), "panic"))
	d.fresh()
}
