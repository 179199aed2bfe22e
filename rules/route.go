package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc/display"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// route finds the sinks of each kind and template, and the kinds that reach none.
func (l *ruleLoader) route(f *rawFields, rule strictyaml.Pos, defaults []int) {
	owner := fmt.Sprintf("rule %q", l.r.Name)
	before := len(l.errs)
	sinks, from := l.sinkList(l.file, owner, f.Sinks), "its sinks"
	if sinks != nil && len(sinks) == 0 && len(f.Sinks) == 0 {
		l.fail(rule, "`sinks` is empty, so nothing would be purged; name one or remove it")
	}
	if f.Sinks == nil {
		sinks, from = defaults, "the default sinks"
	}
	if sinks == nil {
		from = "the sinks"
		for i := range l.names {
			sinks = append(sinks, i)
		}
	}
	for _, i := range sinks {
		for k := range invalidation.NumKinds {
			if l.opts.Sinks[i].Takes.Has(invalidation.Kind(k)) {
				l.r.routes[k] = append(l.r.routes[k], i)
			}
		}
	}
	for k := range l.r.values {
		for _, t := range l.r.values[k] {
			if t.sinks = l.r.routes[k]; t.only >= 0 {
				t.sinks = []int{t.only}
			}
		}
	}
	for _, i := range sinks {
		if l.r.reaches(i) {
			l.r.Sinks = append(l.r.Sinks, i)
		}
	}
	if len(l.errs) > before {
		return
	}
	unrouted := func(prefix string, values *rawValues) {
		for _, list := range values.lists() {
			if len(list.texts) > 0 && len(l.r.routes[list.kind]) == 0 {
				l.fail(list.texts[0].Pos(), "`%s%s`: none of %s (%s) takes a %s%s", prefix, list.kind.Plural(), from, l.sinkNames(sinks), list.kind, l.hint(sinks, list.kind))
			}
		}
	}
	unrouted("", &f.Values)
	unrouted("unknown.", &f.Unknown.f.Values)
	unrouted("on_truncate.", &f.OnTruncate.f)
	for i := range f.To.sinks {
		l.routeTo(&f.To.sinks[i], sinks, from)
	}
	if len(l.errs) == before && len(l.r.steps) > 0 {
		l.routeSteps(&f.Collapse)
	}
	if len(l.errs) > before {
		return
	}
	l.fits(f)
	l.r.values[invalidation.Tag] = tagForms(l.r.values[invalidation.Tag], l.opts.Sinks)
	for i := range l.r.steps {
		l.r.steps[i].values[invalidation.Tag] = tagForms(l.r.steps[i].values[invalidation.Tag], l.opts.Sinks)
	}
}

// fits refuses fixed values that one of their sinks does not take, because of their length, and text of
// tags that the header of one of them cannot carry.
func (l *ruleLoader) fits(f *rawFields) {
	check := func(kind invalidation.Kind, value string, sinks []int, at strictyaml.Pos) {
		for _, sink := range sinks {
			s := &l.opts.Sinks[sink]
			if !s.Caps.Fits(kind, []byte(value)) {
				l.fail(at, "%s; shorten it, or name it under `to` for the sinks that take it", s.tooLong(kind, []byte(value)))
				return
			}
			if err := s.tagFits(kind, []byte(value)); err != nil {
				l.fail(at, "%s %q: %v", kind, kind.Text(value), err)
				return
			}
		}
	}
	templates := func(kind int, tt []*template) {
		for _, t := range tt {
			at := strictyaml.Pos{Line: t.line, Column: t.column}
			if fixed, ok := t.fixed(); ok {
				check(invalidation.Kind(kind), fixed, t.sinks, at)
				continue
			}
			for _, sink := range t.sinks {
				if err := l.opts.Sinks[sink].tagFits(invalidation.Kind(kind), t.literals()); err != nil {
					l.fail(at, "%s %q: %v", invalidation.Kind(kind), t.source, err)
					break
				}
			}
		}
	}
	for k := range invalidation.NumKinds {
		templates(k, l.r.values[k])
		for i := range l.r.steps {
			templates(k, l.r.steps[i].values[k])
		}
		for _, v := range l.r.unknown.values[k] {
			check(invalidation.Kind(k), string(v), l.r.routes[k], f.Unknown.node.Key)
		}
		for _, v := range l.r.onTruncate.values[k] {
			check(invalidation.Kind(k), string(v), l.r.routes[k], f.OnTruncate.node.Key)
		}
	}
}

// routeTo makes sure that a sink under to: is one of the rule's, and takes what
// it is given.
func (l *ruleLoader) routeTo(to *strictyaml.Entry[rawBlock], sinks []int, from string) {
	sink := slices.Index(l.names, to.Key)
	if sink < 0 {
		return
	}
	if !slices.Contains(sinks, sink) {
		l.fail(to.Pos, "`to`: %s is not among %s (%s); add it there", display.Name(to.Key), from, l.sinkNames(sinks))
		return
	}
	for _, list := range to.Value.f.lists() {
		if len(list.texts) > 0 && !l.opts.Sinks[sink].Takes.Has(list.kind) {
			l.fail(list.texts[0].Pos(), "`to.%s.%s`: %s does not take a %s%s", to.Key, list.kind.Plural(), to.Key, list.kind, l.hint([]int{sink}, list.kind))
		}
	}
}

// reaches reports whether anything of the rule goes to the sink.
func (r *Rule) reaches(sink int) bool {
	return r.gives(sink) || r.takesAny(sink, &r.unknown) || r.takesAny(sink, &r.onTruncate)
}

func (l *loader) sinkNames(sinks []int) string {
	if len(sinks) == 0 {
		return "none configured"
	}
	names := make([]string, len(sinks))
	for i, s := range sinks {
		names[i] = display.Name(l.names[s])
	}
	return strings.Join(names, ", ")
}

// hint is what the first of the sinks that knows one says would make it take a
// kind, as the end of a message.
func (l *loader) hint(sinks []int, k invalidation.Kind) string {
	for _, i := range sinks {
		if text := l.opts.Sinks[i].Hints[k]; text != "" {
			return "; " + l.names[i] + ": " + text
		}
	}
	return ""
}
