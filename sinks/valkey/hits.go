package valkey

import "slices"

// byRule are the keys of a batch, those of one rule together: the server answers
// a command with one count, which then says something about that rule.
type byRule struct {
	lists []work
	last  int
}

func (b *byRule) add(rule string, place int, key string) {
	if len(b.lists) == 0 || b.lists[b.last].rule != rule {
		b.last = slices.IndexFunc(b.lists, func(w work) bool { return w.rule == rule })
		if b.last < 0 {
			b.last = len(b.lists)
			b.lists = append(b.lists, work{rule: rule})
		}
	}
	b.lists[b.last].add(place, key)
}

// hit reports how many of the keys that a command named were there. Members of
// tag sets are unlinked too, but they are the application's, not a template's.
func (s *Sink) hit(keys work, existed int) {
	if s.cfg.Hits != nil && keys.rule != "" {
		s.cfg.Hits(keys.rule, existed, max(0, len(keys.keys)-existed))
	}
}
