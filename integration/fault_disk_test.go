package integration

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk puts a file system of a few MiB under the rig's data_dir, seen by
// nobody but the process returned and who joins its namespaces. That needs no
// privilege where user namespaces are allowed.
func (r *rig) smallDisk() (holder int) {
	r.t.Helper()
	require.NoError(r.t, os.Mkdir(r.path("data"), 0o755))
	cmd := exec.Command("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", `mount -t tmpfs -o size=12m none "$0" && echo mounted && exec sleep 600`, r.path("data"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	require.NoError(r.t, err)
	require.NoError(r.t, cmd.Start())
	r.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	said := make([]byte, 8)
	_, err = out.Read(said)
	require.NoError(r.t, err, "mount a tmpfs in a user namespace; allow those, or run as root")
	return cmd.Process.Pid
}

// listening is the rig's file, written if it is not there, and its address.
func (r *rig) listening() (addr, file string) {
	r.t.Helper()
	if _, err := os.Stat(r.path("walpurge.yaml")); err != nil {
		r.config(freeAddr(r.t))
	}
	_, rest, _ := strings.Cut(r.read("walpurge.yaml"), `http: {listen: "`)
	addr, _, _ = strings.Cut(rest, `"`)
	return addr, r.path("walpurge.yaml")
}

// onDisk runs the daemon in the namespaces of a process.
func (r *rig) onDisk(holder int) *daemon {
	r.t.Helper()
	addr, file := r.listening()
	d := &daemon{t: r.t, addr: addr, logs: &logs{}, done: make(chan struct{})}
	inner := command(nil, "run", "-c", file)
	d.cmd = exec.Command("nsenter", append([]string{"--user", "--preserve-credentials", "--mount", "--target", strconv.Itoa(holder), "--", inner.Path}, inner.Args[1:]...)...)
	d.cmd.Env, d.cmd.SysProcAttr, d.cmd.Stderr = inner.Env, inner.SysProcAttr, d.logs
	d.begin()
	return d
}

// TestDiskFull fills the disk under the stream. The server would answer nothing
// from then on, so the daemon ends and says why, for a supervisor to start it
// again; with room it goes on where it was.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	if rounds(0, 1) == 0 {
		return // only in the long run: not every machine allows user namespaces
	}
	// One that is read while it runs would be known by its tables only, as its spool finds no
	// room, and the few bytes of that may still fit into the stream.
	r := newRig(t, rigOptions{postgres: map[string]string{"logical_decoding_work_mem": "64MB"}})
	r.extra = "drain_timeout: 2s"
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 3000) n")
	holder := r.smallDisk()
	d := r.onDisk(holder)
	d.untilStreaming()
	d.wait(r.lsn(), 20*time.Second)
	filler := "/proc/" + strconv.Itoa(holder) + "/root" + r.path("data/filler")
	require.ErrorIs(t, os.WriteFile(filler, make([]byte, 64<<20), 0o600), syscall.ENOSPC)
	r.fill([]string{"product:1", "product:3000", "stays"}, "/product-1")
	r.exec("UPDATE products SET ver = ver + 1")
	for _, says := range []string{"make room on its disk", "create stream walpurge_app"} {
		select {
		case <-d.done:
		case <-time.After(30 * time.Second):
			require.FailNow(t, "the daemon goes on without a store", d.logs.tail(30))
		}
		require.Error(t, d.err)
		require.Contains(t, d.logs.String(), "no space left on device")
		require.Contains(t, d.logs.String(), says)
		if says == "create stream walpurge_app" {
			require.NoError(t, os.Remove(filler))
		}
		d = r.onDisk(holder)
	}
	d.untilStreaming()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:3000", "stays"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"))
	for _, reason := range []string{"slot_lost", "stream_behind"} {
		require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="`+reason+`"}`), "nothing was confirmed that is not in the stream")
	}
	d.fresh()
}
