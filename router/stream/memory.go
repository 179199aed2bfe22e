package stream

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Memory keeps one document beside the stream.
type Memory struct {
	s    *Stream
	what string
}

// Memory returns the document of a name.
func (s *Stream) Memory(what string) Memory { return Memory{s, what} }

func (m Memory) subject() string { return acceptedSubject(m.s.cfg.Pipeline, "memory", m.what) }

// Load returns what was saved last, nil if nothing was.
func (m Memory) Load(ctx context.Context) ([]byte, error) {
	msg, err := m.s.hand.GetLastMsgForSubject(ctx, m.subject())
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what is remembered as %s: %w", m.what, err)
	}
	return msg.Data, nil
}

// Save keeps a document in the place of the one before, durably.
func (m Memory) Save(ctx context.Context, data []byte) error {
	if _, err := m.s.squeezeIn(ctx, m.s.hand, &nats.Msg{Subject: m.subject(), Data: data}); err != nil {
		return fmt.Errorf("remember %s: %w", m.what, err)
	}
	if err := m.s.hand.Purge(ctx, jetstream.WithPurgeSubject(m.subject()), jetstream.WithPurgeKeep(1)); err != nil {
		return fmt.Errorf("remember %s: %w", m.what, err)
	}
	return m.s.sync()
}
