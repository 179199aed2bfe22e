package stream

import (
	"context"
	"time"
)

// OldestParked returns the first commit time of the oldest message that a sink
// has parked, the time it was parked if it comes from no commit, and the zero
// time if there is none.
func (s *Stream) OldestParked(ctx context.Context, sink string) (at time.Time, err error) {
	err = s.ListParked(ctx, sink, func(b ParkedBatch) bool {
		if at = b.Batch.Stamp.FirstCommit; at.IsZero() {
			at = b.At
		}
		return false
	})
	return at, err
}
