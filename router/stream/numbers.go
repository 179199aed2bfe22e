package stream

import (
	"context"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// numbers finds lost messages in the stream of manual purges. Holes say nothing there: every
// purge leaves the stream once it is carried out, of every sink at its own time, and so do
// old notes. So the purges of one sink are numbered, and two numbers are recorded:
//
//   - stored, how many were ever stored. It is recorded in the stream of parked messages,
//     that is in other files than the purges, so that it outlives their loss;
//   - done, up to which all were carried out. It is recorded in the stream of the purges,
//     before they leave it.
//
// A number in between that no message has is a manual purge that was lost. The answer is a
// flush of the sink, in its queue and under its own name: the next manual purge remains
// what the operator asked for. Once the flush is stored, what it covers counts as done.
//
// It belongs to the goroutine of Next.
type numbers struct {
	s    *Stream
	sink string
	log  *condition.Log
	// last is the number up to which none is missing any more.
	last uint64
}

// inspect looks for purges that are missing behind the last one in the stream. Those that
// are missing before another one show as that is read.
func (n *numbers) inspect(ctx context.Context, _ bool) error {
	// In this order: what another goroutine or process stores, or carries out, meanwhile is
	// not taken for lost.
	stored, err := n.s.readNoteIn(ctx, n.s.parked, storedSubject(n.s.cfg.Pipeline, n.sink))
	if err != nil {
		return err
	}
	newest, err := n.s.lastNumber(ctx, n.sink)
	if err != nil {
		return err
	}
	if n.last, err = n.s.readNote(ctx, doneSubject(n.s.cfg.Pipeline, n.sink)); err != nil {
		return err
	}
	if intact := max(newest, n.last); stored > intact {
		return n.lost(ctx, intact+1, stored)
	}
	return nil
}

// received counts a message that is read.
func (n *numbers) received(ctx context.Context, msg jetstream.Msg) error {
	number := numberOf(msg.Headers())
	if number > n.last+1 {
		if err := n.lost(ctx, n.last+1, number-1); err != nil {
			return err
		}
	}
	n.last = max(n.last, number)
	return nil
}

// lost has the sink flushed in the place of purges that are gone. A crash before that is
// recorded flushes it twice.
func (n *numbers) lost(ctx context.Context, from, to uint64) error {
	n.log.At(lostManual, "reason", invalidation.FlushHole).Observe("stream", handName(n.s.cfg.Pipeline), "first", from, "last", to)
	if _, err := n.s.Flush(ctx, n.sink, invalidation.FlushHole); err != nil {
		return err
	}
	if err := n.s.raiseNote(ctx, doneSubject(n.s.cfg.Pipeline, n.sink), to); err != nil {
		return err
	}
	n.last = to
	return n.s.sync()
}
