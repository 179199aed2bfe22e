package machine

import (
	"github.com/walpurge/walpurge/rules/invalidation"
)

// keepUnknown holds the queue at a message that names a kind of value that this version does not
// know, until a flush or a manual purge replaces it. Acknowledged, its purge would be lost.
func (m *Machine) keepUnknown(r Ready) {
	m.kept = &r
	m.observe(Note{Condition: UnknownKind, Attrs: []any{"err", r.Msg.Unknown, "seq", r.Msg.Seq}, Counted: "messages", N: 1})
	m.do(Effect{Verb: ShowUnknown, Err: r.Msg.Unknown})
}

// release ends keepUnknown, and returns the message.
func (m *Machine) release() Ready {
	r := *m.kept
	m.kept = nil
	m.end(UnknownKind)
	m.do(Effect{Verb: ShowUnknown})
	return r
}

// replaced reports whether a flush or a manual purge covers all that the message may name.
func (m *Machine) replaced(msg invalidation.Message) bool { return m.Skips(msg) || m.coveredBy(msg) }
