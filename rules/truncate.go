package rules

import (
	"fmt"
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// evalTruncate hands over what a TRUNCATE of the rule's table invalidates, sink
// by sink: what on_truncate names and the sink takes; else everything that the rule
// can have given the sink. A condition and ops: play no part.
func (r *Rule) evalTruncate(id int, out Output) {
	out.Verdict(id, Matched)
	r.emitLiterals(id, &r.onTruncate, out)
	for _, sink := range r.Sinks {
		if !r.takesAny(sink, &r.onTruncate) {
			r.forget(id, sink, out)
		}
	}
}

// forget hands over everything that the rule can have given a sink: what the last step of collapse: names
// for it, where that is the same for every row; else whatever its templates can name there, and if that
// cannot be named, all that the sink holds.
func (r *Rule) forget(id, sink int, out Output) {
	if r.off(sink) {
		return
	}
	values, literal := r.lastLiterals(sink)
	all := false
	if !literal {
		values, all = r.reach(sink)
	}
	if all {
		out.Invalidate(id, sink, invalidation.Everything, nil)
		return
	}
	for _, v := range values {
		out.Invalidate(id, sink, v.kind, v.value)
	}
}

func (r *Rule) takesAny(sink int, l *literals) bool {
	for k := range l.values {
		if len(l.values[k]) > 0 && slices.Contains(r.routes[k], sink) {
			return true
		}
	}
	return false
}

type kindValue struct {
	kind  invalidation.Kind
	value []byte
}

// reach names all values that the rule's templates can give a sink: fixed ones
// as they are, keys and key prefixes with columns as patterns, and fields with
// columns as their whole hashes. all is set when
// that is not possible: another kind with a column, a sink without patterns, or
// a pattern without literal text.
func (r *Rule) reach(sink int) (values []kindValue, all bool) {
	for k := range r.values {
		for _, t := range r.values[k] {
			if !slices.Contains(t.sinks, sink) {
				continue
			}
			if fixed, ok := t.fixed(); ok {
				values = append(values, kindValue{invalidation.Kind(k), []byte(fixed)})
				continue
			}
			if hash, ok := t.hash().fixed(); ok && invalidation.Kind(k) == invalidation.Field && slices.Contains(r.routes[invalidation.Key], sink) {
				values = append(values, kindValue{invalidation.Key, []byte(hash)})
				continue
			}
			glob, ok := t.reach(invalidation.Kind(k))
			if !ok || !slices.Contains(r.routes[invalidation.KeyPattern], sink) {
				return nil, true
			}
			values = append(values, kindValue{invalidation.KeyPattern, []byte(glob)})
		}
	}
	return values, false
}

// reach is the glob that matches every key that the template's values name, or whose field they
// name; ok
// is false where every glob would match something else, too.
func (t *template) reach(kind invalidation.Kind) (glob string, ok bool) {
	if kind == invalidation.Field {
		return t.hash().pattern()
	}
	glob, literal := t.pattern()
	switch kind {
	case invalidation.Key:
		return glob, literal
	case invalidation.KeyPrefix:
		return glob + "*", literal
	}
	return "", false
}

// FlushPatterns derives the globs that match every key which rules can give a
// sink, sorted, each once. It is an error, with the place, when a template has
// no literal text, because its pattern would match the keys of others too; and
// for a generation, because deleting a counter could revive what it had ended.
func (s *Set) FlushPatterns(sink int) (patterns []string, err error) {
	if sink < 0 || sink >= len(s.sinks) {
		return nil, fmt.Errorf("flush patterns: there is no sink %d", sink)
	}
	for _, r := range s.rules {
		if r.Message != "" && slices.Contains(r.Sinks, sink) {
			return nil, fmt.Errorf("%s:%d: rule %q: messages %q may name any key, so no flush pattern follows from it; give sink %q a `flush:`",
				r.File, r.Line, r.Name, r.Message, s.sinks[sink].Name)
		}
		for _, kind := range []invalidation.Kind{invalidation.Key, invalidation.KeyPrefix, invalidation.Field, invalidation.Generation} {
			for _, t := range r.values[kind] {
				if !slices.Contains(t.sinks, sink) {
					continue
				}
				glob, ok := t.reach(kind)
				if !ok {
					why := "has no literal text"
					if kind == invalidation.Generation {
						why = "is raised, not deleted"
					}
					return nil, fmt.Errorf("%s:%d: rule %q: %s %q %s, so no flush pattern follows from it; give sink %q a `flush:`",
						r.File, t.line, r.Name, kind, t.source, why, s.sinks[sink].Name)
				}
				patterns = append(patterns, glob)
			}
		}
	}
	slices.Sort(patterns)
	return slices.Compact(patterns), nil
}
