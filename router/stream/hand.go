package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/rules"
)

// codeStoreFailed is the server's error code for a stream that has no room
// (JSStreamStoreFailedF in server/errors.json of nats-server).
const codeStoreFailed jetstream.ErrorCode = 10077

// ErrHandFull says that more purges by hand wait than there is room for.
var ErrHandFull = errors.New("too many purges by hand wait at present; try again when some are done")

// PublishHand stores a batch that was asked for by hand where the sink's lane
// takes it ahead of its queue, and returns once that is durable.
func (s *Stream) PublishHand(ctx context.Context, b *rules.Batch) error {
	b.Origin = rules.FromHand
	data, err := encode(s.cfg.Pipeline, b)
	if err != nil {
		return fmt.Errorf("encode a batch for %s: %w", b.Sink, err)
	}
	if _, err := s.js.PublishMsg(ctx, &nats.Msg{Subject: handSubject(s.cfg.Pipeline, b.Sink), Data: data}); err != nil {
		if isFull(err) {
			return fmt.Errorf("store a purge by hand: %w", ErrHandFull)
		}
		return fmt.Errorf("store a purge by hand: %w", err)
	}
	return s.sync()
}

// sync makes what was acknowledged durable.
func (s *Stream) sync() error {
	if s.cfg.Sync == nil {
		return nil
	}
	if err := s.cfg.Sync(); err != nil {
		return fmt.Errorf("sync the stream to disk: %w", err)
	}
	return nil
}

// HandConsumer reads what was asked for by hand, in the order of the requests.
// What it acknowledges leaves the stream.
type HandConsumer struct{ *Consumer }

// HandConsumer opens the consumer of what was asked for by hand for a sink.
func (s *Stream) HandConsumer(ctx context.Context, sink string, log *slog.Logger) (*HandConsumer, error) {
	c, err := s.consumer(ctx, s.hand, sink, log, handSubject(s.cfg.Pipeline, sink))
	if err != nil {
		return nil, err
	}
	return &HandConsumer{c}, nil
}

// Ack gives up every message up to and with seq.
func (c *HandConsumer) Ack(seq uint64) error {
	if err := c.Consumer.Ack(seq); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := c.s.hand.Purge(ctx, jetstream.WithPurgeSequence(seq+1), jetstream.WithPurgeSubject(handSubject(c.s.cfg.Pipeline, c.sink)))
	if err != nil {
		return fmt.Errorf("make room for further purges by hand: %w", err)
	}
	return nil
}

// Last is the sequence of the newest message of the stream.
func (s *Stream) Last(ctx context.Context) (uint64, error) {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return 0, fmt.Errorf("read the stream's state: %w", err)
	}
	return info.State.LastSeq, nil
}

// Replay calls each with the batches that the stream still holds for the sink,
// oldest first, from those stored at or after since, until each fails or the
// newest at the time of the call is reached. It may take minutes.
func (s *Stream) Replay(ctx context.Context, sink string, since time.Time, each func(*rules.Batch) error) error {
	info, err := s.stream.Info(ctx)
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	subject := purgeSubject(s.cfg.Pipeline, sink)
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq; {
		m, err := s.stream.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("replay message %d: %w", seq, err)
		}
		if m.Sequence > info.State.LastSeq {
			return nil
		}
		seq = m.Sequence + 1
		if m.Time.Before(since) {
			continue
		}
		b, err := Decode(m.Data)
		if err != nil {
			return fmt.Errorf("replay message %d: %w", m.Sequence, err)
		}
		if err := each(b); err != nil {
			return err
		}
	}
	return nil
}
