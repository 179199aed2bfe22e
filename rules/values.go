package rules

import (
	"fmt"
	"slices"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// MaxValues bounds the values that the lists in one template make for one image
// of a row. Past it the values are unknown.
const MaxValues = 1000

// compile reads a template and puts the file's vars in: a list makes several
// templates. label begins every message. After a finding it returns nil.
func (l *ruleLoader) compile(kind invalidation.Kind, text rawText, label string) []*template {
	label = fmt.Sprintf("%s%s %q: ", label, kind, text.source())
	t, choices, count, ok := l.parse(&template{}, text.Text, label)
	if ok && kind == invalidation.Field {
		var more []*variable
		var times int
		head := t
		if t, more, times, ok = l.parse(head, text.field, label); !ok {
			return nil
		}
		if count *= times; count > MaxValues {
			l.fail(text.Pos(), "%sits lists make more than %d values", label, MaxValues)
			return nil
		}
		head.escapeLiterals()
		t.escapeLiterals()
		t.parts = slices.Concat(head.parts, []part{{literal: string([]byte{invalidation.FieldSeparator})}}, t.parts)
		choices = slices.Concat(choices, []*variable{nil}, more)
	}
	if !ok {
		return nil
	}
	t.source = text.source()
	out := t.choose(kind, choices, count)
	for _, t := range out {
		if fixed, ok := t.fixed(); ok && !l.literal(kind, text.Text, fixed) {
			return nil
		}
		if err := t.frame(kind); err != nil {
			l.fail(text.Pos(), "%s%v", label, err)
			return nil
		}
	}
	return out
}

// parse reads one text of a template, and finds the file's vars in it. The template is about
// the same lookup as the one before it, where that has one.
func (l *ruleLoader) parse(before *template, text strictyaml.Text, label string) (t *template, choices []*variable, count int, ok bool) {
	t, at, err := parseTemplate(text.Value)
	if err != nil {
		l.fail(text.At(at), "%s%v", label, err)
		return nil, nil, 0, false
	}
	t.line, t.column, t.lookup = text.Pos().Line, text.Pos().Column, before.lookup
	for _, quoted := range t.quoted {
		for _, shape := range l.shapes() {
			if _, column := shape.Column(quoted); column {
				l.fail(text.Pos(), "%s{%q} is a text and not the column of %s; write {row[%q]} for the column%s", label, quoted, shape.Table, quoted, l.stale())
				return nil, nil, 0, false
			}
		}
	}
	choices, count, ok = l.expressions(t, text, label)
	return t, choices, count, ok
}

// escapeLiterals escapes the literal text of a part of a Field.
func (t *template) escapeLiterals() {
	for i := range t.parts {
		t.parts[i].literal = string(invalidation.EscapeField(nil, []byte(t.parts[i].literal)))
	}
}

// expressions compiles what stands between the braces of a template, and finds
// the file's vars in it: choices has one entry per part, and count is how many
// templates they make.
func (l *ruleLoader) expressions(t *template, text strictyaml.Text, label string) (choices []*variable, count int, ok bool) {
	choices = make([]*variable, len(t.parts))
	count, ok = 1, true
	for i := range t.parts {
		p := &t.parts[i]
		if p.lone && l.r.pattern.captures(p.column) {
			p.capture, p.column = p.column, ""
			l.r.uses(p.capture)
		}
		ok = l.answered(t, p, text, label) && ok
		if p.column != "" && !p.answer && !l.knows(p.column, text.At(p.at), label) {
			ok = false
		}
		if p.source == "" {
			continue
		}
		if name, lone := loneVar(p.source); lone {
			v, found := l.vars.Get(name)
			if !found {
				l.fail(text.At(p.at), "%s%s", label, missingVar(l.vars, name))
				ok = false
				continue
			}
			choices[i] = &v
			if count *= len(v.values); count > MaxValues {
				l.fail(text.Pos(), "%sits lists make more than %d values", label, MaxValues)
				return nil, 0, false
			}
			continue
		}
		p.expr = l.expression(source{text: text, at: p.at, expr: p.source, template: true, label: label, noun: "expression"})
		ok = p.expr != nil && l.answered(t, p, text, label) && ok
	}
	return choices, count, ok
}

// choose makes a template of each choice of vars. Together they may have as many
// values as one.
func (t *template) choose(kind invalidation.Kind, choices []*variable, count int) []*template {
	out := make([]*template, count)
	for n := range out {
		one := &template{source: t.source, line: t.line, column: t.column, limit: MaxValues / count, only: t.only, lookup: t.lookup}
		rest := n
		for i, p := range t.parts {
			if v := choices[i]; v != nil {
				p = part{literal: v.values[rest%len(v.values)]}
				if kind == invalidation.Field {
					p.literal = string(invalidation.EscapeField(nil, []byte(p.literal)))
				}
				rest /= len(v.values)
			}
			one.add(p)
		}
		out[n] = one
	}
	return out
}

// templateRead is a column that a template reads, as it stands or to compute with.
type templateRead struct {
	columnUse
	computed bool
}

// reads lists the columns that the template reads.
func (t *template) reads() []templateRead {
	var out []templateRead
	for i := range t.parts {
		p := &t.parts[i]
		if p.column != "" && !p.answer {
			out = append(out, templateRead{columnUse: columnUse{name: p.column, image: p.image}})
		}
		if p.expr != nil {
			for _, c := range p.expr.columns {
				out = append(out, templateRead{columnUse: c, computed: true})
			}
		}
	}
	return out
}
