package integration

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestRenamedSink: a backlog under an old name is neither lost nor dropped
// without being asked for.
func TestRenamedSink(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"category:1"})
	require.NoError(t, syscall.Kill(r.vk.PID(), syscall.SIGSTOP))
	r.exec("INSERT INTO categories (id) VALUES (1)")
	end := r.lsn()
	eventually(t, 20*time.Second, func() bool { return d.sink("cache").Backlog > 0 }, "the lane has a backlog")
	d.kill()
	r.wakeCache("category:1")

	addr := freeAddr(t)
	r.config(addr)
	r.edit("walpurge.yaml", "  cache:\n", "  valkey:\n", "after: [cache]", "after: [valkey]")
	o := r.call("run")
	require.Equal(t, 2, o.code)
	require.Equal(t, "walpurge: "+r.path("walpurge.yaml")+":7:3: sink cache is gone from the file, and its lane holds invalidations that were not purged; "+
		"give the sink that took its place `formerly: cache`, or drop them with `retired: [cache]` at the top level\n", o.stderr)

	r.edit("walpurge.yaml", "  edge:\n", "    formerly: cache\n  edge:\n")
	d = r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(end, 30*time.Second)
	require.Empty(t, r.held("category:1"))
	d.term()

	// And one that is given up on purpose.
	r.edit("walpurge.yaml", "  valkey:\n", "  other:\n", "after: [valkey]", "after: [other]", "    formerly: cache\n", "", "pipeline: app\n", "pipeline: app\nretired: [valkey]\n")
	d = r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	d.term()
}
