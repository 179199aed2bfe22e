package integration

import (
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestStuckEvaluation: while an evaluation does not end, the status is not FRESH, the probes fail, and the log says
// what the reader stands on, after a restart as well. A stop ends the daemon, and nothing is lost.
func TestStuckEvaluation(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.extra = "drain_timeout: 1s"
	d := r.start("WALPURGE_FAILPOINTS=stuck_evaluation@" + r.path("stuck"))
	r.exec("INSERT INTO categories (id) VALUES (1)")
	d.wait(r.lsn(), 20*time.Second)
	d.fresh()
	r.fill([]string{"category:2"}, "/category-2")
	require.NoError(t, os.WriteFile(r.path("stuck"), nil, 0o600))
	r.exec("INSERT INTO categories (id) VALUES (2)")
	stuck := func(d *daemon) {
		d.logged("the reader does not move")
		d.logged("a change of public.categories in transaction")
		for _, probe := range []string{"/-/healthy", "/-/streaming"} {
			code, body := d.get(probe)
			require.Equal(t, 503, code)
			require.Contains(t, body, "a change of public.categories in transaction")
		}
		s := d.status()
		require.False(t, s.Fresh)
		require.Contains(t, s.Summary, "STALE: nothing is read")
		require.Equal(t, "0", d.metric("walpurge_fresh"))
	}
	stuck(d)
	d.kill()
	d = r.launch("WALPURGE_FAILPOINTS=stuck_evaluation@" + r.path("stuck"))
	stuck(d)
	require.NoError(t, d.cmd.Process.Signal(syscall.SIGTERM))
	select {
	case <-d.done:
	case <-time.After(hang):
		t.Fatal("SIGTERM does not end the daemon")
	}
	d.logged("what it evaluates does not end")
	require.NotEmpty(t, r.held("category:2"))
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	d.fresh()
	require.Empty(t, r.held("category:2"))
	d.term()
}
