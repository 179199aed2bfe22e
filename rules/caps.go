package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// maxFanout bounds, in bytes, the values that the lists in one template make for one image of a
// row; maxCoarse those of a step of collapse:, which every part of a large batch repeats.
const (
	maxFanout = 4 << 20
	maxCoarse = 64 << 10
)

// Fallback is what replaces, at one sink, the values of a template that could not be built for a
// change, where unknown: names nothing for the sink: a purge of everything that the template can
// name there, or, where the sink has no way to do that, a parked item.
type Fallback struct {
	// Template is the template's source, Of its kind: Everything for a message, which may name
	// any kind.
	Template string
	Of       invalidation.Kind
	// Kind and Value are the purge. Value is empty where the values are parked.
	Kind  invalidation.Kind
	Value string
}

// Parked reports that the sink has no purge that covers the template.
func (f *Fallback) Parked() bool { return f.Value == "" }

// fallback is what replaces the template's values at a sink that takes those kinds.
func (t *template) fallback(kind invalidation.Kind, takes invalidation.KindSet) Fallback {
	f := Fallback{Template: t.source, Of: kind}
	switch kind {
	case invalidation.Field:
		if hash, fixed := t.hash().fixed(); fixed && takes.Has(invalidation.Key) {
			f.Kind, f.Value = invalidation.Key, hash
			break
		}
		fallthrough
	case invalidation.Key, invalidation.KeyPrefix:
		if glob, ok := t.reach(kind); ok && takes.Has(invalidation.KeyPattern) && len(glob) <= invalidation.MaxValue {
			f.Kind, f.Value = invalidation.KeyPattern, glob
		}
	case invalidation.URL, invalidation.URLPrefix:
		if prefix, ok := t.urlReach(kind); ok && takes.Has(invalidation.URLPrefix) {
			f.Kind, f.Value = invalidation.URLPrefix, prefix
		}
	}
	return f
}

// urlReach is the prefix of all URLs that the template can name, up to a / in the path. ok is
// false where that is the whole host: a row must not purge what other rules are for.
func (t *template) urlReach(kind invalidation.Kind) (prefix string, ok bool) {
	head, _ := t.head()
	if kind == invalidation.URL {
		_, head, _ = strings.Cut(head, "://")
	}
	head, _, _ = strings.Cut(head, "?")
	last := strings.LastIndexByte(head, '/')
	if last <= strings.IndexByte(head, '/') {
		return "", false
	}
	return head[:last+1], true
}

// lacks gathers the templates of a rule whose values could not all be built for one change, each
// with the sinks that lack them. It is used again for the next change.
type lacks struct{ all []lack }

type lack struct {
	template *boundTemplate
	sink     int // everySink: all that the template goes to
}

const everySink = -1

func (l *lacks) add(t *boundTemplate, sink int) {
	for _, known := range l.all {
		if known.template == t && (known.sink == sink || known.sink == everySink) {
			return
		}
	}
	l.all = append(l.all, lack{t, sink})
}

// each calls f for every sink that lacks values of a template, with the template's fallback
// there. Templates of one source, as a list of the file's vars makes them, may share theirs.
func (l *lacks) each(f func(sink int, fallback *Fallback)) {
	type done struct {
		sink     int
		fallback Fallback
	}
	var before []done
	for _, k := range l.all {
		for n, sink := range k.template.sinks {
			this := done{sink, k.template.fallbacks[n]}
			if k.sink != sink && k.sink != everySink || slices.Contains(before, this) {
				continue
			}
			before = append(before, this)
			f(sink, &k.template.fallbacks[n])
		}
	}
}

// replace hands over what replaces values that could not be built: what unknown: names, and at
// each sink where that is nothing, the fallbacks of the templates.
func (r *Rule) replace(id int, l *lacks, out Output) {
	r.emitLiterals(id, &r.unknown, out)
	l.each(func(sink int, f *Fallback) {
		if !r.off(sink) && !r.takesAny(sink, &r.unknown) {
			out.Fallback(id, sink, f)
		}
	})
}

// tooLong says in words why a sink does not take a value.
func (s *SinkSpec) tooLong(k invalidation.Kind, value []byte) string {
	return fmt.Sprintf("a value of %d bytes is too long for %s, which takes at most %d", len(value), s.Name, s.Caps.Of(k))
}
