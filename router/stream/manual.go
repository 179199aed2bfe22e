package stream

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// codeStoreFailed is the server's error code for a stream that has no room
// (JSStreamStoreFailedF in server/errors.json of nats-server).
const codeStoreFailed jetstream.ErrorCode = 10077

// ErrManualFull says that the stream of manual purges has no room for another one.
var ErrManualFull = errors.New("too many manual purges are pending; try again when some are done")

// numberHeader carries the number of a manual purge. The purges of one sink are numbered
// without gaps; see numbers.
const numberHeader = "Walpurge-Number"

// PublishManual stores a batch that an operator asked for where the sink's lane takes it
// ahead of its queue, and returns once that is durable.
func (s *Stream) PublishManual(ctx context.Context, b *invalidation.Batch) error {
	b.Origin = invalidation.FromHand
	data, err := invalidation.Encode(s.cfg.Pipeline, b)
	if err != nil {
		return fmt.Errorf("encode a batch for %s: %w", b.Sink, err)
	}
	if err := s.publishNumbered(ctx, b.Sink, data); err != nil {
		if isFull(err) {
			return fmt.Errorf("store a manual purge: %w", ErrManualFull)
		}
		return fmt.Errorf("store a manual purge: %w", err)
	}
	return s.sync()
}

// publishNumbered stores a manual purge under the next number of its sink, and then records
// that number. A crash between the two leaves a purge whose number is higher than recorded.
//
// Two processes that share the stream may give one number twice. That is no error: a number
// is a loss only if no message had it.
func (s *Stream) publishNumbered(ctx context.Context, sink string, data []byte) error {
	s.manualMu.Lock()
	defer s.manualMu.Unlock()
	newest, err := s.newestNumber(ctx, sink)
	if err != nil {
		return err
	}
	m := &nats.Msg{Subject: handSubject(s.cfg.Pipeline, sink), Data: data, Header: nats.Header{}}
	m.Header.Set(numberHeader, strconv.FormatUint(newest+1, 10))
	if _, err := s.js.PublishMsg(ctx, m); err != nil {
		return err
	}
	s.manualNumbers[sink] = newest + 1
	return s.noteIn(ctx, s.parked, storedSubject(s.cfg.Pipeline, sink), newest+1)
}

// newestNumber is the highest number that a manual purge of the sink ever had, as far as
// this process and the records know.
func (s *Stream) newestNumber(ctx context.Context, sink string) (uint64, error) {
	stored, err := s.readNoteIn(ctx, s.parked, storedSubject(s.cfg.Pipeline, sink))
	if err != nil {
		return 0, err
	}
	if newest, known := s.manualNumbers[sink]; known {
		return max(stored, newest), nil
	}
	last, err := s.lastNumber(ctx, sink)
	if err != nil {
		return 0, err
	}
	done, err := s.readNote(ctx, doneSubject(s.cfg.Pipeline, sink))
	return max(stored, last, done), err
}

// lastNumber is the number of the newest manual purge of the sink that is in the stream, 0
// without one.
func (s *Stream) lastNumber(ctx context.Context, sink string) (uint64, error) {
	m, err := s.hand.GetLastMsgForSubject(ctx, handSubject(s.cfg.Pipeline, sink))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the newest manual purge: %w", err)
	}
	return numberOf(m.Header), nil
}

