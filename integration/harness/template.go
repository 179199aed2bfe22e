package harness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// initdbArgs are what every template is built with. They and the version make
// up the template's name, so a change here makes new templates.
func initdbArgs() []string {
	return []string{"--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"}
}

// EnsureTemplate returns the directory of a freshly initialised cluster for
// these binaries, building it first if dir has none: initdb takes a second or
// more, a copy of its result some hundredths. An empty dir means one in the
// user's cache directory. Processes that call it at the same time all get a
// complete template. It blocks until that exists or ctx ends.
func EnsureTemplate(ctx context.Context, binaries Binaries, dir string) (string, error) {
	dir, err := templateRoot(dir)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(binaries.Version + "\n" + strings.Join(initdbArgs(), "\n")))
	template := filepath.Join(dir, fmt.Sprintf("postgres-%d-%s", binaries.Major, hex.EncodeToString(sum[:6])))
	if _, err := os.Stat(template); err == nil {
		return template, nil
	}
	// Built under another name and renamed: whatever has the final name is whole.
	built, err := os.MkdirTemp(dir, ".building-")
	if err != nil {
		return "", fmt.Errorf("template for PostgreSQL: %w", err)
	}
	defer os.RemoveAll(built)
	if err := initCluster(ctx, binaries, filepath.Join(built, "data")); err != nil {
		return "", err
	}
	err = os.Rename(filepath.Join(built, "data"), template)
	if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.ENOTEMPTY) {
		return "", fmt.Errorf("template for PostgreSQL: %w", err)
	}
	return template, nil
}

// templateRoot makes and returns the directory that templates lie in.
func templateRoot(dir string) (string, error) {
	if dir == "" {
		if cache, err := os.UserCacheDir(); err == nil {
			dir = filepath.Join(cache, "walpurge", "templates")
		} else {
			// No home directory, as in some containers.
			dir = filepath.Join(os.TempDir(), "walpurge-templates-"+strconv.Itoa(os.Geteuid()))
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("directory for PostgreSQL templates: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return "", err
	}
	// A name in a shared directory can be guessed and taken by somebody else,
	// whose cluster would then be run.
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return "", fmt.Errorf("directory for PostgreSQL templates: %s belongs to uid %d; remove it or name another", dir, st.Uid)
	}
	return dir, nil
}

// initCluster runs initdb into dst, owned by the caller. Where initdb has to
// run as another user it works in a temporary directory of that user first.
func initCluster(ctx context.Context, binaries Binaries, dst string) error {
	as, err := postgresAccount()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "walpurge-initdb-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	if err := as.own(work); err != nil {
		return err
	}
	if err := as.reach(work); err != nil {
		return err
	}
	data := filepath.Join(work, "data")
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, binaries.Path("initdb"), append(initdbArgs(), "--pgdata="+data)...)
	cmd.Dir = work
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "TZ=UTC"}
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: as.credential()}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", errors.Join(err, ctx.Err()), output.String())
	}
	return copyTree(data, dst, nil)
}
