package delivery

import (
	"sync"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// tracker knows which messages of a lane are done, and so how far the lane is
// done without a hole.
type tracker struct {
	mu    sync.Mutex
	queue []*entry
	epoch uint64
	// floor is the sequence up to which all are done.
	floor uint64
}

type entry struct {
	seq   uint64
	claim *cdc.Claim
	batch *rules.Batch
	done  bool
}

// add registers a message in the order of the stream. One that is registered or
// done already is told by again: the stream delivered it once more.
func (t *tracker) add(m rules.Message) (e *entry, again bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m.Seq <= t.floor {
		return nil, true
	}
	for i := len(t.queue) - 1; i >= 0 && t.queue[i].seq >= m.Seq; i-- {
		if t.queue[i].seq == m.Seq {
			return t.queue[i], true
		}
	}
	e = &entry{seq: m.Seq, claim: m.Claim, batch: m.Batch}
	t.queue = append(t.queue, e)
	return e, false
}

// finish marks messages as done and returns the sequence up to which all are,
// 0 if that did not move, with the newest claim among those that became so.
// Claims of an epoch older than the newest seen are a zombie's and say nothing.
func (t *tracker) finish(entries ...*entry) (floor uint64, claim *cdc.Claim) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range entries {
		e.done = true
	}
	n := 0
	for n < len(t.queue) && t.queue[n].done {
		e := t.queue[n]
		floor = e.seq
		if e.claim != nil && e.claim.Epoch >= t.epoch {
			t.epoch, claim = e.claim.Epoch, e.claim
		}
		n++
	}
	clear(t.queue[:n])
	t.queue = t.queue[n:]
	t.floor = max(t.floor, floor)
	return floor, claim
}

// oldest returns the first batch that is not done, or nil.
func (t *tracker) oldest() *rules.Batch {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.queue {
		if !e.done && e.batch != nil {
			return e.batch
		}
	}
	return nil
}
