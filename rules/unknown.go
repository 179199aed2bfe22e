package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Uncovered is a template at a sink where unknown: names nothing that can be taken for what the template
// names: a purge of one key does not remove another.
type Uncovered struct {
	Rule string
	File string
	Line int
	Kind invalidation.Kind
	// Template is the template's source, Names what unknown: names at the sink.
	Template string
	Names    []string
	Sink     string
}

// Uncovered lists them, in the order of the rules, except those of rules that say `covers: true`.
func (s *Set) Uncovered() []Uncovered {
	var out []Uncovered
	for _, r := range s.rules {
		for k := range r.values {
			for _, t := range r.values[k] {
				for _, sink := range t.sinks {
					if r.off(sink) || !r.takesAny(sink, &r.unknown) || r.replaces(t, invalidation.Kind(k), sink) {
						continue
					}
					u := Uncovered{Rule: r.Name, File: r.File, Line: t.line, Kind: invalidation.Kind(k), Template: t.source, Sink: r.specs[sink].Name}
					for _, v := range r.appendLiterals(nil, &r.unknown, sink) {
						u.Names = append(u.Names, fmt.Sprintf("%s %s", v.kind, v.kind.Text(string(v.value))))
					}
					if !slices.ContainsFunc(out, u.same) {
						out = append(out, u)
					}
				}
			}
		}
	}
	return out
}

// same reports whether another finding is about the same template: a list of the file's vars makes several.
func (u Uncovered) same(other Uncovered) bool {
	return u.Rule == other.Rule && u.Line == other.Line && u.Template == other.Template && u.Sink == other.Sink
}

// namesUnknown reports whether every sink that a template's values go to takes something of what unknown:
// names.
func (r *Rule) namesUnknown(t *template) bool {
	return !slices.ContainsFunc(t.sinks, func(sink int) bool { return !r.takesAny(sink, &r.unknown) })
}

// covered reports whether what unknown: names can be taken for the template's values, at every sink that
// these go to.
func (r *Rule) covered(t *template, kind invalidation.Kind) bool {
	return !slices.ContainsFunc(t.sinks, func(sink int) bool {
		return !r.off(sink) && !(r.takesAny(sink, &r.unknown) && r.replaces(t, kind, sink))
	})
}

// coveredFor is covered for all templates that wait for the lookup.
func (r *Rule) coveredFor(l *Lookup) bool {
	for k := range r.values {
		for _, t := range r.values[k] {
			if t.lookup == l.Name && !r.covered(t, invalidation.Kind(k)) {
				return false
			}
		}
	}
	return true
}

// replaces reports whether what unknown: names at a sink can be taken for what the template names there.
// Tags and generations can, since the application may give them to every entry that the template means; a
// prefix can where the template's values begin with it, and the key of a hash for its fields; a key or
// URL of its own cannot.
func (r *Rule) replaces(t *template, kind invalidation.Kind, sink int) bool {
	if _, fixed := t.fixed(); fixed || r.covers {
		return true
	}
	head, _ := t.head()
	if kind == invalidation.URL {
		_, head, _ = strings.Cut(head, "://")
	}
	for _, v := range r.appendLiterals(nil, &r.unknown, sink) {
		switch v.kind {
		case invalidation.Tag, invalidation.Generation:
			return true
		case invalidation.Key:
			if hash, fixed := t.hash().fixed(); kind == invalidation.Field && fixed && hash == string(v.value) {
				return true
			}
		case invalidation.KeyPrefix:
			if (kind == invalidation.Key || kind == invalidation.KeyPrefix || kind == invalidation.Field) && strings.HasPrefix(head, string(v.value)) {
				return true
			}
		case invalidation.URLPrefix:
			if (kind == invalidation.URL || kind == invalidation.URLPrefix) && strings.HasPrefix(head, string(v.value)) {
				return true
			}
		}
	}
	return false
}
