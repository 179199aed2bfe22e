package rulestest

import (
	"slices"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

// parked is the place behind the kinds of the templates, as written, whose values are parked.
const parked = invalidation.Kind(invalidation.NumKinds)

// kindWords are the plural names that files use, in the order of invalidation.Kind, and parked.
func kindWords() []string {
	out := make([]string, invalidation.NumKinds)
	for k := range out {
		out[k] = invalidation.Kind(k).Plural()
	}
	return append(out, "parked")
}

// values are what a sink gets, by kind; the text of a value is the name of a
// rule that asked for it, or empty where it is expected.
type values [invalidation.NumKinds + 1]map[string]string

// mention makes a kind one that was named, if only for nothing.
func (v *values) mention(k invalidation.Kind) {
	if v[k] == nil {
		v[k] = map[string]string{}
	}
}

func (v *values) add(k invalidation.Kind, value, rule string) {
	v.mention(k)
	if _, ok := v[k][value]; !ok {
		v[k][value] = rule
	}
}

// bySink are the values of each sink; those over all sinks are under "".
type bySink map[string]*values

func (b bySink) of(sink string) *values {
	if b[sink] == nil {
		b[sink] = &values{}
	}
	return b[sink]
}

// expect reads what a test expects: values by kind, or those by sink.
func (l *loader) expect(n *strictyaml.Node, test strictyaml.Pos, sinks []string) bySink {
	out := bySink{}
	switch {
	case n == nil || n.Kind == strictyaml.Null:
		l.failf(test, "`expect` is missing; name what must be purged, or write {} for exactly nothing")
		return out
	case n.Kind != strictyaml.Mapping:
		l.errs = append(l.errs, n.Errorf("expect: %s is not a mapping of kinds, or of sinks, to values", n))
		return out
	}
	perSink := 0
	for _, p := range n.Pairs {
		if p.Value.Kind == strictyaml.Mapping {
			perSink++
		}
	}
	if perSink == 0 {
		l.kinds(n, out.of(""), sinks)
		return out
	}
	for _, p := range n.Pairs {
		switch {
		case p.Value.Kind != strictyaml.Mapping:
			l.failf(p.Pos, "expect: %s stands beside sinks; write values over all sinks, or per sink, not both", p.Key)
		case !slices.Contains(sinks, p.Key):
			l.failf(p.Pos, "expect: there is no sink %q%s", p.Key, strictyaml.DidYouMean(p.Key, sinks))
		default:
			l.kinds(p.Value, out.of(p.Key), nil)
		}
	}
	return out
}

func (l *loader) kinds(n *strictyaml.Node, out *values, sinks []string) {
	words := kindWords()
	for _, p := range n.Pairs {
		k := slices.Index(words, p.Key)
		switch {
		case k < 0 && slices.Contains(sinks, p.Key):
			l.failf(p.Pos, "expect: %s is a sink; below it come kinds, like %s: {keys: [..]}", p.Key, p.Key)
		case k < 0:
			l.failf(p.Pos, "expect: %q is neither a kind of value nor a sink%s", p.Key, strictyaml.DidYouMean(p.Key, slices.Concat(words, sinks)))
		case invalidation.Kind(k) == invalidation.Everything:
			out.mention(invalidation.Everything)
			var all bool
			l.errs.Add(l.file, p.Pos, p.Value.Decode(&all))
			if all {
				out.add(invalidation.Everything, "", "")
			}
		case invalidation.Kind(k) == invalidation.Field:
			out.mention(invalidation.Field)
			if p.Value.Kind != strictyaml.Sequence {
				l.errs = append(l.errs, p.Value.Errorf("expect: %s is not a list of fields; write it like [{key: products, field: \"7\"}]", p.Value))
			}
			for _, n := range p.Value.Items {
				value, err := rules.ParseField(n)
				l.errs.Add(l.file, n.Pos, err)
				if err == nil {
					out.add(invalidation.Field, value, "")
				}
			}
		default:
			out.mention(invalidation.Kind(k))
			var texts []strictyaml.Text
			l.errs.Add(l.file, p.Pos, p.Value.Decode(&texts))
			for _, t := range texts {
				out.add(invalidation.Kind(k), t.Value, "")
			}
		}
	}
}
