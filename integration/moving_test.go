package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// documented returns the commands of a section of a page, in their order. Texts of the page are replaced by those of
// the rig.
func documented(t *testing.T, page, heading string, oldnew ...string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", page))
	require.NoError(t, err)
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	require.True(t, found)
	section, _, _ = strings.Cut(section, "\n## ")
	inside := false
	for line := range strings.Lines(strings.NewReplacer(oldnew...).Replace(section)) {
		line = strings.TrimSpace(line)
		switch {
		case line == "```sh" || line == "```":
			inside = line == "```sh"
		case inside:
			lines = append(lines, line)
		}
	}
	require.NotEmpty(t, lines)
	return lines
}

// follow carries out commands of a page: those for the service start and stop the daemon that it is given.
func (r *rig) follow(d *daemon, lines []string) *daemon {
	r.t.Helper()
	binaries, err := harness.FindPostgres()
	require.NoError(r.t, err)
	program, err := filepath.Abs(os.Args[0])
	require.NoError(r.t, err)
	bin := r.t.TempDir()
	require.NoError(r.t, os.Symlink(program, filepath.Join(bin, "walpurge")))
	for _, line := range lines {
		switch line {
		case "sudo systemctl stop walpurge":
			d.term()
			continue
		case "sudo systemctl start walpurge":
			d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
			d.untilStreaming()
			d.wait(r.lsn(), 60*time.Second)
			continue
		}
		ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Minute)
		cmd := exec.CommandContext(ctx, "sh", "-c", line)
		cmd.Dir = r.dir
		cmd.Env = append(command(nil).Env, "PATH="+bin+":"+binaries.Dir+":"+os.Getenv("PATH"), "ADMIN_URL="+r.pg.URL("app"))
		out, err := cmd.CombinedOutput()
		cancel()
		require.NoError(r.t, err, "%s\n%s", line, out)
	}
	return d
}

// TestRenamedPipeline: a pipeline whose name changes neither loses what it had to purge nor leaves its slot behind
// unmentioned, and the steps of docs/moving.md work.
func TestRenamedPipeline(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
	d := r.start()
	d.wait(r.lsn(), 60*time.Second)
	d.term()
	r.fill([]string{"product:1"})
	r.exec("UPDATE products SET name = 'x' WHERE id = 1")

	// The same directory.
	r.edit("walpurge.yaml", "pipeline: app", "pipeline: store")
	const refused = `holds the stream of pipeline "app", and this is pipeline "store"`
	o := r.call("check")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stdout, refused)
	require.Contains(t, o.stdout, `slot "walpurge_app" of another pipeline of this database is inactive`)
	o = r.call("run")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, refused)
	require.Contains(t, o.stderr, "to go on with its backlog, write `pipeline: app`")

	// And back: it goes on, without a gap.
	r.edit("walpurge.yaml", "pipeline: store", "pipeline: app")
	d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 60*time.Second)
	require.Empty(t, r.held("product:1"))
	for _, reason := range []string{"slot_lost", "stream_behind", "pipeline_renamed"} {
		require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+reason+`"}`))
	}

	// By the page. What changed while no daemon ran is flushed.
	gaps := func(reason, want string, why ...any) {
		t.Helper()
		_, metrics := d.get("/metrics")
		require.Contains(t, metrics, `walpurge_gaps_total{pipeline="store",reason="`+reason+`"} `+want+"\n", why...)
	}
	steps := documented(t, "docs/moving.md", "Rename a pipeline",
		"shop", "app", "/var/lib/walpurge/store", r.path("store"))
	d.term()
	r.fill([]string{"product:2"}, "/product-2")
	r.exec("UPDATE products SET name = 'x' WHERE id = 2")
	drop := len(steps) - 2
	require.Contains(t, steps[drop], "pg_drop_replication_slot")
	d = r.follow(d, steps[1:drop-1])
	require.Empty(t, r.held("product:2"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-2"))
	gaps("pipeline_renamed", "1")
	d.logged("another pipeline left a slot")
	o = r.call("status")
	require.Contains(t, o.stdout, `note: slot "walpurge_app" of another pipeline`)
	d = r.follow(d, steps[drop:])
	d.term()

	// A copy of a directory that is in use is behind, and says so once it takes over.
	moved := documented(t, "docs/moving.md", "Move to another host", "/var/lib/walpurge/shop", r.path("store"), "/mnt/new/shop", r.path("moved"))
	d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	gaps("pipeline_renamed", "0", "a gap is bridged once")
	d = r.follow(d, []string{"cp -a " + r.path("store") + " " + r.path("copied")})
	r.exec("UPDATE products SET name = 'y' WHERE id = 1")
	d.wait(r.lsn(), 60*time.Second)
	d = r.follow(d, moved)
	gaps("stream_behind", "0", "the move needs no flush")
	d.term()
	r.fill([]string{"product:3"})
	r.edit("walpurge.yaml", r.path("moved"), r.path("copied"))
	d = r.spawn(d.addr, r.path("walpurge.yaml"), nil)
	d.untilStreaming()
	d.wait(r.lsn(), 60*time.Second)
	gaps("stream_behind", "1")
	require.Empty(t, r.held("product:3"))
	d.term()
}
