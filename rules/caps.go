package rules

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
)

// MaxValue is the longest value in bytes that any sink is sent, whatever the sink itself takes.
// A message of the stream can hold it even where JSON writes each byte as six: NATS refuses
// messages above 1 MiB unless it is configured otherwise.
const MaxValue = 64 << 10

// maxFanout bounds, in bytes, the values that the lists in one template make for one image of a
// row; maxCoarse those of a step of collapse:, which every part of a large batch repeats.
const (
	maxFanout = 4 << 20
	maxCoarse = 64 << 10
)

// Caps are the lengths in bytes above which a sink takes no value of a kind, counted as the value
// is sent: escapes included.
type Caps struct {
	// Bytes has a cap for each kind; 0 is MaxValue.
	Bytes [NumKinds]int
	// PathOnly is set where scheme and host of a URL, and the host of a URL prefix, are not sent
	// and so do not count.
	PathOnly bool
}

// Of is the cap of a kind.
func (c *Caps) Of(k Kind) int {
	if n := c.Bytes[k]; n > 0 {
		return n
	}
	return MaxValue
}

// Fits reports whether a value is short enough.
func (c *Caps) Fits(k Kind, value []byte) bool {
	limit := c.Of(k)
	if len(value) <= limit || len(value) > MaxValue || !c.PathOnly {
		return len(value) <= limit
	}
	return len(value)-hostLen(k, value) <= limit
}

// hostLen is the length of what stands before the path of a URL or URL prefix.
func hostLen(k Kind, value []byte) int {
	from := 0
	switch k {
	case URL:
		scheme := bytes.Index(value, []byte("://"))
		if scheme < 0 {
			return 0
		}
		from = scheme + len("://")
	case URLPrefix:
	default:
		return 0
	}
	end := bytes.IndexAny(value[from:], "/?")
	if end < 0 {
		return len(value)
	}
	return from + end
}

// Fallback is what replaces, at one sink, the values of a template that could not be built for a
// change, where unknown: names nothing for the sink: a purge of everything that the template can
// name there, or, where the sink has no way to do that, a parked item.
type Fallback struct {
	// Template is the template's source, Of its kind: Everything for a message, which may name
	// any kind.
	Template string
	Of       Kind
	// Kind and Value are the purge. Value is empty where the values are parked.
	Kind  Kind
	Value string
}

// Parked reports that the sink has no purge that covers the template.
func (f *Fallback) Parked() bool { return f.Value == "" }

// fallback is what replaces the template's values at a sink that takes those kinds.
func (t *template) fallback(kind Kind, takes KindSet) Fallback {
	f := Fallback{Template: t.source, Of: kind}
	switch kind {
	case Field:
		if hash, fixed := t.hash().fixed(); fixed && takes.Has(Key) {
			f.Kind, f.Value = Key, hash
			break
		}
		fallthrough
	case Key, KeyPrefix:
		if glob, ok := t.reach(kind); ok && takes.Has(KeyPattern) && len(glob) <= MaxValue {
			f.Kind, f.Value = KeyPattern, glob
		}
	case URL, URLPrefix:
		if prefix, ok := t.urlReach(kind); ok && takes.Has(URLPrefix) {
			f.Kind, f.Value = URLPrefix, prefix
		}
	}
	return f
}

// urlReach is the prefix of all URLs that the template can name, up to a / in the path. ok is
// false where that is the whole host: a row must not purge what other rules are for.
func (t *template) urlReach(kind Kind) (prefix string, ok bool) {
	head, _ := t.head()
	if kind == URL {
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

// replace hands over what stands for values that could not be built: what unknown: names, and at
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
func (s *SinkSpec) tooLong(k Kind, value []byte) string {
	return fmt.Sprintf("a value of %d bytes is too long for %s, which takes at most %d", len(value), s.Name, s.Caps.Of(k))
}
