package delivery

import (
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// keepUnknown holds the queue at a message that names a kind of value that this version does not
// know, until a flush or a manual purge replaces it. Acknowledged, its purge would be lost.
func (l *Lane) keepUnknown(r ready) {
	l.kept = &r
	l.conditions.At(unknownKind).Observe("err", r.msg.Unknown, "seq", r.msg.Seq, "messages", condition.Sum(1))
	l.setUnknown(r.msg.Unknown)
}

// release ends keepUnknown, and returns the message.
func (l *Lane) release() ready {
	r := *l.kept
	l.kept = nil
	l.conditions.At(unknownKind).End()
	l.setUnknown(nil)
	return r
}

func (l *Lane) setUnknown(why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unknown != nil && why == nil {
		l.status.Err = ""
	}
	l.unknown = why
	l.show()
}

// replaced reports whether a flush or a manual purge covers all that the message may name.
func (l *Lane) replaced(m invalidation.Message) bool { return l.skips(m) || l.coveredBy(m) }
