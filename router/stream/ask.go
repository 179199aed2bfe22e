package stream

import (
	"context"
	"errors"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// A server answers nothing for a stream that has no leader, and what it was about to
// answer goes with it when it dies: the client learns of neither, and waits until the
// context ends. So every question is asked again, after askAgain at first and then after
// twice as long each time; askFor is how long in all, where the context does not say, and
// how long a message that is on its way waits for its acknowledgement.
const (
	askAgain = 2 * time.Second
	askFor   = 5 * time.Second
)

// ask puts a question until a server answers it or the context ends.
func ask[T any](ctx context.Context, question func(context.Context) (T, error)) (T, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, askFor)
		defer cancel()
	}
	for patience := askAgain; ; patience *= 2 {
		attempt, cancel := context.WithTimeout(ctx, patience)
		answer, err := question(attempt)
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			return answer, err
		}
	}
}

// askedStream asks again what no server answers.
type askedStream struct{ jetstream.Stream }

func (s askedStream) Info(ctx context.Context, opts ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return ask(ctx, func(ctx context.Context) (*jetstream.StreamInfo, error) { return s.Stream.Info(ctx, opts...) })
}

func (s askedStream) GetMsg(ctx context.Context, seq uint64, opts ...jetstream.GetMsgOpt) (*jetstream.RawStreamMsg, error) {
	return ask(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) { return s.Stream.GetMsg(ctx, seq, opts...) })
}

func (s askedStream) GetLastMsgForSubject(ctx context.Context, subject string) (*jetstream.RawStreamMsg, error) {
	return ask(ctx, func(ctx context.Context) (*jetstream.RawStreamMsg, error) {
		return s.Stream.GetLastMsgForSubject(ctx, subject)
	})
}

// askedConsumer asks again what no server answers.
type askedConsumer struct{ jetstream.Consumer }

func (c askedConsumer) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	return ask(ctx, c.Consumer.Info)
}
