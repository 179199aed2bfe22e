package stream

import (
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/condition"
)

// block says since when and why the stream takes no messages.
type block struct {
	reason int
	since  time.Time
}

// blockReasons are metric labels.
var blockReasons = [...]string{"stream_full", "nats_unreachable"}

// block notes that a message was refused.
func (p *Publisher) block(err error) {
	reason := 1
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		reason = 0
	}
	now := time.Now()
	old := p.blocked.Swap(&block{reason: reason, since: now})
	p.askForRoom()
	if old != nil {
		p.past[old.reason].Add(int64(now.Sub(old.since)))
		if old.reason != reason {
			p.conditions.At(refusesElse, "reason", blockReasons[old.reason]).End()
		}
	}
	p.conditions.At(refuses, "reason", blockReasons[reason]).Observe("err", err, "refusals", condition.Sum(1))
}

// unblock ends the time without room or server: a message was taken, or the publisher stops.
func (p *Publisher) unblock(taken bool) {
	if old := p.blocked.Swap(nil); old != nil {
		if taken {
			p.conditions.At(refuses, "reason", blockReasons[old.reason]).End()
		}
		p.past[old.reason].Add(int64(time.Since(old.since)))
	}
}

// Blocked says why the stream takes no messages, or "".
func (p *Publisher) Blocked() string {
	if b := p.blocked.Load(); b != nil {
		return blockReasons[b.reason]
	}
	return ""
}

// BlockedFor tells for each reason how long the stream took no messages, since
// the start and up to now.
func (p *Publisher) BlockedFor() map[string]time.Duration {
	now := p.blocked.Load()
	out := make(map[string]time.Duration, len(blockReasons))
	for i, reason := range blockReasons {
		out[reason] = time.Duration(p.past[i].Load())
		if now != nil && now.reason == i {
			out[reason] += time.Since(now.since)
		}
	}
	return out
}
