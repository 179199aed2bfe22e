package stream

import (
	"context"
	"time"
)

// OldestParked returns the first commit time of the oldest message that a sink
// has parked, the time it was parked if it comes from no commit, and the zero
// time if it is empty.
func (s *Stream) OldestParked(ctx context.Context, sink string) (at time.Time, err error) {
	oldest := func(b *ParkedBatch) {
		due := b.Batch.Stamp.FirstCommit
		if due.IsZero() {
			due = b.At
		}
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	err = s.ListParked(ctx, sink, func(b ParkedBatch) bool {
		oldest(&b)
		return false
	})
	if err != nil {
		return at, err
	}
	// An item whose count was raised is stored behind newer ones.
	s.unbuiltMu.Lock()
	defer s.unbuiltMu.Unlock()
	known, err := s.unbuiltOf(ctx, sink)
	if err != nil {
		return at, err
	}
	for _, seq := range known {
		b, err := s.parkedAt(ctx, seq)
		if err != nil {
			return at, err
		}
		if b != nil {
			oldest(b)
		}
	}
	return at, nil
}
