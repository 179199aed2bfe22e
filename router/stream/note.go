package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// acceptance is a loss that a lane answers for: written down once the flush in
// message after was carried out. head is where the stream began, hole the last
// message missing from its middle; 0 for neither.
type acceptance struct{ after, head, hole uint64 }

// acknowledged writes an acceptance down once its flush is done with.
func (c *Consumer) acknowledged(seq uint64) error {
	a := c.accept
	if a.after == 0 || seq < a.after {
		return nil
	}
	c.accept = acceptance{}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for what, at := range map[string]uint64{"head": a.head, "hole": a.hole} {
		if at == 0 {
			continue
		}
		if err := c.s.note(ctx, acceptedSubject(c.s.cfg.Pipeline, what, c.sink), at); err != nil {
			return err
		}
	}
	return nil
}

// note writes down a place in the stream. Only the newest note of a subject
// counts, and only it is kept.
func (s *Stream) note(ctx context.Context, subject string, seq uint64) error {
	if _, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: subject, Data: strconv.AppendUint(nil, seq, 10)}); err != nil {
		return fmt.Errorf("note a place in the stream: %w", err)
	}
	if err := s.hand.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeKeep(1)); err != nil {
		return fmt.Errorf("note a place in the stream: %w", err)
	}
	return nil
}

// readNote returns the newest note of a subject, 0 if there is none.
func (s *Stream) readNote(ctx context.Context, subject string) (uint64, error) {
	m, err := s.hand.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read a place in the stream: %w", err)
	}
	seq, err := strconv.ParseUint(string(m.Data), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("read a place in the stream: %w", err)
	}
	return seq, nil
}
