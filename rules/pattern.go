package rules

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// captureVariable holds the captures of the table's name; no source text can
// name it.
const captureVariable = "@table"

// pattern is a table name with captures, like tenant_{tenant}.orders. A capture
// matches one or more characters but no dot, which separates schema and table; of several
// the first takes as much as it can.
type pattern struct {
	source string
	form   *regexp.Regexp
	// near matches what a person may take for a match, too: without regard to case, and with
	// captures that are empty or have dots.
	near  *regexp.Regexp
	names []string
}

// parsePattern reads a table name that has braces and one dot.
func parsePattern(text string) (*pattern, error) {
	p := &pattern{source: text}
	var form strings.Builder
	form.WriteString(`(?s)^`)
	adjacent := false
	for rest := text; rest != ""; {
		literal, after, open := strings.Cut(rest, "{")
		if strings.Contains(literal, "}") {
			return nil, errors.New("a } without its {")
		}
		if adjacent && literal == "" {
			return nil, errors.New("two captures need text between them, to tell where one ends")
		}
		form.WriteString(regexp.QuoteMeta(literal))
		if !open {
			break
		}
		name, after, closed := strings.Cut(after, "}")
		switch {
		case !closed:
			return nil, errors.New("a { without its }")
		case !regexp.MustCompile(`^`+identifier+`$`).MatchString(name) || isVariable(name):
			return nil, fmt.Errorf("{%s} is no name for a capture; want letters, digits and _, like {tenant}", name)
		case slices.Contains(p.names, name):
			return nil, fmt.Errorf("the capture {%s} is there twice", name)
		}
		p.names = append(p.names, name)
		form.WriteString(capture)
		adjacent, rest = true, after
	}
	form.WriteByte('$')
	var err error
	if p.form, err = regexp.Compile(form.String()); err != nil {
		return nil, err
	}
	p.near, err = regexp.Compile(`(?i)` + strings.ReplaceAll(form.String(), capture, `(.*)`))
	return p, err
}

const capture = `([^.]+)`

// captures reports whether the pattern has a capture of that name.
func (p *pattern) captures(name string) bool { return p != nil && slices.Contains(p.names, name) }

func (p *pattern) matches(t Table) bool { return p.form.MatchString(t.String()) }

// Nearly returns a pattern that the table matches only nearly, and so is not watched by: in other
// letters, or with nothing or a dot where a capture is. It is empty if no pattern does, and for a
// table that rules watch.
func (s *Set) Nearly(t Table) string {
	if s.Matches(t) {
		return ""
	}
	for _, id := range s.patterns {
		if p := s.rules[id].pattern; p.near.MatchString(t.String()) {
			return p.source
		}
	}
	return ""
}

// uses notes that the rule names a capture.
func (r *Rule) uses(capture string) {
	if !slices.Contains(r.used, capture) {
		r.used = append(r.used, capture)
	}
}

// in is the rule for one table that its pattern matches: captures in templates
// are literal text there. captured has them for expressions.
func (r *Rule) in(t Table) (rule *Rule, captured ref.Val) {
	if r.pattern == nil {
		return r, nil
	}
	found := r.pattern.form.FindStringSubmatch(t.String())
	texts := make(map[string]string, len(found))
	for i, name := range r.pattern.names {
		texts[name] = found[i+1]
	}
	one := *r
	one.Table = t
	fill := func(kind invalidation.Kind, tt []*template) []*template {
		out := make([]*template, len(tt))
		for i, t := range tt {
			here := *t
			here.parts = nil
			for _, p := range t.parts {
				switch {
				case p.capture != "" && p.escape:
					p = part{literal: string(appendFor(kind, nil, []byte(texts[p.capture])))}
				case p.capture != "":
					p = part{literal: texts[p.capture]}
				}
				here.add(p)
			}
			out[i] = &here
		}
		return out
	}
	for kind := range r.values {
		one.values[kind] = fill(invalidation.Kind(kind), r.values[kind])
	}
	one.steps = slices.Clone(r.steps)
	for i := range one.steps {
		for kind := range r.steps[i].values {
			one.steps[i].values[kind] = fill(invalidation.Kind(kind), r.steps[i].values[kind])
		}
	}
	one.lookups = nil
	for _, l := range r.lookups {
		here := *l
		here.args = fill(invalidation.Key, l.args)
		one.lookups = append(one.lookups, &here)
	}
	return &one, types.DefaultTypeAdapter.NativeToValue(texts)
}

// watching lists the rules of a table, ascending.
func (s *Set) watching(t Table) []int {
	ids := s.byTable[t]
	var more []int
	for _, id := range s.patterns {
		if s.rules[id].pattern.matches(t) {
			more = append(more, id)
		}
	}
	if len(more) == 0 {
		return ids
	}
	more = append(more, ids...)
	slices.Sort(more)
	return more
}

// Matches reports whether a rule watches the table, by name or by pattern.
func (s *Set) Matches(t Table) bool { return len(s.watching(t)) > 0 }

// Named returns the table as the rules name it, for the labels of metrics: its
// own name where a rule has that, else the first pattern that matches it. It is
// false where no rule watches the table.
func (s *Set) Named(t Table) (string, bool) {
	if _, exact := s.byTable[t]; exact {
		return t.String(), true
	}
	for _, id := range s.patterns {
		if s.rules[id].pattern.matches(t) {
			return s.rules[id].pattern.source, true
		}
	}
	return "", false
}

// Patterns lists the table names with captures, as written, sorted, each once:
// which tables they mean is for the database's catalog to say, with Matches.
func (s *Set) Patterns() []string {
	var out []string
	for _, id := range s.patterns {
		out = append(out, s.rules[id].pattern.source)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Problem is a disagreement between a rule and a table, with its place.
type Problem struct {
	Rule string
	Err  error
}

// Error says what is wrong and what to do.
func (p Problem) Error() string { return p.Err.Error() }

// Problems are disagreements between rules and the table's shape, each with its
// place: a lone word that is a capture of the table's name and a column too. The
// capture is what is used.
func (p *Plan) Problems() []Problem { return slices.Clone(p.problems) }

// ambiguous notes the captures that a rule names and that are columns as well.
func (p *Plan) ambiguous(r *Rule) {
	for _, name := range r.used {
		if _, column := p.index[name]; column {
			p.problems = append(p.problems, Problem{r.Name, &strictyaml.Error{File: r.File, Line: r.Line, Column: 1, Text: name,
				Msg: fmt.Sprintf("rule %q: {%s} is a part of the table's name and a column of %s; rename the capture, or write {row.%s} for the column",
					r.Name, name, r.Table, name)}})
		}
	}
}
