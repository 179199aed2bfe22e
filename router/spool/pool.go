package spool

import (
	"errors"
	"fmt"
	"hash/maphash"
	"os"
	"sync/atomic"
)

// Pool makes logs whose files lie in one directory, and together have no more than so
// many bytes.
type Pool struct {
	dir  string
	max  int64
	used atomic.Int64
	seed maphash.Seed
}

// NewPool returns a pool. The directory need not exist before a log needs a file.
func NewPool(dir string, max int64) *Pool {
	return &Pool{dir: dir, max: max, seed: maphash.MakeSeed()}
}

// New returns an empty log.
func (p *Pool) New() *Log { return &Log{pool: p} }

// Used is how many bytes the files have. It may be called from any goroutine.
func (p *Pool) Used() int64 { return p.used.Load() }

func (p *Pool) take(n int64) bool {
	if p.used.Load()+n > p.max {
		return false
	}
	p.used.Add(n)
	return true
}

func (p *Pool) give(n int64) { p.used.Add(-n) }

// create makes a file that only its descriptor leads to.
func (p *Pool) create() (*os.File, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the spool's directory: %w", err)
	}
	f, err := os.CreateTemp(p.dir, "spool-*")
	if err != nil {
		return nil, fmt.Errorf("make a spool file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("take the name from a spool file: %w", err), f.Close())
	}
	return f, nil
}
