package integration

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness/edge"
)

// pick waits a random time while the system works.
func pick(from, to time.Duration) { <-time.After(from + rand.N(to-from)) }

// TestKilledDaemonLosesNothing kills the daemon three times (or fifty) at random
// moments while four writers write.
func TestKilledDaemonLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	o.slow(2 * time.Millisecond)
	d := r.start()
	w := startWriters(r, 4)
	kills := rounds(3, 50)
	for range kills {
		pick(200*time.Millisecond, 1500*time.Millisecond)
		d.kill()
		pick(0, 300*time.Millisecond)
		d = r.start()
	}
	pick(200*time.Millisecond, 500*time.Millisecond)
	commits := w.halt(t)
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	require.Equal(t, "0", d.metric(`walpurge_flushes_total{reason="stream_behind",sink="cache"}`), "a killed daemon is not a gap")
	t.Logf("%d transactions committed, %d kills, none lost", commits, kills)
	d.term()
}

// TestAckBeforePurgeIsCaught proves that the oracle would notice: a daemon that
// acknowledges before it purges loses what was in flight at the kill.
func TestAckBeforePurgeIsCaught(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	o.slow(40 * time.Millisecond)
	const bug = "WALPURGE_FAILPOINTS=ack_before_purge"
	d := r.start(bug)
	for kills := 0; len(o.lost()) == 0; kills++ {
		require.Less(t, kills, 5, "the oracle must see purges that a too early acknowledgement lost")
		w := startWriters(r, 4)
		eventually(t, hang, func() bool { return w.count() > 100 }, "rows are written")
		pick(300*time.Millisecond, 800*time.Millisecond)
		d.kill()
		w.halt(t)
		d = r.start(bug)
		d.wait(r.lsn(), hang)
	}
}

// TestKilledValkeyLosesNothing kills Valkey under load. While it is down its lane
// waits, and so does the edge behind it.
func TestKilledValkeyLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	d := r.start()
	w := startWriters(r, 4)
	for range rounds(2, 15) {
		pick(300*time.Millisecond, 900*time.Millisecond)
		require.NoError(t, r.vk.Kill())
		eventually(t, 20*time.Second, func() bool { return d.sink("cache").State == "blocked" }, "the lane says that the sink fails")
		require.NoError(t, r.vk.Restart(t.Context()))
		eventually(t, 20*time.Second, func() bool { return d.sink("cache").State == "ok" }, "the lane recovers by itself")
	}
	w.halt(t)
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	d.term()
}

// TestFailingEdgeLosesNothing lets the edge refuse in every way that passes.
func TestFailingEdgeLosesNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	o := newOracle(r)
	d := r.start()
	w := startWriters(r, 4)
	for _, fault := range []edge.Fault{
		{Kind: edge.Throttled, Wait: time.Second}, {Kind: edge.ServerError}, {Kind: edge.Refused}, {Kind: edge.Reset}, {Kind: edge.Timeout, Wait: 500 * time.Millisecond},
	} {
		r.edge.Inject(2, fault)
		pick(300*time.Millisecond, 600*time.Millisecond)
	}
	r.edge.Heal()
	w.halt(t)
	d.wait(r.lsn(), time.Minute)
	require.Empty(t, o.lost())
	require.Zero(t, d.sink("edge").Parked, "what passes is never given up")
	d.term()
}
