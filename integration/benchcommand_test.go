package integration

import (
	"encoding/json"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/bench"
)

// left counts what a bench may have left in the database.
func (r *rig) left() (n int) {
	r.t.Helper()
	require.NoError(r.t, r.db.QueryRow(r.t.Context(), `SELECT (SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'walpurge_bench%')
		+ (SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'walpurge_bench') + (SELECT count(*) FROM pg_publication WHERE pubname = 'walpurge_bench')`).Scan(&n))
	return n
}

// TestBenchCommand measures beside a daemon that runs: it leaves nothing behind, also
// when it is interrupted, and disturbs nothing.
func TestBenchCommand(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "walpurge_bench"}, "/product-1")

	out := r.call("bench", "--yes", "--json", "--rows", "2000", "--rate", "200", "--for", "2s")
	require.Equal(t, 0, out.code, out.stderr)
	var report bench.Report
	require.NoError(t, json.Unmarshal([]byte(out.stdout), &report))
	require.Equal(t, 2000, report.Rows)
	require.Greater(t, report.RowsPerSecond, 1.0)
	require.Equal(t, 400, report.Commits)
	require.Equal(t, "cache", report.Sinks[0].Sink)
	require.Greater(t, report.Sinks[0].P99, 0.0)
	require.Zero(t, r.left())

	out = r.call("bench", "--yes", "--sink", "edge", "--rows", "100", "--rate", "20", "--for", "1s")
	require.Equal(t, 0, out.code, out.stderr)
	require.Contains(t, out.stdout, "commit to purged at edge, 20 transactions at 20 a second: p50 ")
	require.Zero(t, r.left())

	for _, args := range [][]string{{"--rows", "10"}, {"--yes", "--sink", "nobody"}, {"--yes", "--rate", "0"}} {
		out = r.call("bench", args...)
		require.Equal(t, 2, out.code, out.stderr)
		require.Empty(t, out.stdout)
	}

	cmd := command(nil, "bench", "-c", r.path("walpurge.yaml"), "--yes", "--rows", "1000", "--for", "1m")
	var said logs
	cmd.Stderr = &said
	require.NoError(t, cmd.Start())
	eventually(t, 60*time.Second, func() bool { return strings.Contains(said.String(), "changing ") }, "it measures")
	require.NotZero(t, r.left())
	require.NoError(t, cmd.Process.Signal(syscall.SIGINT))
	require.Error(t, cmd.Wait())
	require.Equal(t, 1, cmd.ProcessState.ExitCode())
	require.Zero(t, r.left(), said.String())

	r.exec("CREATE SCHEMA walpurge_bench")
	out = r.call("bench", "--yes")
	require.Equal(t, 1, out.code)
	require.Contains(t, out.stderr, "there is a schema walpurge_bench that is not of an earlier run")
	require.Equal(t, 1, r.left(), "what is not ours is left alone")

	require.Equal(t, []string{"product:1", "walpurge_bench"}, r.held("product:1", "walpurge_bench"))
	require.True(t, r.edge.Stored(r.edge.URL()+"/product-1"))
	d.wait(r.lsn(), 20*time.Second)
	d.fresh()
}
