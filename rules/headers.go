package rules

import (
	"bytes"
	"maps"
	"slices"

	"github.com/walpurge/walpurge/rules/urlvariant"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// headers reads headers: and gives the URLs of the rule their variants.
func (l *ruleLoader) headers(raw *rawHeaders) {
	if raw.node == nil {
		return
	}
	at := raw.node.Key
	if err := raw.headers.Validate(); err != nil {
		l.fail(at, "`headers`: %v", err)
		return
	}
	if len(raw.headers) == 0 {
		l.fail(at, "`headers` is empty; name a header and its values, or remove it")
		return
	}
	urls := len(l.r.values[invalidation.URL]) + len(l.r.unknown.values[invalidation.URL]) + len(l.r.onTruncate.values[invalidation.URL])
	for i := range l.r.steps {
		urls += len(l.r.steps[i].values[invalidation.URL])
	}
	if urls == 0 {
		l.fail(at, "`headers`: the rule has no `urls` that they could belong to; remove it")
		return
	}
	variants := raw.headers.Variants()
	before := len(l.errs)
	for _, sink := range l.r.routes[invalidation.URL] {
		s := &l.opts.Sinks[sink]
		if s.Headers.Refused != "" {
			l.fail(at, "`headers`: %s %s", s.Name, s.Headers.Refused)
		}
		for _, name := range s.Headers.Reserved {
			if _, found := variants[0].Of(name); found && s.Headers.Taken {
				l.fail(at, "`headers`: %s means something else in purges of %s; it cannot be set", name, s.Name)
			}
		}
	}
	if len(l.errs) > before {
		return
	}
	if len(variants) > 1 && len(l.r.values[invalidation.URL])*len(variants) > MaxValues {
		l.fail(at, "`headers`: with its URLs they make more than %d values", MaxValues)
		return
	}
	l.r.variants = variants
	l.r.values[invalidation.URL] = l.variants(l.r.values[invalidation.URL], variants)
	for i := range l.r.steps {
		l.r.steps[i].values[invalidation.URL] = l.variants(l.r.steps[i].values[invalidation.URL], variants)
	}
	taken := slices.ContainsFunc(l.r.routes[invalidation.URL], func(sink int) bool { return l.opts.Sinks[sink].Headers.Taken })
	for _, fixed := range []*literals{&l.r.unknown, &l.r.onTruncate} {
		for _, sink := range l.r.routes[invalidation.URL] {
			if taken && len(fixed.values[invalidation.URL]) > 0 && !l.opts.Sinks[sink].Headers.Taken {
				l.fail(at, "`headers`: the URLs of `unknown` and `on_truncate` go to %s as well, which takes none; name tags or URL prefixes there", l.names[sink])
				return
			}
		}
		if !taken {
			continue
		}
		var out [][]byte
		for _, v := range fixed.values[invalidation.URL] {
			for _, variant := range variants {
				out = append(out, []byte(variant.Append(string(v))))
			}
		}
		fixed.values[invalidation.URL] = out
	}
}

// Variants are those of all rules that send URLs to a sink which takes headers, each once: what a URL that
// no rule has made can be stored under.
func (s *Set) Variants(sink int) (out []urlvariant.Variant) {
	for _, r := range s.rules {
		if !slices.Contains(r.routes[invalidation.URL], sink) || !r.specs[sink].Headers.Taken {
			continue
		}
		for _, v := range r.variants {
			if !slices.ContainsFunc(out, func(known urlvariant.Variant) bool { return maps.Equal(known, v) }) {
				out = append(out, v)
			}
		}
	}
	return out
}

// variants gives each sink that takes headers a template for each variant.
func (l *ruleLoader) variants(templates []*template, variants []urlvariant.Variant) []*template {
	var out []*template
	for _, t := range templates {
		var with, without []int
		for _, sink := range t.sinks {
			if l.opts.Sinks[sink].Headers.Taken {
				with = append(with, sink)
			} else {
				without = append(without, sink)
			}
		}
		if len(without) > 0 {
			one := *t
			one.sinks = without
			out = append(out, &one)
		}
		if len(with) == 0 {
			continue
		}
		for _, v := range variants {
			one := *t
			one.sinks, one.parts = with, slices.Clone(t.parts)
			one.limit = max(1, t.limit/len(variants))
			one.add(part{literal: v.Append("")})
			out = append(out, &one)
		}
	}
	return out
}

// bare is the part of a value that a rollout hashes: of all variants of a page the same.
func bare(kind invalidation.Kind, value []byte) []byte {
	if kind == invalidation.URL {
		value, _, _ = bytes.Cut(value, []byte(urlvariant.Separator))
	}
	return value
}
