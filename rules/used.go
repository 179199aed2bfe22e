package rules

// Kinds is what the rules can send to a sink: by their values, and by what
// unknown and on_truncate name. A TRUNCATE for which the rule names nothing may
// bring patterns or a flush instead; those are not counted.
func (s *Set) Kinds(sink int) KindSet {
	var out KindSet
	add := func(k int, to []int) {
		for _, i := range to {
			if i == sink {
				out |= Kinds(Kind(k))
			}
		}
	}
	for _, r := range s.rules {
		for k := range r.values {
			for _, t := range r.values[k] {
				add(k, t.sinks)
			}
			if len(r.unknown.values[k]) > 0 || len(r.onTruncate.values[k]) > 0 {
				add(k, r.routes[k])
			}
		}
	}
	return out
}
