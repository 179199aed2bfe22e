package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// Pause is an operator's request that a lane waits. It belongs to the pipeline: it outlives the process that took it.
type Pause struct {
	// Since is when it was requested.
	Since time.Time
	// Until is when it ends by itself; zero: it does not.
	Until time.Time
	// Request numbers the newest request to pause or to resume, 0 if there was none. A higher number is a later request.
	Request uint64
}

func pauseSubject(pipeline, sink string) string { return acceptedSubject(pipeline, "pause", sink) }

// A note of a pause is its end in milliseconds since 1970, or one of these.
const (
	notPaused     = 0
	pausedForOpen = 1
)

// SetPause records that a sink's lane waits, until then or, with a zero time, until ClearPause. It returns once that is
// durable.
func (s *Stream) SetPause(ctx context.Context, sink string, until time.Time) error {
	end := uint64(pausedForOpen)
	if !until.IsZero() {
		end = uint64(until.UnixMilli())
	}
	if err := s.note(ctx, pauseSubject(s.cfg.Pipeline, sink), end); err != nil {
		return err
	}
	return s.sync()
}

// ClearPause records that a sink's lane goes on.
func (s *Stream) ClearPause(ctx context.Context, sink string) error {
	if err := s.note(ctx, pauseSubject(s.cfg.Pipeline, sink), notPaused); err != nil {
		return err
	}
	return s.sync()
}

// Paused returns the pause of a sink's lane, or false if it is not paused at the given time; then only Request is set.
func (s *Stream) Paused(ctx context.Context, sink string, now time.Time) (Pause, bool, error) {
	m, err := s.hand.GetLastMsgForSubject(ctx, pauseSubject(s.cfg.Pipeline, sink))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return Pause{}, false, nil
	}
	if err != nil {
		return Pause{}, false, fmt.Errorf("read whether sink %s is paused: %w", sink, err)
	}
	end, err := strconv.ParseUint(string(m.Data), 10, 63)
	until := time.Time{}
	if end != pausedForOpen {
		until = time.UnixMilli(int64(end))
	}
	if err != nil || end == notPaused || !until.IsZero() && !now.Before(until) {
		return Pause{Request: m.Sequence}, false, err
	}
	return Pause{Since: m.Time, Until: until, Request: m.Sequence}, true, nil
}
