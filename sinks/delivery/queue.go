package delivery

import (
	"context"
	"sync"

	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// maxQueued bounds the values in messages that wait for their turn, so that a
// queue which is long enough for many small messages is not too long for large
// ones.
const maxQueued = 2 * machine.MaxValues

// queue counts the values that wait for their turn. One message always fits.
type queue struct {
	mu     sync.Mutex
	values int
	left   chan struct{} // closed when some were taken
}

func newQueue() *queue { return &queue{left: make(chan struct{})} }

// acquire waits until a message fits and reports whether the context lived
// through it.
func (q *queue) acquire(ctx context.Context, n int) bool {
	for {
		q.mu.Lock()
		if q.values == 0 || q.values+n <= maxQueued {
			q.values += n
			q.mu.Unlock()
			return true
		}
		left := q.left
		q.mu.Unlock()
		select {
		case <-left:
		case <-ctx.Done():
			return false
		}
	}
}

func (q *queue) release(n int) {
	if n == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.values -= n
	close(q.left)
	q.left = make(chan struct{})
}

// valve stops the reading of messages while too much waits for its second purge.
type valve struct {
	mu     sync.Mutex
	closed bool
	opened chan struct{} // closed when it is opened again
}

func (v *valve) set(closed bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.closed == closed {
		return
	}
	if v.closed = closed; closed {
		v.opened = make(chan struct{})
	} else {
		close(v.opened)
	}
}

// await blocks while the valve is closed and reports whether the context lived through it.
func (v *valve) await(ctx context.Context) bool {
	for {
		v.mu.Lock()
		closed, opened := v.closed, v.opened
		v.mu.Unlock()
		if !closed {
			return true
		}
		select {
		case <-opened:
		case <-ctx.Done():
			return false
		}
	}
}
