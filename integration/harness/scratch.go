package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	// memoryDir is a file system in memory on Linux.
	memoryDir = "/dev/shm"
	// memoryWanted is what has to be free there: a cluster with its log stays below 400 MiB,
	// and a few run at a time.
	memoryWanted = 4 << 30
	// scratchPrefix and the process id begin the names of directories in memory.
	scratchPrefix = "walpurge-scratch-"
)

// MkdirScratch makes a directory for the files of servers that live no longer than this process,
// which the caller removes. It lies in memory if there is room: a cluster has a thousand files,
// and most file systems take ten times as long to make them. Otherwise it is a temporary
// directory. What killed processes have left in memory is removed.
func MkdirScratch() (string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(memoryDir, &fs); err != nil || uint64(fs.Bavail)*uint64(fs.Bsize) < memoryWanted {
		return os.MkdirTemp("", "walpurge-scratch-")
	}
	removeOrphans(memoryDir)
	dir, err := os.MkdirTemp(memoryDir, fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
	if err != nil {
		return "", err
	}
	// The account of PostgreSQL passes through.
	return dir, os.Chmod(dir, 0o711)
}

// removeOrphans removes the scratch directories whose process is gone.
func removeOrphans(in string) {
	dirs, _ := filepath.Glob(filepath.Join(in, scratchPrefix+"*"))
	for _, dir := range dirs {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && !alive(pid) {
			// Another process may be at it, too.
			_ = os.RemoveAll(dir)
		}
	}
}
