package harness

import (
	"errors"
	"fmt"
	"sync"
)

// Group closes what was started, last first. The zero value is ready; it is
// safe for concurrent use.
type Group struct {
	mu     sync.Mutex
	closes []namedClose
}

type namedClose struct {
	name string
	fn   func() error
}

// Add registers fn to be called by Close; name says in an error what failed.
func (g *Group) Add(name string, fn func() error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closes = append(g.closes, namedClose{name, fn})
}

// Close calls every registered function once, last registered first, all of
// them even when one fails, and returns their errors joined. A second Close
// does nothing unless more was added.
func (g *Group) Close() error {
	g.mu.Lock()
	closes := g.closes
	g.closes = nil
	g.mu.Unlock()
	var errs []error
	for i := len(closes) - 1; i >= 0; i-- {
		if err := closes[i].fn(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", closes[i].name, err))
		}
	}
	return errors.Join(errs...)
}
