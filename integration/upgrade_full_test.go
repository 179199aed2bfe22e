//go:build full

package integration

import (
	"context"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// TestUpgradeWithPgUpgrade follows docs/operations.md with pg_upgrade: the daemon is stopped, its slot and
// publication are dropped, and the start on the new cluster flushes every sink. Both clusters are of
// one major version, which pg_upgrade takes: the other versions here come without it.
func TestUpgradeWithPgUpgrade(t *testing.T) {
	t.Parallel()
	binaries, err := harness.FindInstalled()
	require.NoError(t, err)
	r := newRig(t, rigOptions{binaries: binaries})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"product:1", "stays"}, "/product-1")
	d.term()
	out := r.call("setup", "--drop")
	require.Zero(t, out.code, out.stderr)
	_, err = r.pg.Stop(t.Context(), harness.Fast)
	require.NoError(t, err)

	old, data := r.path("pg/old"), r.pg.DataDir()
	info, err := os.Stat(data)
	require.NoError(t, err)
	owner := info.Sys().(*syscall.Stat_t)
	asOwner := func(name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, binaries.Path(name), args...)
		cmd.Dir = r.path("pg")
		cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+r.path("pg"))
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}}
		text, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s\n%s", name, text)
	}
	require.NoError(t, os.Rename(data, old))
	asOwner("initdb", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "-D", data)
	asOwner("pg_upgrade", "-b", binaries.Dir, "-B", binaries.Dir, "-d", old, "-D", data, "-U", "postgres", "-s", r.pg.SocketDir())
	require.NoError(t, r.pg.Restart(t.Context()))

	r.exec("UPDATE products SET name = 'b' WHERE id = 1")
	d = r.start()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, "1", d.metric(`walpurge_gaps_total{reason="slot_lost"}`))
	require.Equal(t, []string{"stays"}, r.held("product:1", "stays"))
	require.Zero(t, r.edge.Objects())
	d.fresh()
	r.fill([]string{"product:1"})
	r.exec("UPDATE products SET name = 'c' WHERE id = 1")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"))
}
