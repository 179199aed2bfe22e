package delivery

import (
	"context"
	"slices"
	"sync"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// maxQueued bounds the values in messages that wait for their turn, so that a
// queue which is long enough for many small messages is not too long for large
// ones.
const maxQueued = 2 * maxValues

// queue counts the values that wait for their turn. One message always fits.
type queue struct {
	mu     sync.Mutex
	values int
	left   chan struct{} // closed when some were taken
}

func newQueue() *queue { return &queue{left: make(chan struct{})} }

// acquire waits until a message fits and reports whether the context lived
// through it.
func (q *queue) acquire(ctx context.Context, r ready) bool {
	n := size(r)
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

func (q *queue) release(group []ready) {
	n := 0
	for _, r := range group {
		n += size(r)
	}
	if n == 0 {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.values -= n
	close(q.left)
	q.left = make(chan struct{})
}

// without returns those of the invalidations that are not among others.
func without(all, others []invalidation.Invalidation) []invalidation.Invalidation {
	if len(others) == 0 {
		return all
	}
	drop := make(map[value]bool, len(others))
	for _, inv := range others {
		drop[value{inv.Kind, inv.Value}] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(inv invalidation.Invalidation) bool { return drop[value{inv.Kind, inv.Value}] })
}

// bytesOf is about what a message takes in the stream.
func bytesOf(b *invalidation.Batch) int64 {
	const envelope, quotes = 400, 3
	n := envelope
	add := func(values *invalidation.Values) {
		for _, texts := range values {
			for _, text := range texts {
				n += len(text) + quotes
			}
		}
	}
	if b != nil {
		for i := range b.Items {
			add(&b.Items[i].Values)
			for s := range b.Items[i].Coarser {
				add(&b.Items[i].Coarser[s].Values)
			}
		}
	}
	return int64(n)
}

// longValue is the length from which a value counts as several, so that bounds on the number of
// values are bounds on memory, too.
const longValue = 512

// sizeOf is the number of values in a batch; long ones count more.
func sizeOf(b *invalidation.Batch) int {
	n := 0
	if b != nil {
		for i := range b.Items {
			for _, values := range b.Items[i].Values {
				n += len(values)
				for _, v := range values {
					n += len(v) / longValue
				}
			}
		}
	}
	return n
}
