package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// behind is the leader of a consumer, whose server has the stream's messages only a while
// after the stream's leader has.
type behind struct {
	jetstream.Consumer
	has   func() uint64
	acked *uint64
}

func (b behind) Info(context.Context) (*jetstream.ConsumerInfo, error) {
	return &jetstream.ConsumerInfo{NumPending: b.has() - *b.acked}, nil
}

type ahead struct {
	jetstream.Stream
	last *uint64
}

func (a ahead) Info(context.Context, ...jetstream.StreamInfoOpt) (*jetstream.StreamInfo, error) {
	return &jetstream.StreamInfo{State: jetstream.StreamState{LastSeq: *a.last}}, nil
}

// A server that is behind says that nothing is left, of messages that it has not got.
func TestNothingLeftByWhoIsBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lag = 3 * time.Second
		last, acked := uint64(7), uint64(7)
		written := time.Now().Add(-time.Minute)
		c := &Consumer{
			s: &Stream{cfg: Config{Shared: true}}, from: ahead{last: &last}, acked: make(chan struct{}),
			cons: behind{acked: &acked, has: func() uint64 {
				if time.Since(written) < lag {
					return 7
				}
				return last
			}},
		}
		past := func(seq uint64, within time.Duration) bool {
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			return c.Past(ctx, seq) == nil
		}
		require.True(t, past(7, time.Minute), "nothing is left for long")
		require.True(t, past(6, time.Millisecond*20), "and that is remembered")

		last, written = 9, time.Now()
		require.False(t, past(9, time.Minute), "message 8 is the lane's, and not acknowledged")
		acked = 9
		require.True(t, past(9, time.Minute))
	})
}
