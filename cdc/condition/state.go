package condition

import "time"

// line is what the log has to say after a step.
type line int

const (
	nothing line = iota
	began
	lasts
	ended
)

// state is a condition that lasts, or that ended less than a Period ago. It has no clock.
type state struct {
	text   Text
	labels []string
	// attrs are names and values.
	attrs []any
	began time.Time
	// over is when it ended, zero while it lasts.
	over time.Time
	// times counts how often it began. From the second time on it is unstable, and its end is
	// logged once it has been over for a Period.
	times int
	// fresh: something was observed since the last line.
	fresh bool
	// next is when a summary is due.
	next time.Time
}

// record takes over the attributes of an occurrence, and adds up sums.
func (s *state) record(attrs []any) {
	for i := 0; i+1 < len(attrs); i += 2 {
		place := -1
		for j := 0; j < len(s.attrs); j += 2 {
			if s.attrs[j] == attrs[i] {
				place = j
			}
		}
		if place < 0 {
			s.attrs = append(s.attrs, attrs[i], attrs[i+1])
			continue
		}
		before, summed := s.attrs[place+1].(Sum)
		if more, sum := attrs[i+1].(Sum); sum && summed {
			s.attrs[place+1] = before + more
		} else {
			s.attrs[place+1] = attrs[i+1]
		}
	}
}

func (s *state) observe(now time.Time) line {
	s.fresh = true
	switch {
	case s.times == 0:
		s.times, s.began, s.next, s.fresh = 1, now, now.Add(Period), false
		return began
	case s.over.IsZero():
		return nothing
	}
	s.over = time.Time{}
	if s.times++; s.times > 2 {
		return nothing
	}
	s.next, s.fresh = now.Add(Period), false
	return began
}

func (s *state) end(now time.Time) line {
	if !s.over.IsZero() {
		return nothing
	}
	s.over = now
	if s.times > 1 {
		return nothing
	}
	return ended
}

// due is when pass has something to do.
func (s *state) due() time.Time {
	if s.over.IsZero() {
		return s.next
	}
	if quiet := s.over.Add(Period); s.times == 1 || quiet.Before(s.next) {
		return quiet
	}
	return s.next
}

// pass is called when the state is due. It reports that the state can be forgotten.
func (s *state) pass(now time.Time) (what line, gone bool) {
	if !s.over.IsZero() && !now.Before(s.over.Add(Period)) {
		if s.times > 1 {
			return ended, true
		}
		return nothing, true
	}
	if s.text.Off == "" && !s.fresh {
		return nothing, true
	}
	s.next, s.fresh = now.Add(Period), false
	return lasts, false
}
