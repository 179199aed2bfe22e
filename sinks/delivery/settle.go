package delivery

import "time"

// settle notes what a turn has purged and what it has put off, and returns the
// messages that owe nothing any more.
func (l *Lane) settle(group []ready, j *job) []ready {
	now := time.Now()
	for _, v := range j.paced {
		l.pacer.note(v.value, v.every, now)
	}
	late := make(map[int]*owed)
	for _, d := range j.later {
		o := late[d.ready]
		if o == nil {
			o = &owed{ready: group[d.ready]}
			late[d.ready] = o
		}
		if l.pacer.putOff(o, d.value, d.item, d.due) {
			l.metrics.coalesced.Inc()
		}
	}
	done := l.pacer.done(j.met)
	for i, r := range group {
		o := late[i]
		if o == nil {
			done = append(done, r)
			continue
		}
		// Listeners need not wait for the values put off; they hear of them again.
		l.announce(l.cfg.Source, r.msg)
		l.pacer.owed = append(l.pacer.owed, o)
		if r.final {
			l.tracker.putOff(r.entry)
		}
	}
	return done
}
