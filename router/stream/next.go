package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// The client asks for more only as Next begins, and not while its last request is on its way
// out (checkPending of nats.go). On a busy machine all that it asked for may have been read by
// then: no process has asked, and a Next that is waiting finds out by the missing signs of life,
// half a minute later. So Next begins again, a few times. Not for ever, since every Next
// counts the signs of life from its own beginning.
const (
	firstWait   = 10 * time.Millisecond
	longestWait = time.Second
)

// nextOf is the iterator's next message.
func nextOf(ctx context.Context, iter jetstream.MessagesContext) (jetstream.Msg, error) {
	for wait := firstWait; wait < longestWait; wait *= 4 {
		waiting, cancel := context.WithTimeout(ctx, wait)
		msg, err := iter.Next(jetstream.NextContext(waiting))
		cancel()
		if err == nil || ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded) {
			return msg, err
		}
	}
	return iter.Next(jetstream.NextContext(ctx))
}
