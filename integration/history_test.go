package integration

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// historyChanges is how often the daemon found another history of the cache and what it did.
func (d *daemon) historyChanges(reason, answer string) string {
	return d.metric(fmt.Sprintf(`walpurge_history_changes_total{answer=%q,reason=%q,sink="cache"}`, answer, reason))
}

// productKeys are the keys of some products.
func productKeys(first, last int) (keys []string) {
	for id := first; id <= last; id++ {
		keys = append(keys, "product:"+strconv.Itoa(id))
	}
	return keys
}

// TestValkeyComesBackWithWhatWasPurged: a Valkey that saves comes back from kill -9, alone and together with the
// daemon, and from a snapshot that an operator restores, with entries that were purged. They are purged again.
func TestValkeyComesBackWithWhatWasPurged(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{valkey: []string{"--save", "3600 1 300 100 60 10000"}})
	r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, 20) n")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	kept := []string{"other", "product:21"}
	purge := func() string {
		r.exec("UPDATE products SET name = name || 'x' WHERE id <= 10")
		return r.lsn()
	}
	filled := func() {
		r.fill(append(productKeys(1, 10), kept...))
		r.do("SAVE")
	}
	restart := func() { require.NoError(t, r.vk.Restart(t.Context())) }

	filled()
	d.wait(purge(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.NoError(t, r.vk.Kill())
	restart()
	eventually(t, 20*time.Second, func() bool { return d.historyChanges("restarted", "purge") == "1" }, "the daemon notices")
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.Equal(t, kept, r.held(kept...), "it is not flushed")
	d.logged("the cache may hold again what was purged, that is purged again")

	// Daemon and cache are killed together.
	filled()
	d.wait(purge(), 20*time.Second)
	d.kill()
	require.NoError(t, r.vk.Kill())
	restart()
	require.Equal(t, productKeys(1, 10), r.held(productKeys(1, 10)...), "they are back")
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.Equal(t, "1", d.historyChanges("restarted", "purge"))
	d.fresh()

	// An operator restores an older snapshot while the daemon is down.
	filled()
	snapshot, err := os.ReadFile(r.path("valkey/dump.rdb"))
	require.NoError(t, err)
	d.wait(purge(), 20*time.Second)
	r.do("SAVE")
	d.term()
	require.NoError(t, r.vk.Stop(t.Context()))
	require.NoError(t, os.WriteFile(r.path("valkey/dump.rdb"), snapshot, 0o644))
	restart()
	require.Equal(t, productKeys(1, 10), r.held(productKeys(1, 10)...), "they are back")
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held(productKeys(1, 10)...))
	require.Equal(t, kept, r.held(kept...), "it is not flushed")
	d.fresh()
	d.term()
}

// standby is a replica of the rig's Valkey behind the address that the daemon is told, as behind a name that is
// pointed at it in a failover.
type standby struct {
	r       *rig
	replica *harness.Valkey
	l       net.Listener

	mu     sync.Mutex
	target string
	conns  []net.Conn
}

// replicate gives the rig's Valkey a replica that has all it has.
func (r *rig) replicate() *standby {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), hang)
	defer cancel()
	host, port, err := net.SplitHostPort(r.vk.Addr())
	require.NoError(r.t, err)
	s := &standby{r: r, target: r.vk.Addr()}
	s.replica, err = harness.StartValkey(ctx, harness.ValkeyConfig{Dir: r.path("replica"), Args: []string{"--replicaof", host + " " + port}})
	require.NoError(r.t, err)
	r.t.Cleanup(func() { require.NoError(r.t, s.replica.Close()) })
	s.until("INFO replication", "master_link_status:up")
	s.l, err = net.Listen("tcp", "127.0.0.1:0")
	require.NoError(r.t, err)
	r.t.Cleanup(func() { s.l.Close(); s.point("") })
	go func() {
		for {
			in, err := s.l.Accept()
			if err != nil {
				return
			}
			go s.pass(in)
		}
	}()
	r.valkeyURL = "valkey://" + s.l.Addr().String() + "/0"
	return s
}

func (s *standby) pass(in net.Conn) {
	defer in.Close()
	s.mu.Lock()
	target := s.target
	s.mu.Unlock()
	out, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	defer out.Close()
	s.mu.Lock()
	s.conns = append(s.conns, in, out)
	s.mu.Unlock()
	go func() {
		_, _ = io.Copy(out, in)
		out.Close()
	}()
	_, _ = io.Copy(in, out)
}

// point has the address lead to another server, for new connections.
func (s *standby) point(addr string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.target = addr
	for _, c := range s.conns {
		c.Close()
	}
	s.conns = nil
}

func (s *standby) ask(command string) string {
	s.r.t.Helper()
	reply, err := s.replica.Ask(s.r.t.Context(), command)
	require.NoError(s.r.t, err)
	return reply
}

func (s *standby) until(command, says string) {
	s.r.t.Helper()
	eventually(s.r.t, hang, func() bool { return strings.Contains(s.ask(command), says) }, "%s says %s", command, says)
}

// TestSinkWithAnotherCache: a sink that is given another server, database or prefix is flushed there, and is not
// for another name of its server.
func TestSinkWithAnotherCache(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	other, err := harness.StartValkey(t.Context(), harness.ValkeyConfig{Dir: r.path("other")})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, other.Close()) })
	stale := func(v *harness.Valkey, command string) string {
		reply, err := v.Ask(t.Context(), command)
		require.NoError(t, err)
		return reply
	}
	d := r.start()
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:9"})

	reload := func(old, next string) {
		t.Helper()
		r.edit("walpurge.yaml", old, next)
		code, body := d.post("/-/reload")
		require.Equal(t, 200, code, body)
		d.untilStreaming()
		d.wait(r.lsn(), 20*time.Second)
	}
	_, port, _ := net.SplitHostPort(r.vk.Addr())
	reload(r.valkeyURL, "valkey://localhost:"+port+"/0")
	require.Equal(t, []string{"product:9"}, r.held("product:9"), "another name of the server")
	require.Equal(t, "0", d.historyChanges("new_target", "flush"))

	stale(other, "SET product:9 v")
	reload("valkey://localhost:"+port+"/0", other.URL())
	require.Equal(t, "0", stale(other, "EXISTS product:9"), "another server")
	require.Equal(t, "1", d.historyChanges("new_target", "flush"))
	require.Equal(t, []string{"product:9"}, r.held("product:9"))

	// While no daemon runs; and then not again.
	d.term()
	stale(other, "SET app:product:9 v")
	r.edit("walpurge.yaml", other.URL()+`"`, other.URL()+`", key_prefix: "app:"`)
	d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, "0", stale(other, "EXISTS app:product:9"), "another prefix")
	require.Equal(t, "1", d.historyChanges("new_target", "flush"))
	d.term()
	stale(other, "SET app:product:9 v")
	d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, "1", stale(other, "EXISTS app:product:9"), "the same as before")
	require.Equal(t, "0", d.historyChanges("new_target", "flush"))
	d.term()
}
