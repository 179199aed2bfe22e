//go:build full

package integration

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// TestSentinelFailoverInAStorm: a sentinel promotes the replica while 20,000 keys are purged. What the old primary
// had purged and the replica had not received is purged again.
func TestSentinelFailoverInAStorm(t *testing.T) {
	t.Parallel()
	const rows, batches = 20_000, 40
	r := newRig(t, rigOptions{})
	s := r.replicate()
	host, port, _ := net.SplitHostPort(r.vk.Addr())
	binary, err := harness.FindValkey()
	require.NoError(t, err)
	at, err := harness.FreePort()
	require.NoError(t, err)
	r.write("sentinel.conf", fmt.Sprintf("port %d\nbind 127.0.0.1\nsentinel monitor shop %s %s 1\nsentinel down-after-milliseconds shop 60000\nsentinel failover-timeout shop 60000\n", at, host, port))
	cmd := exec.Command(binary, r.path("sentinel.conf"), "--sentinel")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	sentinel := net.JoinHostPort("127.0.0.1", strconv.Itoa(at))
	eventually(t, hang, func() bool {
		conn, err := net.Dial("tcp", sentinel)
		if err == nil {
			conn.Close()
		}
		return err == nil
	}, "the sentinel listens")
	watch := newCacheClient(t, sentinel)

	r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, $1) n", rows)
	addr := freeAddr(t)
	r.valkeyURL = "valkey://" + sentinel + "/0"
	r.config(addr)
	r.edit("walpurge.yaml", r.valkeyURL+`"`, r.valkeyURL+`", sentinel_master: shop`)
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), time.Minute)
	r.fill(productKeys(1, rows))
	eventually(t, hang, func() bool { return s.ask("DBSIZE") == strconv.Itoa(rows) }, "the replica has all entries")

	for n := range batches {
		r.exec("UPDATE products SET name = name || 'x' WHERE id % $1 = $2", batches, n)
		if n == batches/2 {
			eventually(t, hang, func() bool {
				return watch.Do(t.Context(), watch.B().Arbitrary("SENTINEL", "FAILOVER", "shop").Build()).Error() == nil
			}, "the sentinel begins a failover")
		}
	}
	s.until("INFO replication", "role:master")
	eventually(t, hang, func() bool { return d.historyChanges("failover", "purge") != "0" }, "the daemon notices")
	d.wait(r.lsn(), time.Minute)
	require.Equal(t, "0", s.ask("DBSIZE"), "nothing that was purged is held")
	d.fresh()
	d.term()
}
