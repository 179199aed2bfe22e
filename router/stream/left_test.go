package stream

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// behind is a consumer whose leader lacks all that it has not been told is acknowledged.
type behind struct {
	jetstream.Consumer
	acked uint64
}

func (b behind) Info(ctx context.Context) (*jetstream.ConsumerInfo, error) {
	info, err := b.Consumer.Info(ctx)
	if err != nil {
		return nil, err
	}
	info.NumPending, info.NumAckPending, info.AckFloor.Stream = 0, 0, b.acked
	return info, nil
}

// A server that is behind says that nothing is left, of messages that it has not got.
func TestNothingLeftByWhoIsBehind(t *testing.T) {
	s, _ := filled(t, 4)
	c := consumer(t, s, "cache")
	nothingLeft := func(acked, seq uint64) bool {
		return (&Consumer{s: c.s, from: c.from, cons: behind{c.cons, acked}}).nothingLeft(t.Context(), seq)
	}
	// Batches of the lane are 2, 3, 5 and 6; 4 and 7 are another's.
	for seq, floor := range map[uint64]uint64{3: 2, 4: 3, 5: 3, 6: 5, 7: 6} {
		require.True(t, nothingLeft(floor, seq), "nothing is left before %d", seq)
		require.False(t, nothingLeft(floor-1, seq), "something is left before %d", seq)
	}
}
