package rules

import "github.com/walpurge/walpurge/rules/invalidation"

// ForgetMessages hands over what replaces messages of a prefix that were not read: what
// their rules' unknown: names, and where a sink takes nothing of that, all that it holds,
// because a message may name anything. There are no verdicts.
func (s *Set) ForgetMessages(prefix string, out Output) {
	for _, id := range s.byMessage[prefix] {
		r := s.rules[id]
		r.emitLiterals(id, &r.unknown, out)
		for _, sink := range r.Sinks {
			if !r.off(sink) && !r.takesAny(sink, &r.unknown) {
				out.Invalidate(id, sink, invalidation.Everything, nil)
			}
		}
	}
}
