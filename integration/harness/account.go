package harness

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// account is a user to run a server under; nil means the caller's own.
type account struct{ uid, gid int }

// postgresAccount returns the account for PostgreSQL, which refuses to run as
// root: the user postgres when the caller is root, else nil.
func postgresAccount() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("PostgreSQL refuses to run as root, and there is no user postgres to run it as (run `make deps` or `apt-get install postgresql`, or do not be root): %w", err)
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return nil, fmt.Errorf("uid of user postgres: %w", err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return nil, fmt.Errorf("gid of user postgres: %w", err)
	}
	return &account{uid, gid}, nil
}

func (a *account) credential() *syscall.Credential {
	if a == nil {
		return nil
	}
	return &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
}

// own hands a file or directory to the account.
func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	return os.Chown(path, a.uid, a.gid)
}

// reach makes sure that the account can walk down to dir. Temporary directories
// are often closed to all but their owner; those between os.TempDir and dir are
// opened for passing through (not for listing). Others are left alone.
func (a *account) reach(dir string) error {
	if a == nil {
		return nil
	}
	tmp := filepath.Clean(os.TempDir()) + string(filepath.Separator)
	for p := filepath.Dir(dir); p != filepath.Dir(p); p = filepath.Dir(p) {
		info, err := os.Stat(p)
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o001 != 0 {
			continue
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) == a.uid && info.Mode().Perm()&0o100 != 0 {
			continue
		}
		if !strings.HasPrefix(p, tmp) {
			return fmt.Errorf("the user postgres cannot reach %s: %s has mode %v; choose a directory below %s", dir, p, info.Mode().Perm(), tmp)
		}
		if err := os.Chmod(p, info.Mode().Perm()|0o001); err != nil {
			return err
		}
	}
	return nil
}
