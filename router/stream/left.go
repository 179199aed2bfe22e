package stream

import (
	"context"
	"time"
)

// catchUp is how long a server of a cluster may be behind with a stream, see
// nothingLeft.
const catchUp = 5 * time.Second

// horizon is how far it is known that a lane has nothing left.
type horizon struct {
	// proven: every message of the lane up to here is acknowledged.
	proven uint64
	// end was the stream's last sequence when its leader was asked at a moment.
	end uint64
	at  time.Time
}

// nothingLeft reports whether, by the word of the server, the lane has acknowledged
// all before seq, which must be in the stream already.
//
// On a shared stream that is the word of the server that leads the consumer. Another
// may lead the stream, and a third the consumer that showed seq to somebody; so the
// first may not have the messages before it yet, and says that nothing is left. Its word counts
// therefore for what the stream's leader had catchUp before.
func (c *Consumer) nothingLeft(ctx context.Context, seq uint64) bool {
	if !c.s.cfg.Shared {
		left, err := c.Backlog(ctx)
		return err == nil && left == 0
	}
	c.mu.Lock()
	h := c.horizon
	c.mu.Unlock()
	switch {
	case seq <= h.proven:
		return true
	case seq > h.end:
		info, err := c.from.Info(ctx)
		if err != nil {
			return false
		}
		h.end, h.at = info.State.LastSeq, time.Now()
	case time.Since(h.at) < catchUp:
		return false
	default:
		if left, err := c.Backlog(ctx); err != nil || left > 0 {
			return false
		}
		h.proven = h.end
	}
	c.mu.Lock()
	// One who asked at the same time may have known more, and then proves it anew.
	c.horizon = h
	c.mu.Unlock()
	return seq <= h.proven
}