// numberOf is the number of a manual purge, 0 if it has none: earlier versions gave none.
func numberOf(h nats.Header) uint64 {
	n, err := strconv.ParseUint(h.Get(numberHeader), 10, 64)
	if err != nil {
		return 0
	}
	return n
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

// ManualConsumer reads the manual purges of a sink in the order of the requests. What it
// acknowledges leaves the stream.
type ManualConsumer struct{ *Consumer }

// ManualConsumer opens the consumer of a sink's manual purges.
func (s *Stream) ManualConsumer(ctx context.Context, sink string, log *slog.Logger) (*ManualConsumer, error) {
	log = log.With("queue", "manual")
	numbers := &numbers{s: s, sink: sink, log: condition.NewLog(log)}
	c, err := s.consumer(ctx, s.hand, numbers, sink, log, handSubject(s.cfg.Pipeline, sink))
	if err != nil {
		return nil, err
	}
	return &ManualConsumer{c}, nil
}

// Ack gives up every message up to and with seq. The record of that comes first: a purge
// that is missing and not recorded as done is taken for lost.
func (c *ManualConsumer) Ack(seq uint64) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if number := c.numberOf(seq); number > 0 {
		if err := c.s.raiseNote(ctx, doneSubject(c.s.cfg.Pipeline, c.sink), number); err != nil {
			return err
		}
	}
	if err := c.Consumer.Ack(seq); err != nil {
		return err
	}
	err := c.s.hand.Purge(ctx, jetstream.WithPurgeSequence(seq+1), jetstream.WithPurgeSubject(handSubject(c.s.cfg.Pipeline, c.sink)))
	if err != nil {
		return fmt.Errorf("make room for further manual purges: %w", err)
	}
	return nil
}

// numberOf is the highest number of the messages up to and with seq that are delivered and
// not acknowledged.
func (c *ManualConsumer) numberOf(seq uint64) (number uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range c.held {
		if h.seq <= seq {
			number = max(number, numberOf(h.msg.Headers()))
		}
	}
	return number
}

// adoptManual moves the manual purges that are pending for a sink to that of its new name.
// A crash in between may leave one of them under both names; it is then purged twice.
func (s *Stream) adoptManual(ctx context.Context, sink, formerly string) error {
	subject := handSubject(s.cfg.Pipeline, formerly)
	for {
		m, err := s.hand.GetMsg(ctx, 1, jetstream.WithGetMsgSubject(subject))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("adopt the manual purges of %s: %w", formerly, err)
		}
		b, err := invalidation.Decode(m.Data)
		switch {
		case b != nil && err != nil: // kept as it is, for a version that knows it
			err = s.publishNumbered(ctx, sink, m.Data)
			if err == nil {
				err = s.sync()
			}
			if err != nil {
				return fmt.Errorf("adopt the manual purges of %s: %w", formerly, err)
			}
		case err != nil:
			// It may have asked for anything.
			if _, err := s.Flush(ctx, sink, invalidation.FlushUnreadable); err != nil {
				return err
			}
		default:
			b.Sink = sink
			if err := s.PublishManual(ctx, b); err != nil {
				return err
			}
		}
		if err := s.dropManual(ctx, formerly, m); err != nil {
			return err
		}
	}
}

// dropManual takes a manual purge out of the stream, and all of its sink that lie before.
func (s *Stream) dropManual(ctx context.Context, sink string, m *jetstream.RawStreamMsg) error {
	if err := s.raiseNote(ctx, doneSubject(s.cfg.Pipeline, sink), numberOf(m.Header)); err != nil {
		return err
	}
	err := s.hand.Purge(ctx, jetstream.WithPurgeSequence(m.Sequence+1), jetstream.WithPurgeSubject(handSubject(s.cfg.Pipeline, sink)))
	if err != nil {
		return fmt.Errorf("drop a manual purge of %s: %w", sink, err)
	}
	return nil
}

// dropAllManual takes every manual purge of a sink out of the stream.
func (s *Stream) dropAllManual(ctx context.Context, sink string) error {
	m, err := s.hand.GetLastMsgForSubject(ctx, handSubject(s.cfg.Pipeline, sink))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the newest manual purge: %w", err)
	}
	return s.dropManual(ctx, sink, m)
}

// owesManual reports whether a sink has manual purges that were not carried out.
func (s *Stream) owesManual(ctx context.Context, sink string) (bool, error) {
	seq, err := firstUnpurged(ctx, s.hand, handSubject(s.cfg.Pipeline, sink), 0)
	return seq > 0, err
}
