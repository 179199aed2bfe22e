package rulestest

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// shown is how many lines of one kind a difference shows.
const shown = 20

// Result is what became of one test.
type Result struct {
	File string
	Line int
	Name string
	// Diff are the lines that tell expected and actual purges apart; none when
	// the test passed. A value that is missing has a -, one too many a +.
	Diff []string
	// Notes say where the test differs from what production would see. They do
	// not make it fail.
	Notes []string
}

// Passed reports that the rules did what the test expects.
func (r Result) Passed() bool { return len(r.Diff) == 0 }

// Run runs the tests in the order of the file.
func (s *Suite) Run() []Result {
	var out []Result
	for i := range s.tests {
		t := &s.tests[i]
		out = append(out, Result{File: s.File, Line: t.line, Name: t.name, Diff: s.diff(t), Notes: t.notes})
	}
	return out
}

// gathered implements rules.Output.
type gathered struct {
	set     *rules.Set
	event   *Event
	rules   []*rules.Rule
	sinks   []string
	overall bool
	got     bySink
}

// Invalidate implements rules.Output.
func (g *gathered) Invalidate(rule, sink int, k invalidation.Kind, value []byte) {
	name := ""
	if !g.overall {
		name = g.sinks[sink]
	}
	g.got.of(name).add(k, string(value), g.rules[rule].Name)
}

// Fallback implements rules.Output.
func (g *gathered) Fallback(rule, sink int, f *rules.Fallback) {
	if !f.Parked() {
		g.Invalidate(rule, sink, f.Kind, []byte(f.Value))
		return
	}
	name := ""
	if !g.overall {
		name = g.sinks[sink]
	}
	g.got.of(name).add(parked, f.Template, g.rules[rule].Name)
}

// Lookup implements rules.Output.
func (g *gathered) Lookup(p *rules.Pending) { g.set.Fill(p, g.event.Answer(p.Query), g) }

// take gathers what the tally of a transaction holds.
func (g *gathered) take(tally *rules.Tally) {
	for sink := range g.sinks {
		_ = tally.HandOn(sink, func(group rules.Group) error { // an error could only be this function's
			for _, v := range group.Values {
				g.Invalidate(group.Rule, sink, v.Kind, []byte(v.Value))
			}
			return nil
		})
	}
}

// Verdict implements rules.Output.
func (g *gathered) Verdict(int, rules.Verdict) {}

func (s *Suite) diff(t *test) []string {
	_, overall := t.expect[""]
	g := &gathered{set: s.set, event: t.event, rules: s.set.Rules(), sinks: s.sinks, overall: overall, got: bySink{}}
	if m := t.event.Message; m != nil {
		_ = s.set.Message(m.Prefix, m.Content, g) // what is wrong with it shows in what is purged
		return s.compare(t, g.got)
	}
	plan := s.set.Bind(t.event.Change.Rel)
	id := t.event.Change.Rel.Index("id")
	tally := s.set.NewTally()
	for n := range t.repeat {
		c := t.event.Change
		if n > 0 {
			c = counted(t.event.Change, id, n)
		}
		tally.Eval(plan, c, g)
		if tally.Full() {
			g.take(tally)
		}
	}
	g.take(tally)
	out := s.compare(t, g.got)
	return append(out, s.why(t, out)...)
}

// compare goes through sinks and kinds.
func (s *Suite) compare(t *test, got bySink) []string {
	var out []string
	for _, sink := range slices.Concat([]string{""}, s.sinks) {
		want := t.expect[sink]
		if want == nil {
			want = &values{}
		}
		for k, word := range kindWords() {
			lines := difference(invalidation.Kind(k), want[k], s.counting(t, sink, k, got))
			if len(lines) == 0 {
				continue
			}
			out = append(out, strings.TrimSpace(sink+" "+word)+":")
			out = append(out, lines...)
		}
	}
	return out
}

// counting leaves out what a sink that stands in for a configured one gets only
// because it takes every kind: values of a kind that no test of the file expects
// there, where they go to a sink for which one does, and are judged. The
// stand-in for sinks that rules leave open counts only where the test names it.
func (s *Suite) counting(t *test, sink string, kind int, got bySink) map[string]string {
	have := got.of(sink)[kind]
	_, named := t.expect[sink]
	switch {
	case sink == rules.AnySink && s.guessed && !named:
		return nil
	case sink == "" || !s.guessed || s.expects(sink, kind):
		return have
	}
	out := maps.Clone(have)
	for other, v := range got {
		if s.expects(other, kind) {
			maps.DeleteFunc(out, func(value, _ string) bool { _, there := v[kind][value]; return there })
		}
	}
	return out
}

// expects reports whether any test of the file names the kind at the sink.
func (s *Suite) expects(sink string, kind int) bool {
	return slices.ContainsFunc(s.tests, func(t test) bool { return t.expect[sink] != nil && t.expect[sink][kind] != nil })
}

func difference(kind invalidation.Kind, want, have map[string]string) []string {
	var out []string
	add := func(sign string, from, others map[string]string) {
		more := 0
		for _, value := range slices.Sorted(maps.Keys(from)) {
			if _, ok := others[value]; ok {
				continue
			}
			if more++; more > shown {
				continue
			}
			line := "  " + sign + " " + Printable(kind.Text(value))
			if rule := from[value]; rule != "" {
				line += "  (rule " + rule + ")"
			}
			out = append(out, line)
		}
		if more > shown {
			out = append(out, fmt.Sprintf("  %s ... and %d more", sign, more-shown))
		}
	}
	add("-", want, have)
	add("+", have, want)
	return out
}

// Printable is a value as a line of text: quoted where it would not print as it
// is.
func Printable(value string) string {
	if value == "" || !utf8.ValidString(value) || strings.TrimSpace(value) != value || strings.ContainsFunc(value, func(r rune) bool { return !strconv.IsPrint(r) }) {
		return strconv.Quote(value)
	}
	return value
}

var _ rules.Output = (*gathered)(nil)
