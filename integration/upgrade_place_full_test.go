//go:build full

package integration

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// beforeMachine is the last commit in which the lane was no state machine.
const beforeMachine = "b78a293282eaa126446dc794a3921ae66e4c97d7"

// buildAt builds walpurge as it was at a commit.
func buildAt(t *testing.T, commit string) string {
	t.Helper()
	dir := t.TempDir()
	run := func(in, name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = in
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s %v: %s\nThe history of the repository is needed: git fetch --unshallow", name, args, out)
	}
	run("..", "git", "archive", "-o", filepath.Join(dir, "source.tar"), commit)
	run(dir, "tar", "-xf", "source.tar")
	run(dir, "go", "build", "-tags", "failpoints", "-o", filepath.Join(dir, "walpurge"), "./cmd/walpurge")
	return filepath.Join(dir, "walpurge")
}

// A daemon is killed with all kinds of unfinished work in its data directory, and one of the version after it, or before
// it, finishes that.
func TestUpgradeInPlace(t *testing.T) {
	t.Parallel()
	old := otherBinary + "=" + buildAt(t, beforeMachine)
	for name, versions := range map[string][2][]string{"upgrade": {{old}, nil}, "rollback": {nil, {old}}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, rigOptions{catalog: pacedCatalog})
			r.sinkExtra = "    max_backlog: 256KiB\n    second_purge: 20s"
			r.extra = "stream: {max_bytes: 8MiB}"
			r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 3000) n")
			r.exec("INSERT INTO categories (id) SELECT generate_series(1, 40000)")
			d := r.start(versions[0]...)
			d.wait(r.lsn(), 60*time.Second)

			r.exec("UPDATE products SET name = 'a' WHERE id = 1")
			d.wait(r.lsn(), 60*time.Second)
			r.fill([]string{"product:1"})
			r.exec("UPDATE products SET name = 'b' WHERE id = 1") // deferred for an hour
			r.exec("UPDATE products SET name = 'b' WHERE id = 2") // to be purged a second time
			eventually(t, 60*time.Second, func() bool { return len(purgesOf(r, "product-2")) > 0 }, "the deferred value holds no other up")
			require.Equal(t, []string{"product:1"}, r.held("product:1"))
			d.run("purge", "--sink", "edge", "--tag", "x y")
			eventually(t, 60*time.Second, func() bool { return d.sink("edge").Parked == 1 }, "a tag that no edge takes is parked")
			require.NoError(t, r.vk.Kill())
			d.ok("purge", "--sink", "cache", "--key", "home")
			r.exec("UPDATE categories SET name = 'b'")
			eventually(t, 60*time.Second, func() bool {
				return d.metric(`walpurge_flushes_total{reason="overflow",sink="cache"}`) == "1"
			}, "a flush is to replace the backlog of the cache")
			end := r.lsn()
			d.kill()

			require.NoError(t, r.vk.Restart(t.Context()))
			r.fill([]string{"product:1", "product:2", "category:1", "category:2000", "home", "stays"}, "/product-1")
			d = r.start(versions[1]...)
			require.EqualValues(t, 1, d.sink("edge").Parked)
			d.ok("parked", "drop", "--all")
			d.wait(end, 2*time.Minute)
			eventually(t, 60*time.Second, func() bool { return d.sink("cache").Backlog == 0 && d.sink("edge").Backlog == 0 }, "all is acknowledged")
			require.Equal(t, []string{"stays"}, r.held("product:1", "product:2", "category:1", "category:2000", "home", "stays"))
			require.Zero(t, r.edge.Objects())
			d.fresh()
		})
	}
}
