package delivery

import (
	"slices"

	"github.com/walpurge/walpurge/cdc/failpoint"
)

// absorb is two seeded bugs: to take what came while an equal purge was in
// flight, or a flush, as done with it. Without them it does nothing.
func (l *Lane) absorb(group []ready) {
	joins, flushes := failpoint.On("join_in_flight"), failpoint.On("flush_absorbs_later")
	if !joins && !flushes {
		return
	}
	if flushes && !slices.ContainsFunc(group, func(r ready) bool { return r.msg.Batch != nil && r.msg.Batch.Flush }) {
		return
	}
	select {
	case r := <-l.turn:
		later := l.gather(r)
		l.queue.release(later)
		l.finish(later, nil)
	default:
	}
}
