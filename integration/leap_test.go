package integration

import (
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fillLog makes the server write and switch log, which no table has a part in.
func (r *rig) fillLog(megabytes int) {
	r.t.Helper()
	for range megabytes {
		r.exec("SELECT pg_logical_emit_message(false, 'filler', repeat('x', 1 << 20))")
	}
}

// confirmed is the slot's confirmed position.
func (r *rig) confirmed() (lsn string) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walpurge_app'").Scan(&lsn))
	return lsn
}

// frozen does something while the daemon stands still.
func (d *daemon) frozen(do func()) {
	d.t.Helper()
	require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGSTOP))
	defer func() { require.NoError(d.t, d.cmd.Process.Signal(syscall.SIGCONT)) }()
	do()
}

// loseSlot lets the server remove log that the slot needs.
func (r *rig) loseSlot(d *daemon) {
	r.t.Helper()
	d.frozen(func() {
		r.exec("UPDATE products SET name = 'b' WHERE id = 1")
		eventually(r.t, 60*time.Second, func() bool {
			r.exec("SELECT pg_logical_emit_message(false, 'filler', 'x'), pg_switch_wal()")
			r.exec("CHECKPOINT")
			var status string
			require.NoError(r.t, r.db.QueryRow(r.t.Context(), "SELECT wal_status FROM pg_replication_slots").Scan(&status))
			return status == "lost"
		}, "the slot is lost")
	})
}

// cacheReturns starts the killed cache again. It holds the keys before the daemon
// sees it: the lane tries so often that it could else be done before they are there.
func (r *rig) cacheReturns(d *daemon, keys ...string) {
	r.t.Helper()
	d.frozen(func() {
		require.NoError(r.t, r.vk.Restart(r.t.Context()))
		r.fill(keys)
	})
}

// TestSlotInvalidated: a slot that the server has invalidated is made anew, and
// what lay between is flushed.
func TestSlotInvalidated(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{postgres: map[string]string{"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"}})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "stays"}, "/product-1")
	r.loseSlot(d)
	eventually(t, 30*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="slot_lost"}`) == "1" }, "the gap is found")
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "stays"))
	require.Zero(t, r.edge.Objects())
	d.logged("the server has invalidated the slot")
	d.fresh()
}

// TestSlotInvalidatedWaitsForAHuman: where a gap is to stop the daemon, it leaves the
// slot alone and says what to do.
func TestSlotInvalidatedWaitsForAHuman(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{postgres: map[string]string{"max_slot_wal_keep_size": "1MB", "min_wal_size": "32MB"}})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	addr := freeAddr(t)
	r.config(addr)
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  on_gap: stop\n")
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:2"}, "/product-2")
	r.loseSlot(d)
	eventually(t, 30*time.Second, func() bool { return strings.Contains(d.status().Summary, "was invalidated by the server") }, "the status says so")
	require.True(t, strings.HasPrefix(d.status().Summary, "NOT STREAMING"), d.status().Summary)
	d.kill()
	out := r.call("run")
	require.Equal(t, 1, out.code)
	require.Contains(t, out.stderr, "SELECT pg_drop_replication_slot('walpurge_app');")
	require.Equal(t, []string{"product:2"}, r.held("product:2"), "nothing is flushed yet")
}

// TestMaxRetained: with the stream full and a dead sink the reader waits, and the log
// that the database keeps for it is bounded all the same; what was given up is
// flushed once the sink is back.
func TestMaxRetained(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "stream: {max_bytes: 1MiB}"
	r.sinkExtra, r.edgeExtra = "    on_overflow: stop", "    on_overflow: stop"
	addr := freeAddr(t)
	r.config(addr)
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  max_retained: 24MiB\n")
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 10000) n")
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	require.NoError(t, r.vk.Kill())
	r.exec("UPDATE products SET ver = ver + 1")
	eventually(t, 30*time.Second, func() bool { return d.status().Reader.Blocked == "stream_full" }, "the stream fills")
	held := r.confirmed()
	r.fillLog(32)
	eventually(t, 60*time.Second, func() bool {
		var near bool
		require.NoError(t, r.db.QueryRow(t.Context(), `SELECT confirmed_flush_lsn > $1::pg_lsn AND pg_wal_lsn_diff(pg_current_wal_lsn(), confirmed_flush_lsn) < 24 << 20
			FROM pg_replication_slots`, held).Scan(&near))
		return near
	}, "the slot moves on without the reader")
	r.cacheReturns(d, "product:1", "product:10000", "stays")
	eventually(t, 60*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="max_retained"}`) == "1" }, "the gap is told")
	d.fresh()
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:10000", "stays"))
}

// TestSkip gives up what a daemon has not read, with the daemon running, without it,
// and where a gap is to stop it.
func TestSkip(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	addr := freeAddr(t)
	r.config(addr)
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  on_gap: stop\n")
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "stays"}, "/product-1")

	answer := func(text string, args ...string) outcome {
		cmd := command([]string{"WALPURGE_ADDR=" + d.addr}, append([]string{"skip", "-c", r.path("walpurge.yaml")}, args...)...)
		cmd.Stdin = strings.NewReader(text)
		var out, errs logs
		cmd.Stdout, cmd.Stderr = &out, &errs
		if err := cmd.Run(); err != nil {
			var exit *exec.ExitError
			require.ErrorAs(t, err, &exit)
		}
		return outcome{code: cmd.ProcessState.ExitCode(), stdout: out.String(), stderr: errs.String()}
	}
	for _, wrong := range []outcome{answer("shop\n", "--to", "current"), answer("", "--to", "current"), answer("app\n", "--to", "0/1"), answer("app\n")} {
		require.Equal(t, 2, wrong.code, wrong.stderr)
		require.Empty(t, wrong.stdout)
	}
	require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="skipped"}`))
	done := answer("app\n", "--to", "current")
	require.Equal(t, 0, done.code, done.stderr)
	require.Contains(t, done.stderr, "gives up every change that is not read yet, and flushes cache, edge")
	require.Contains(t, done.stdout, "every sink is being flushed")
	eventually(t, 30*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="skipped"}`) == "1" }, "the gap is told")
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "stays"))
	require.Zero(t, r.edge.Objects())
	d.fresh()
	d.term()

	r.fill([]string{"product:2"}, "/product-2")
	r.exec("UPDATE products SET name = 'missed' WHERE id = 1")
	done = answer("", "--to", "current", "--pipeline", "app")
	require.Equal(t, 0, done.code, done.stderr)
	require.Contains(t, done.stdout, "no daemon runs: its next start stops at the gap")
	out := r.call("run")
	require.Equal(t, 1, out.code)
	require.Contains(t, out.stderr, "gap: stream_behind")
	r.edit("walpurge.yaml", "on_gap: stop", "on_gap: flush")
	d = r.start()
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"))
	require.Zero(t, r.edge.Objects())
}
