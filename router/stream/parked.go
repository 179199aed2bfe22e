package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// ParkedBatch is one parked message.
type ParkedBatch struct {
	// ID names it; ids of a pipeline never repeat.
	ID    uint64
	At    time.Time
	Error string
	// Batch lacks the values of kinds that this version does not know; Unknown then says so.
	Batch   *invalidation.Batch
	Unknown error
}

// ErrNoParked says that there is no parked message of that id (any more).
var ErrNoParked = errors.New("nothing is parked under this id")

// ListParked calls each with the parked messages of a sink ("*" for all),
// oldest first, until it returns false. One that cannot be read has an empty batch.
func (s *Stream) ListParked(ctx context.Context, sink string, each func(ParkedBatch) bool) error {
	for seq := uint64(1); ; {
		m, err := s.parked.GetMsg(ctx, seq, jetstream.WithGetMsgSubject(parkedSubject(s.cfg.Pipeline, sink)))
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read what is parked: %w", err)
		}
		p, err := decodeParked(m)
		if err != nil {
			_, sink, _ := strings.Cut(m.Subject, ".parked.")
			p = ParkedBatch{ID: m.Sequence, At: m.Time, Error: err.Error() + "; purge the sink, then drop the message", Batch: &invalidation.Batch{Sink: sink}}
		}
		if !each(p) {
			return nil
		}
		seq = m.Sequence + 1
	}
}

func decodeParked(m *jetstream.RawStreamMsg) (ParkedBatch, error) {
	var p parked
	if err := json.Unmarshal(m.Data, &p); err != nil {
		return ParkedBatch{}, fmt.Errorf("parked message %d: %w", m.Sequence, err)
	}
	b, err := invalidation.Decode(p.Batch)
	if b == nil {
		return ParkedBatch{}, fmt.Errorf("parked message %d: %w", m.Sequence, err)
	}
	return ParkedBatch{ID: m.Sequence, At: p.ParkedAt, Error: p.Error, Batch: b, Unknown: err}, nil
}

// RetryParked makes a manual purge of a parked message, and then deletes the message. What
// fails again is parked again.
func (s *Stream) RetryParked(ctx context.Context, id uint64) error {
	m, err := s.parkedMessage(ctx, id)
	if err != nil {
		return fmt.Errorf("retry parked %d: %w", id, err)
	}
	p, err := decodeParked(m)
	if err != nil {
		return err
	}
	if p.Unknown != nil {
		return fmt.Errorf("retry parked %d: %w", id, p.Unknown)
	}
	if p.Batch.Unbuilt() {
		return fmt.Errorf("retry parked %d: %w", id, ErrNoValues)
	}
	if err := s.PublishManual(ctx, p.Batch); err != nil {
		return err
	}
	return s.DropParked(ctx, id)
}

// DropParked deletes a parked message: the operator has purged by other means, or accepts the
// stale copy.
func (s *Stream) DropParked(ctx context.Context, id uint64) error {
	if _, err := s.parkedMessage(ctx, id); err != nil {
		return fmt.Errorf("drop parked %d: %w", id, err)
	}
	if err := s.parked.DeleteMsg(ctx, id); err != nil {
		return fmt.Errorf("drop parked %d: %w", id, err)
	}
	return s.sync()
}

// parkedMessage reads a parked message. Its stream holds notes besides, which have no id.
func (s *Stream) parkedMessage(ctx context.Context, id uint64) (*jetstream.RawStreamMsg, error) {
	m, err := s.parked.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && !strings.HasPrefix(m.Subject, parkedSubject(s.cfg.Pipeline, "")) {
		return nil, ErrNoParked
	}
	return m, err
}
