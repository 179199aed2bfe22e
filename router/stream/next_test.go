package stream

import (
	"context"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
)

// stalled is an iterator that gives a message only to a Next that begins after others ended.
type stalled struct {
	jetstream.MessagesContext
	ends []error
	asks int
}

func (s *stalled) Next(...jetstream.NextOpt) (jetstream.Msg, error) {
	s.asks++
	if len(s.ends) == 0 {
		return nil, nil
	}
	err := s.ends[0]
	s.ends = s.ends[1:]
	return nil, err
}

func TestNextAsksAgainForWhatNobodyAskedFor(t *testing.T) {
	late, closed := context.DeadlineExceeded, jetstream.ErrMsgIteratorClosed
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name string
		ctx  context.Context
		ends []error
		err  error
		asks int
	}{
		{"at once", t.Context(), nil, nil, 1},
		{"one request was not made", t.Context(), []error{late, late, late}, nil, 4},
		{"the iterator has ended", t.Context(), []error{late, closed}, closed, 2},
		{"the caller has ended", ended, []error{context.Canceled, nil}, context.Canceled, 1},
		{"not for ever", t.Context(), []error{late, late, late, late, late}, late, 5},
	} {
		t.Run(c.name, func(t *testing.T) {
			iter := &stalled{ends: c.ends}
			_, err := nextOf(c.ctx, iter)
			require.ErrorIs(t, err, c.err)
			require.Equal(t, c.asks, iter.asks)
		})
	}
}
