package rules

import (
	"slices"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// MaxOver bounds over: in a step of collapse. As many values of a rule are kept
// apart for each sink before the step is taken.
const MaxOver = 1_000_000

// rawCollapse is what collapse: holds: a list of steps, or one.
type rawCollapse struct {
	node  *strictyaml.Node
	steps []rawStep
}

type rawStep struct {
	node *strictyaml.Node
	f    rawStepFields
}

type rawStepFields struct {
	Over   strictyaml.Located[int] `yaml:"over"`
	Values rawValues               `yaml:",inline"`
}

// UnmarshalYAML reads a list of steps; one mapping is a list of one.
func (r *rawCollapse) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	if n.Kind == strictyaml.Mapping {
		r.steps = make([]rawStep, 1)
		return n.Decode(&r.steps[0])
	}
	return n.Decode(&r.steps)
}

// UnmarshalYAML keeps the node, for the step's place.
func (r *rawStep) UnmarshalYAML(n *strictyaml.Node) error {
	r.node = n
	if n.Kind == strictyaml.Null {
		return n.Errorf("there is no step here; write one or remove the dash")
	}
	return n.Decode(&r.f)
}

// step is coarser values, which replace a rule's own when these are more than
// over.
type step struct {
	over   int
	values [invalidation.NumKinds][]*template
}

// collapse reads the steps.
func (l *ruleLoader) collapse(raw *rawCollapse) {
	if raw.node != nil && len(raw.steps) == 0 {
		l.fail(raw.node.Key, "`collapse` is empty; write a step like {over: 500, tags: [products]}, or remove it")
	}
	below := 0
	for i := range raw.steps {
		s, over := &raw.steps[i], raw.steps[i].f.Over
		switch {
		case over.Pos.IsZero():
			l.fail(s.node.Pos, "`collapse`: this step does not say past how many values it is taken; add `over`, like {over: 500, tags: [products]}")
		case over.Value < 1 || over.Value > MaxOver:
			l.fail(over.Pos, "`collapse`: over: %d; write a number from 1 to %d", over.Value, MaxOver)
		case over.Value <= below:
			l.fail(over.Pos, "`collapse`: over: %d comes behind over: %d; steps rise, so that each is for more values than the one before", over.Value, below)
		}
		below = max(below, over.Value)
		if s.f.Values.empty() {
			l.fail(s.node.Pos, "`collapse`: this step has no values, so nothing would be purged instead; name `tags`, `generations` or other values")
		}
		compiled := step{over: over.Value}
		for _, list := range s.f.Values.lists() {
			for _, text := range list.texts {
				templates := l.compile(list.kind, text, "`collapse`: ")
				if slices.ContainsFunc(templates, func(t *template) bool { return t.lookup != "" }) {
					l.fail(text.Pos(), "`collapse`: %s %q reads a lookup, whose answer comes when the values are counted; name something that the row or nothing fills", list.kind, text.source())
				}
				if slices.ContainsFunc(templates, func(t *template) bool { return l.r.has(list.kind, t) }) {
					l.fail(text.Pos(), "`collapse`: %s %q is one of the rule's own values, so it covers no more than one; name something that many rows share", list.kind, text.source())
				}
				compiled.values[list.kind] = append(compiled.values[list.kind], templates...)
			}
		}
		l.r.steps = append(l.r.steps, compiled)
	}
}

// has reports whether the template is one of the rule's own that a row fills.
func (r *Rule) has(kind invalidation.Kind, t *template) bool {
	_, fixed := t.fixed()
	return !fixed && slices.ContainsFunc(r.values[kind], func(own *template) bool { return own.source == t.source })
}

// routeSteps finds the sinks of each step: those that take its kind and that
// the rule's own values go to. The others keep the exact values.
func (l *ruleLoader) routeSteps(raw *rawCollapse) {
	var exact []int
	for _, sink := range l.r.Sinks {
		if l.r.gives(sink) {
			exact = append(exact, sink)
		}
	}
	for i := range l.r.steps {
		for kind := range l.r.steps[i].values {
			for _, t := range l.r.steps[i].values[kind] {
				for _, sink := range l.r.routes[kind] {
					if slices.Contains(exact, sink) {
						t.sinks = append(t.sinks, sink)
					}
				}
			}
		}
		for _, list := range raw.steps[i].f.Values.lists() {
			taken := func(sink int) bool { return slices.Contains(l.r.routes[list.kind], sink) }
			if len(list.texts) > 0 && !slices.ContainsFunc(exact, taken) {
				l.fail(list.texts[0].Pos(), "`collapse.%s`: none of the sinks that this rule's own values go to (%s) takes a %s", list.kind.Plural(), l.sinkNames(exact), list.kind)
			}
		}
	}
	l.r.climbs = make([][]int, len(l.names))
	for _, sink := range exact {
		for i := range l.r.steps {
			if l.r.steps[i].reaches(sink) {
				l.r.climbs[sink] = append(l.r.climbs[sink], i)
			}
		}
	}
}

// gives reports whether one of the rule's own values goes to the sink.
func (r *Rule) gives(sink int) bool {
	for k := range r.values {
		if slices.ContainsFunc(r.values[k], func(t *template) bool { return slices.Contains(t.sinks, sink) }) {
			return true
		}
	}
	return false
}

func (s *step) reaches(sink int) bool {
	for k := range s.values {
		if slices.ContainsFunc(s.values[k], func(t *template) bool { return slices.Contains(t.sinks, sink) }) {
			return true
		}
	}
	return false
}

// literals are the step's values for a sink where no row fills any of them.
func (s *step) literals(sink int) (values []kindValue, ok bool) {
	for k := range s.values {
		for _, t := range s.values[k] {
			if !slices.Contains(t.sinks, sink) {
				continue
			}
			fixed, is := t.fixed()
			if !is {
				return nil, false
			}
			values = append(values, kindValue{invalidation.Kind(k), []byte(fixed)})
		}
	}
	return values, len(values) > 0
}

// lastLiterals are the values of the last step that the sink takes, if they are
// the same for every row: they replace whatever the rule can have given it.
func (r *Rule) lastLiterals(sink int) (values []kindValue, ok bool) {
	if r.climbs == nil || len(r.climbs[sink]) == 0 {
		return nil, false
	}
	climb := r.climbs[sink]
	return r.steps[climb[len(climb)-1]].literals(sink)
}
