//go:build failpoints

package failpoint

import (
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// point is what the environment says of a name.
type point struct {
	left atomic.Int64 // passages until the last one
	file string
}

var armed = sync.OnceValue(func() map[string]*point { return parse(os.Getenv("WALPURGE_FAILPOINTS")) })

func parse(list string) map[string]*point {
	points := make(map[string]*point)
	for entry := range strings.SplitSeq(list, ",") {
		p := &point{}
		entry, p.file, _ = strings.Cut(entry, "@")
		name, count, _ := strings.Cut(entry, ":")
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil {
			n = 1
		}
		p.left.Store(n)
		points[name] = p
	}
	return points
}

// On reports whether the named misbehaviour is asked for.
func On(name string) bool { return armed()[name] != nil }

// Crash ends the process as kill -9 does if this place is armed and this is the
// passage that was asked for. It does not return then.
func Crash(name string) {
	if p := armed()[name]; p != nil && p.last() {
		if self, err := os.FindProcess(os.Getpid()); err == nil {
			_ = self.Kill()
		}
		select {}
	}
}

// Hang blocks for ever if this place is armed and this is the passage that was asked for.
func Hang(name string) {
	if p := armed()[name]; p != nil && p.last() {
		select {}
	}
}

// Copy replaces what lies at FILE, if it is given for this place, by a copy of a
// directory: what a power cut at this moment would leave. Files that come and go
// meanwhile make it start over. It panics if there is no copy in the end, because
// the test would then judge by an old one.
func Copy(name, dir string) {
	p := armed()["copy_"+name]
	if p == nil {
		return
	}
	next := p.file + ".next"
	var err error
	for range 100 {
		if err = os.RemoveAll(next); err != nil {
			break
		}
		if err = os.CopyFS(next, os.DirFS(dir)); err == nil {
			break
		}
	}
	if err == nil {
		err = os.RemoveAll(p.file)
	}
	if err == nil {
		err = os.Rename(next, p.file)
	}
	if err != nil {
		panic(err)
	}
}

// last counts a passage and reports whether it is the one to end at.
func (p *point) last() bool {
	if p.file != "" {
		if _, err := os.Stat(p.file); err != nil {
			return false
		}
	}
	return p.left.Add(-1) == 0
}
