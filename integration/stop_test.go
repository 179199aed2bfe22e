package integration

import (
	"fmt"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/harness/edge"
)

// slot reads the slot: is it in use, and where was it confirmed.
func (r *rig) slot() (active bool, confirmed string) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(),
		"SELECT active, confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walpurge_app'").Scan(&active, &confirmed))
	return active, confirmed
}

func TestStopUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	keys := r.categoryKeys(7000)
	r.extra = "drain_timeout: 5s"
	at := 0
	for range 3 {
		d := r.start()
		w := r.writeOn(at, 2000)
		eventually(t, 30*time.Second, func() bool { return w.committed.Load() > int64(at+200) }, "rows are written")
		t.Logf("SIGTERM under load took %s", d.term())
		eventually(t, 30*time.Second, func() bool { active, _ := r.slot(); return !active }, "the slot is free")
		at = w.end() + 1
	}
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	var ids []int
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT array_agg(id::int) FROM categories").Scan(&ids))
	for _, id := range ids {
		require.Empty(t, r.held(keys[id]))
	}
	d.term()
}

// TestStopBesideOtherWork stops in the middle of a transaction and while other
// tables are written: neither is waited for, which would last until drain_timeout.
func TestStopBesideOtherWork(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "drain_timeout: 10m"
	r.exec("CREATE TABLE other (id bigint, body text)")
	for range 4 {
		d := r.start()
		r.exec("INSERT INTO categories (id) SELECT n FROM generate_series(1, 100) n ON CONFLICT (id) DO UPDATE SET id = excluded.id")
		r.exec("INSERT INTO other SELECT n, repeat('x', 100) FROM generate_series(1, 2000) n")
		r.exec("BEGIN; INSERT INTO categories (id) SELECT n FROM generate_series(1000, 60000) n ON CONFLICT (id) DO UPDATE SET id = excluded.id; COMMIT")
		t.Logf("SIGTERM took %s", d.term())
	}
}

func TestStopWithDeadSinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "drain_timeout: 3s"
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	keys := r.categoryKeys(500)
	require.NoError(t, syscall.Kill(r.vk.PID(), syscall.SIGSTOP))
	r.edge.Inject(-1, edge.Fault{Kind: edge.ServerError})
	r.exec("INSERT INTO categories (id) SELECT n FROM generate_series(0, 499) n")
	end := r.lsn()
	eventually(t, 30*time.Second, func() bool { return d.sink("cache").Backlog > 0 }, "the cache has a backlog")
	t.Logf("SIGTERM with dead sinks took %s", d.term())
	active, confirmed := r.slot()
	require.False(t, active)
	var past bool
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT $1::pg_lsn >= $2::pg_lsn", confirmed, end).Scan(&past))
	require.True(t, past, "what was received is in the stream and confirmed: %s, want %s", confirmed, end)

	require.NoError(t, syscall.Kill(r.vk.PID(), syscall.SIGCONT))
	r.edge.Heal()
	d = r.start()
	d.wait(end, 20*time.Second)
	require.Empty(t, r.held(keys...))
}

func TestSecondDaemonOnOneDirectory(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	r.config(freeAddr(t))
	o := r.call("run")
	require.Equal(t, fmt.Sprintf("walpurge: data_dir %s is in use by another walpurge (pid %d); stop that one, or give this one a data_dir of its own\n",
		r.path("data"), d.cmd.Process.Pid), o.stderr)
	require.Equal(t, 1, o.code)
	require.Equal(t, "streaming", d.status().Reader.State)
	r.fill([]string{"category:1"})
	r.exec("INSERT INTO categories (id) VALUES (1)")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("category:1"))
}

// TestStandbyTakesOver runs two daemons with a directory each on one slot.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	first := r.start()
	first.wait(r.lsn(), 30*time.Second)
	addr := freeAddr(t)
	r.config(addr)
	r.edit("walpurge.yaml", "/data\n", "/data2\n")
	second := r.launchFile(r.read("walpurge.yaml"))
	eventually(t, 30*time.Second, func() bool { code, _ := second.get("/-/ready"); return code == http.StatusOK }, "a standby is ready")
	require.Equal(t, "standby", second.status().Reader.State)
	code, _ := second.get("/-/streaming")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Equal(t, "0", second.metric("walpurge_leader"))
	require.Equal(t, "1", first.metric("walpurge_leader"))
	standbyAnswers(t, second, false, `slot "walpurge_app" is active for PostgreSQL process`)
	require.Contains(t, second.status().Reader.Error, "which serves a client at 127.0.0.1")
	first.term()
	second.untilStreaming()
	second.logged("gap in the line, flushing every sink") // it cannot know what the first had purged
	r.fill([]string{"category:1"})
	r.exec("INSERT INTO categories (id) VALUES (1)")
	second.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("category:1"))
}

// TestDatabaseIsDown: that is no fault of the input, so the daemon waits.
func TestDatabaseIsDown(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "drain_timeout: 10m" // which a stop does not wait for
	_, err := r.pg.Stop(t.Context(), harness.Fast)
	require.NoError(t, err)
	for range 2 {
		d := r.launch()
		eventually(t, 30*time.Second, func() bool { code, _ := d.get("/-/healthy"); return code == http.StatusOK }, "it listens")
		code, body := d.get("/-/ready")
		require.Equal(t, http.StatusServiceUnavailable, code)
		require.Contains(t, body, "reader is connecting")
		d.logged("the database does not answer, waiting for it")
		d.term()
	}
	d := r.launch()
	eventually(t, 30*time.Second, func() bool { code, _ := d.get("/-/healthy"); return code == http.StatusOK }, "it listens")
	r.restart()
	d.untilStreaming()
	r.fill([]string{"category:1"})
	r.exec("INSERT INTO categories (id) VALUES (1)")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("category:1"))
}

// TestStopBeforeTheStart ends a daemon that still waits for the first answer of
// a database that accepts and says nothing.
func TestStopBeforeTheStart(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	accepted := make(chan net.Conn, 1)
	go func() {
		if c, err := l.Accept(); err == nil {
			accepted <- c
		}
	}()
	r.extra = "drain_timeout: 10m" // which it does not wait for
	r.config(freeAddr(t))
	r.edit("walpurge.yaml", r.pg.URL("app"), "postgres://postgres@"+l.Addr().String()+"/app?sslmode=disable")
	d := r.launchFile(r.read("walpurge.yaml"))
	c := <-accepted
	defer c.Close()
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGHUP))
	d.term()
	require.Contains(t, d.logs.String(), "stopped before the start was complete")
}
