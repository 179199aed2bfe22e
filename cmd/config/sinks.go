package config

import (
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

var sinkForm = regexp.MustCompile(`^[a-z][a-z0-9_]{0,39}$`)

func (l *loader) sinks(cfg *Config, raw strictyaml.Map[*rawSink]) {
	if len(raw) == 0 {
		l.missing("`sinks` is missing; name at least one cache to purge")
		return
	}
	var names, warms []string
	for _, e := range raw {
		names = append(names, e.Key)
		if e.Value != nil && e.Value.Warm != nil {
			warms = append(warms, e.Key)
		}
	}
	for _, e := range raw {
		if !sinkForm.MatchString(e.Key) {
			l.failf(e.Pos, "sink %q; write a lower-case letter, then up to 39 of a-z, 0-9 and _", e.Key)
		}
		if e.Value == nil {
			l.failf(e.Pos, "sink %s is empty; give it a kind, such as valkey: {url: ...}", e.Key)
			continue
		}
		if e.Value.Warm != nil {
			cfg.Warms = append(cfg.Warms, l.warm(e.Key, e.Pos, e.Value, names, warms))
			continue
		}
		cfg.Sinks = append(cfg.Sinks, l.sink(cfg, e.Key, e.Pos, e.Value, names, warms))
	}
	l.cycles(cfg.Sinks)
	if len(l.errs) == 0 {
		cfg.Sinks = innerFirst(cfg.Sinks)
		l.warmInTime(cfg)
	}
}

// innerFirst puts sinks before those that wait for them: what a sink waits for
// must be in the stream before its own batches. Else the file's order stands.
func innerFirst(sinks []Sink) []Sink {
	out := make([]Sink, 0, len(sinks))
	placed := make(map[string]bool)
	for len(out) < len(sinks) {
		for _, s := range sinks {
			if !placed[s.Name] && !slices.ContainsFunc(s.After, func(inner string) bool { return !placed[inner] }) {
				out, placed[s.Name] = append(out, s), true
			}
		}
	}
	return out
}

func (l *loader) sink(cfg *Config, name string, at strictyaml.Pos, raw *rawSink, names, warms []string) Sink {
	s := Sink{Name: name, Pos: at, MaxWait: 30 * time.Second}
	kinds := raw.Kinds.given()
	if len(kinds) != 1 {
		l.failf(at, "sink %s has %d kinds; give it exactly one of %s", name, len(kinds), strings.Join(kindNames(), ", "))
	}
	var can invalidation.KindSet
	accepts := func(invalidation.Invalidation) error { return nil }
	for _, b := range kinds {
		b.check(l)
		s.Config = b.config()
		can, accepts = s.Config.Kinds(), s.Config.Known(l.unset).Accepts
		traits := s.Config.Traits()
		s.Caps, s.RawTags, s.Hints, s.Headers = s.Config.Caps(), traits.RawTags, traits.Hints, traits.Headers
	}
	s.Takes = l.takes(raw.Takes, can, s.Hints)
	s.Flush = l.flush(raw.Flush, can, s.Hints, accepts)
	for _, t := range raw.After {
		switch {
		case !slices.Contains(names, t.Value):
			l.failf(t.Pos(), "after: no sink %s%s", t, strictyaml.DidYouMean(t.Value, names))
		case t.Value == name:
			l.failf(t.Pos(), "after: sink %s cannot wait for itself", name)
		case slices.Contains(warms, t.Value):
			l.failf(t.Pos(), "after: %s warms pages and purges nothing, so there is nothing to wait for; take it out", t)
		default:
			s.After = append(s.After, t.Value)
		}
	}
	if !raw.MaxWait.Pos.IsZero() {
		s.MaxWait = raw.MaxWait.Value
		if s.MaxWait <= 0 {
			l.failf(raw.MaxWait.Pos, "max_wait: %s; write a time above 0", s.MaxWait)
		}
	}
	s.SecondPurge = l.secondPurge(raw)
	s.FlushPace, s.FlushAtMost = l.flushTimes(raw.Flush)
	s.MaxBacklog, s.StopOnOverflow = l.overflow(cfg, raw)
	s.Shadow = l.oneOf(raw.Mode, "mode", "purge", "shadow") == "shadow"
	if s.Formerly = raw.Formerly.Value; slices.Contains(names, s.Formerly) {
		l.failf(raw.Formerly.Pos(), "formerly: %s is still a sink; rename it, or leave `formerly` out", s.Formerly)
	}
	s.Withheld = l.withheld(raw)
	return s
}

// withheld is the percentage that a rollout keeps from the sink.
func (l *loader) withheld(raw *rawSink) int {
	if raw.Rollout.Pos.IsZero() {
		return 0
	}
	if raw.Rollout.Value < 0 || raw.Rollout.Value > 100 {
		l.failf(raw.Rollout.Pos, "rollout: %d; write a percentage from 0 to 100", raw.Rollout.Value)
	}
	return 100 - raw.Rollout.Value
}

func (l *loader) takes(words []strictyaml.Text, can invalidation.KindSet, hints map[invalidation.Kind]string) invalidation.KindSet {
	if len(words) == 0 {
		return can
	}
	// Patterns and everything are how the daemon itself empties a sink.
	out := can & invalidation.Kinds(invalidation.KeyPattern, invalidation.Everything)
	kinds := invalidation.InRules()
	names := invalidation.Plurals(kinds)
	for _, w := range words {
		i := slices.Index(names, w.Value)
		switch {
		case i < 0:
			l.failf(w.Pos(), "takes: %s; write some of %s", w, strings.Join(names, ", "))
		case !can.Has(kinds[i]) && hints[kinds[i]] != "":
			l.failf(w.Pos(), "takes: %s: %s", names[i], hints[kinds[i]])
		case !can.Has(kinds[i]):
			l.failf(w.Pos(), "takes: this kind of sink cannot purge %s", names[i])
		default:
			out |= invalidation.Kinds(kinds[i])
		}
	}
	return out
}

// flush reads what empties a sink; accepts says why a value can never be carried out.
func (l *loader) flush(raw *rawFlush, can invalidation.KindSet, hints map[invalidation.Kind]string, accepts func(invalidation.Invalidation) error) []invalidation.Invalidation {
	if raw == nil {
		return nil
	}
	var out []invalidation.Invalidation
	add := func(k invalidation.Kind, values ...strictyaml.Text) {
		key := k.Plural()
		if len(values) > 0 && !can.Has(k) && hints[k] != "" {
			l.failf(values[0].Pos(), "flush.%s: %s", key, hints[k])
			return
		}
		if len(values) > 0 && !can.Has(k) {
			l.failf(values[0].Pos(), "flush.%s: this kind of sink cannot do that", key)
			return
		}
		for _, v := range values {
			inv := invalidation.Invalidation{Kind: k, Value: v.Value, Rule: "flush"}
			if !l.unset(v.Value) {
				if err := accepts(inv); err != nil {
					l.failf(v.Pos(), "flush.%s: %v", key, err)
				}
			}
			out = append(out, inv)
		}
	}
	// Everything and patterns come first, since they purge most.
	kinds := invalidation.InFlush()
	at := slices.Index(kinds, invalidation.KeyPattern)
	slices.Reverse(kinds[at:])
	for _, k := range slices.Concat(kinds[at:], kinds[:at]) {
		if flag := raw.Kinds.flags[k]; flag.Value {
			add(k, strictyaml.NewText("", flag.Pos))
		}
		add(k, raw.Kinds.lists[k]...)
	}
	return out
}

// cycles refuses sinks that wait for each other.
func (l *loader) cycles(sinks []Sink) {
	after := make(map[string][]string)
	for _, s := range sinks {
		after[s.Name] = s.After
	}
	var walk func(path []string, name string) bool
	walk = func(path []string, name string) bool {
		if i := slices.Index(path, name); i >= 0 {
			at := strictyaml.Pos{}
			for _, s := range sinks {
				if s.Name == name {
					at = s.Pos
				}
			}
			l.failf(at, "after: %s wait for each other", strings.Join(append(path[i:], name), " -> "))
			return true
		}
		for _, next := range after[name] {
			if walk(append(slices.Clone(path), name), next) {
				return true
			}
		}
		return false
	}
	for _, s := range sinks {
		if walk(nil, s.Name) {
			return
		}
	}
}
