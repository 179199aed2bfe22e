package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/walpurge/walpurge/rules"
)

// ParkedBatch is one parked message.
type ParkedBatch struct {
	// ID names it; ids of a pipeline never repeat.
	ID    uint64
	At    time.Time
	Error string
	Batch *rules.Batch
}

// ErrNoParked says that there is no parked message of that id (any more).
var ErrNoParked = errors.New("nothing is parked under this id")

// ListParked calls each with the parked messages of a sink ("*" for all),
// oldest first, until it returns false.
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
			return err
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
	b, err := Decode(p.Batch)
	if err != nil {
		return ParkedBatch{}, fmt.Errorf("parked message %d: %w", m.Sequence, err)
	}
	return ParkedBatch{ID: m.Sequence, At: p.ParkedAt, Error: p.Error, Batch: b}, nil
}

// RetryParked hands a parked message to its lane once more, ahead of the queue,
// and then forgets it. What fails again is parked again.
func (s *Stream) RetryParked(ctx context.Context, id uint64) error {
	m, err := s.parked.GetMsg(ctx, id)
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("retry parked %d: %w", id, ErrNoParked)
	}
	if err != nil {
		return fmt.Errorf("retry parked %d: %w", id, err)
	}
	p, err := decodeParked(m)
	if err != nil {
		return err
	}
	if err := s.PublishHand(ctx, p.Batch); err != nil {
		return err
	}
	return s.DropParked(ctx, id)
}

// DropParked forgets a parked message: whoever calls it has purged by other
// means, or accepts the stale copy.
func (s *Stream) DropParked(ctx context.Context, id uint64) error {
	if _, err := s.parked.GetMsg(ctx, id); errors.Is(err, jetstream.ErrMsgNotFound) {
		return fmt.Errorf("drop parked %d: %w", id, ErrNoParked)
	}
	if err := s.parked.DeleteMsg(ctx, id); err != nil {
		return fmt.Errorf("drop parked %d: %w", id, err)
	}
	return s.sync()
}
