package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/rules/invalidation"
)

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
func (s *Stream) Replay(ctx context.Context, sink string, since time.Time, each func(*invalidation.Batch) error) error {
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
		b, err := invalidation.Decode(m.Data)
		if err != nil {
			return fmt.Errorf("replay message %d: %w", m.Sequence, err)
		}
		if err := each(b); err != nil {
			return err
		}
	}
	return nil
}

// Waiting is what a lane has in its queue.
type Waiting struct {
	Messages, Items int
	// Flushes are the messages that ask for a flush of the sink.
	Flushes int
	// More: the queue was not read to its end.
	More bool
}

// Waiting counts what the lane has not acknowledged, of so many messages at most, or until the
// context ends.
func (c *Consumer) Waiting(ctx context.Context, most int) (w Waiting, err error) {
	info, err := c.cons.Info(ctx)
	if err != nil {
		return w, err
	}
	end, err := c.s.Last(ctx)
	if err != nil {
		return w, err
	}
	for _, subject := range c.s.purgeSubjects(info.Config) {
		for seq := max(c.Floor(), info.AckFloor.Stream) + 1; ; {
			m, err := c.from.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(subject))
			if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && m.Sequence > end {
				break
			}
			if w.Messages >= most || ctx.Err() != nil {
				w.More = true
				return w, nil
			}
			if err != nil {
				return w, fmt.Errorf("read what is waiting: %w", err)
			}
			seq = m.Sequence + 1
			w.Messages++
			b, err := invalidation.Decode(m.Data)
			if err != nil || b.Flush {
				w.Flushes++ // one that cannot be read is a flush, too
			}
			if err == nil {
				w.Items += len(b.Invalidations(nil))
			}
		}
	}
	return w, nil
}
