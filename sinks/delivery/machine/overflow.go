package machine

import "github.com/walpurge/walpurge/rules/invalidation"

// Trade makes a flush replace every message before it. No watermark moves
// until that is done.
func (m *Machine) Trade(seq uint64) {
	m.tracker.hold(seq)
	m.traded = seq
}

// replacesBacklog reports whether a batch is a flush that replaces all that its lane had in the stream
// before it.
func replacesBacklog(b *invalidation.Batch) bool {
	return b.Flush && b.Reason == invalidation.FlushOverflow
}

// Skips reports whether a flush that has not begun replaces the message.
func (m *Machine) Skips(msg invalidation.Message) bool {
	return msg.Seq < m.traded && m.begun < m.traded
}

// spare gives up the messages of a group that a flush replaces, before that
// may keep the others waiting, and returns those.
func (m *Machine) spare(group []Ready) []Ready {
	var rest, skipped []Ready
	for _, r := range group {
		if r.skipped = m.Skips(r.Msg); r.skipped {
			skipped = append(skipped, r)
		} else {
			rest = append(rest, r)
		}
	}
	if len(skipped) > 0 {
		m.finish(skipped, nil)
	}
	return rest
}

// overflown reports whether a flush that has not begun replaces all of a turn,
// so that it need not be carried out.
func (m *Machine) overflown(p *purge) bool {
	if m.begun >= m.traded {
		return false
	}
	if p.second && m.newest >= m.traded {
		return false
	}
	for _, r := range p.group {
		if !m.Skips(r.Msg) {
			return false
		}
	}
	return true
}

// beginning notes that the flush of a message begins. One that runs early is followed by
// another behind open gates, which replaces the backlog as before.
func (m *Machine) beginning(r Ready) {
	if b := r.Msg.Batch; b != nil && b.Flush && r.Final {
		m.begun = max(m.begun, r.Msg.Seq)
	}
}

// hold keeps claims back until a message was purged, which it may have been already: who
// put it into the stream says so after the lane could read it.
func (t *tracker) hold(seq uint64) {
	if seq > t.passed {
		t.held = max(t.held, seq)
	}
}
