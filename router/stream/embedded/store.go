package embedded

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc/failpoint"
)

// store makes the message blocks durable. The server appends to block files and
// writes through at once (flush in place, for a stream with one replica), so
// fsync of the files that changed, and of the directories in which files came
// or went, covers every message acknowledged before. Only what changed since
// the last call is synced, whatever else the disk is busy with.
type store struct {
	root  string
	fsync func(path string) error
	mu    sync.Mutex
	seen  map[string]stamp
	// failed is the first failure. The kernel reports what it could not write
	// only once, so a later success would prove nothing.
	failed error
}

type stamp struct {
	size    int64
	changed time.Time
	dir     bool
}

// coarse is the coarsest clock by which file systems stamp changes. A file that
// changed within it may change again and look the same.
const coarse = 2 * time.Second

func newStore(root string) *store {
	return &store{root: root, fsync: fsync, seen: make(map[string]stamp)}
}

func (s *store) sync() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil {
		s.failed = s.walk()
		failpoint.Copy("synced", s.root)
	}
	return s.failed
}

func (s *store) walk() error {
	began := time.Now()
	now := make(map[string]stamp, len(s.seen))
	err := filepath.WalkDir(s.root, func(path string, d fs.DirEntry, err error) error {
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if d.IsDir() && d.Name() == "obs" {
			// Consumers' floors: losing one repeats purges, nothing more.
			return fs.SkipDir
		}
		info, err := d.Info()
		if os.IsNotExist(err) {
			return nil
		}
		if err != nil {
			return err
		}
		st := stamp{size: info.Size(), changed: info.ModTime(), dir: d.IsDir()}
		if began.Sub(st.changed) > coarse {
			now[path] = st
		}
		if s.seen[path] == st {
			return nil
		}
		return s.fsync(path)
	})
	if err != nil {
		return fmt.Errorf("sync %s: %w", s.root, err)
	}
	s.seen = now
	return nil
}

// fsync syncs one file or directory; one that is gone needs none, its directory
// changed with it.
func fsync(path string) error {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
