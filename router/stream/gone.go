package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// ErrGone says that a stream or a lane of the pipeline is not there any more, or another one has its name:
// an operator deleted it, or the NATS server lost its data. What was in it is lost, so the pipeline is to be
// opened again, which finds the gap.
var ErrGone = errors.New("it was deleted, or the NATS server has lost its data")

// Between two looks, and how many looks in a row must find that something is not there: a cluster that has just
// elected a leader may not know all its streams yet.
const (
	gonePause = time.Second
	goneLooks = 3
)

// Watch looks once a second whether the pipeline's streams and lanes are there, until the context ends, and
// returns nil; or an error that is ErrGone and names what is not. A server that does not answer says nothing.
func (s *Stream) Watch(ctx context.Context, sinks []string) error {
	for missed := 0; ; {
		select {
		case <-time.After(gonePause):
		case <-ctx.Done():
			return nil
		}
		err := s.there(ctx, sinks)
		if missed++; err == nil {
			missed = 0
		}
		if missed >= goneLooks && ctx.Err() == nil {
			return err
		}
	}
}

// there returns an error that is ErrGone if something is not there.
func (s *Stream) there(ctx context.Context, sinks []string) error {
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	for name, created := range s.created {
		st, err := s.js.Stream(ctx, name)
		switch {
		case errors.Is(err, jetstream.ErrStreamNotFound):
			return fmt.Errorf("stream %s is not there any more: %w", name, ErrGone)
		case err == nil && !st.CachedInfo().Created.Equal(created):
			return fmt.Errorf("stream %s is another one than it was: %w", name, ErrGone)
		}
	}
	for _, from := range []jetstream.Stream{s.stream, s.hand} {
		for _, sink := range sinks {
			if _, err := from.Consumer(ctx, sink); errors.Is(err, jetstream.ErrConsumerNotFound) {
				return fmt.Errorf("the lane %s of stream %s is not there any more: %w", sink, from.CachedInfo().Config.Name, ErrGone)
			}
		}
	}
	return nil
}
