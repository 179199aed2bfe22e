//go:build full && linux

package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// debian is a root directory that dpkg installs into.
type debian struct {
	*testing.T
	root string
}

// run calls a program as root, or as somebody who believes to be.
func (d *debian) run(name string, args ...string) string {
	d.Helper()
	if os.Geteuid() != 0 {
		name, args = "fakeroot", append([]string{name}, args...)
	}
	cmd := exec.CommandContext(d.Context(), name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin")
	out, err := cmd.CombinedOutput()
	require.NoError(d, err, "%s %s\n%s", name, strings.Join(args, " "), out)
	return string(out)
}

func (d *debian) dpkg(args ...string) string {
	d.Helper()
	return d.run("dpkg", append([]string{"--root=" + d.root, "--log=" + filepath.Join(d.root, "log"), "--force-not-root", "--force-script-chrootless", "--force-depends"}, args...)...)
}

func (d *debian) path(name string) string { return filepath.Join(d.root, name) }

// The package holds what it should, installs beside nothing else, runs, is updated
// without touching what an administrator wrote, and goes without a trace.
func TestDebianPackage(t *testing.T) {
	_, err := exec.LookPath("dpkg-deb")
	require.NoError(t, err, "install dpkg")
	out := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "deploy/debian/build.sh", "1.2.3", out)
	cmd.Dir, cmd.Env = top, append(os.Environ(), "SOURCE_DATE_EPOCH=1700000000")
	said, err := cmd.Output()
	require.NoError(t, err)
	file := strings.TrimSpace(string(said))

	d := &debian{T: t, root: t.TempDir()}
	listing := d.run("dpkg-deb", "--contents", file)
	for _, want := range []string{
		"-rwxr-xr-x root/root", "./usr/bin/walpurge\n", "./usr/lib/systemd/system/walpurge.service\n", "./usr/share/man/man1/walpurge.1.gz\n",
		"./usr/share/doc/walpurge/copyright\n", "drwx------ root/root", "./etc/walpurge/credentials/\n", "2023-11-14",
	} {
		require.Contains(t, listing, want)
	}
	info := d.run("dpkg-deb", "--info", file)
	require.Contains(t, info, "Version: 1.2.3\n")

	for _, dir := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "etc"} {
		require.NoError(t, os.MkdirAll(d.path(dir), 0o755))
	}
	for _, name := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group", "etc/shadow"} {
		require.NoError(t, os.WriteFile(d.path(name), nil, 0o600))
	}
	d.dpkg("--install", file)
	users, err := os.ReadFile(d.path("etc/passwd"))
	require.NoError(t, err)
	require.Contains(t, string(users), "walpurge:")
	require.Contains(t, d.run(d.path("usr/bin/walpurge"), "version"), "walpurge 1.2.3 ")
	require.Contains(t, d.run(d.path("usr/bin/walpurge"), "check", "--offline", "-c", d.path("etc/walpurge/walpurge.yaml")), "fine: pipeline shop")

	written := []byte("rules: [] # ours\n")
	require.NoError(t, os.WriteFile(d.path("etc/walpurge/rules/shop.yaml"), written, 0o600))
	d.dpkg("--install", file)
	kept, err := os.ReadFile(d.path("etc/walpurge/rules/shop.yaml"))
	require.NoError(t, err)
	require.Equal(t, string(written), string(kept))

	require.NoError(t, os.MkdirAll(d.path("var/lib/walpurge/jetstream"), 0o700))
	require.Contains(t, d.dpkg("--remove", "walpurge"), "pg_drop_replication_slot")
	require.FileExists(t, d.path("etc/walpurge/walpurge.yaml"))
	require.DirExists(t, d.path("var/lib/walpurge/jetstream"))
	d.dpkg("--purge", "walpurge")
	require.NoDirExists(t, d.path("etc/walpurge"))
	require.NoDirExists(t, d.path("var/lib/walpurge"))
	users, err = os.ReadFile(d.path("etc/passwd"))
	require.NoError(t, err)
	require.NotContains(t, string(users), "walpurge")
}

// Where systemd is, it finds nothing wrong, and little exposed.
func TestUnitBySystemd(t *testing.T) {
	tool, err := exec.LookPath("systemd-analyze")
	require.NoError(t, err, "apt-get install systemd")
	dir := t.TempDir()
	exe, err := exec.LookPath("true")
	require.NoError(t, err)
	file := filepath.Join(dir, filepath.Base(unitFile))
	// It looks for the program, which is not installed here.
	text := strings.Replace(read(t, unitFile), "/usr/bin/walpurge", exe, 1)
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	out, err := exec.Command(tool, "verify", "--man=no", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for line := range strings.SplitSeq(string(out), "\n") {
		require.NotContains(t, line, "walpurge.service:", "a line of the unit is ignored")
	}
	out, err = exec.Command(tool, "security", "--offline=true", "--threshold=20", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
