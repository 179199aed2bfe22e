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
	return c.s.noteAcceptance(ctx, c.sink, a)
}

func (s *Stream) noteAcceptance(ctx context.Context, sink string, a acceptance) error {
	for what, at := range map[string]uint64{"head": a.head, "hole": a.hole} {
		if at == 0 {
			continue
		}
		if err := s.note(ctx, acceptedSubject(s.cfg.Pipeline, what, sink), at); err != nil {
			return err
		}
	}
	return nil
}

// note records a place in the stream. Only the newest note of a subject counts, and only it
// is kept. There is always room for one.
func (s *Stream) note(ctx context.Context, subject string, seq uint64) error {
	return s.noteIn(ctx, s.hand, subject, seq)
}

// raiseNote records a place unless one as high is recorded, by whatever process.
func (s *Stream) raiseNote(ctx context.Context, subject string, seq uint64) error {
	for {
		m, err := s.hand.GetLastMsgForSubject(ctx, subject)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			m, err = &jetstream.RawStreamMsg{}, nil
		}
		if err != nil {
			return fmt.Errorf("read a place in the stream: %w", err)
		}
		recorded, _ := strconv.ParseUint(string(m.Data), 10, 64) // nothing, or what is not a number, is below any
		if recorded >= seq {
			return nil
		}
		err = s.noteIn(ctx, s.hand, subject, seq, jetstream.WithExpectLastSequencePerSubject(m.Sequence))
		if api := (*jetstream.APIError)(nil); !errors.As(err, &api) || api.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence {
			return err
		}
	}
}

func (s *Stream) noteIn(ctx context.Context, in jetstream.Stream, subject string, seq uint64, opts ...jetstream.PublishOpt) error {
	return s.noteData(ctx, in, subject, strconv.AppendUint(nil, seq, 10), opts...)
}

func (s *Stream) noteData(ctx context.Context, in jetstream.Stream, subject string, data []byte, opts ...jetstream.PublishOpt) error {
	m := &nats.Msg{Subject: subject, Data: data}
	if _, err := s.squeezeIn(ctx, in, m, opts...); err != nil {
		return fmt.Errorf("note a place in the stream: %w", err)
	}
	if err := in.Purge(ctx, jetstream.WithPurgeSubject(subject), jetstream.WithPurgeKeep(1)); err != nil {
		return fmt.Errorf("note a place in the stream: %w", err)
	}
	return nil
}

// readNote returns the newest note of a subject, 0 without one.
func (s *Stream) readNote(ctx context.Context, subject string) (uint64, error) {
	return s.readNoteIn(ctx, s.hand, subject)
}

func (s *Stream) readNoteIn(ctx context.Context, in jetstream.Stream, subject string) (uint64, error) {
	m, err := in.GetLastMsgForSubject(ctx, subject)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read a place in the stream: %w", err)
	}
	seq, err := strconv.ParseUint(string(m.Data), 10, 64)
	if err != nil {
		return 0, nil // no process of ours wrote that; without a note, more is flushed and nothing is skipped
	}
	return seq, nil
}
