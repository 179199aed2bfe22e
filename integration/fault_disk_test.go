package integration

import (
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

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
