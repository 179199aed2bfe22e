package rules

import (
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Defers reports whether a rule of a sink has a period, so that values of it may be deferred.
func (s *Set) Defers(sink int) bool {
	return slices.ContainsFunc(s.rules, func(r *Rule) bool { return r.Every > 0 && slices.Contains(r.Sinks, sink) })
}

// Kinds is what the rules can send to a sink: by their values, by the steps of
// collapse, by what unknown and on_truncate name, and by messages, which may name
// anything that the sink takes. A TRUNCATE for which the rule names nothing may
// bring patterns or a flush instead; those are not counted.
func (s *Set) Kinds(sink int) invalidation.KindSet {
	var out invalidation.KindSet
	add := func(k int, to []int) {
		for _, i := range to {
			if i == sink {
				out |= invalidation.Kinds(invalidation.Kind(k))
			}
		}
	}
	for _, r := range s.rules {
		for k := range r.values {
			for _, t := range r.values[k] {
				add(k, t.sinks)
			}
			for _, step := range r.steps {
				for _, t := range step.values[k] {
					add(k, t.sinks)
				}
			}
			if r.Message != "" {
				add(k, r.routes[k])
			}
			if len(r.unknown.values[k]) > 0 || len(r.onTruncate.values[k]) > 0 {
				add(k, r.routes[k])
			}
		}
	}
	return out
}
