package rules

import (
	"context"
	"fmt"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Explain tells for each rule of the change's table what Eval makes of it and
// why. It is nil where no rule watches the table. Lookups are answered by answer;
// where that is nil they have no answer. It is slow, and for people; it ends early with the
// context.
func (s *Set) Explain(ctx context.Context, c *cdc.Change, answer func(Query) Answer) []Explanation {
	p := s.Bind(c.Rel)
	if p == nil || c.Op < cdc.Insert || c.Op > cdc.Truncate {
		return nil
	}
	p.images(c)
	if answer == nil {
		answer = func(Query) Answer { return Answer{Err: errNotAsked} }
	}
	out := make([]Explanation, 0, len(p.rules))
	for i := range p.rules {
		if ctx.Err() != nil {
			break
		}
		out = append(out, s.explain(p, &p.rules[i], c.Op, answer))
	}
	return out
}

func (s *Set) explain(p *Plan, b *boundRule, op cdc.Op, answer func(Query) Answer) Explanation {
	e := Explanation{Rule: b.Name, File: b.File, Line: b.Line, Every: b.Every}
	p.vars.captured, p.fills.captured = b.captured, b.captured
	purges := purgeList{set: s, answer: answer}
	switch {
	case op == cdc.Truncate:
		e.Matched, e.Why = true, "a truncate is handled whatever the condition says"
		b.evalTruncate(b.id, &purges)
		e.Purges = purges.purges
		return e
	case !b.ops[op]:
		e.Why = fmt.Sprintf("%s is not among its ops", op)
		return e
	case b.when == nil:
		e.Matched, e.Why = true, "it has no condition"
	default:
		p.explainCondition(b.when, op, &e)
	}
	if !e.Matched {
		return e
	}
	p.fill(op)
	for i := range b.values {
		e.Templates = append(e.Templates, s.explainTemplate(p, b, &b.values[i])...)
	}
	for i := range b.lookups {
		s.explainLookup(p, b, &b.lookups[i], op, answer, &e)
	}
	for i := range b.coarser {
		step := StepExpansion{Over: b.steps[i].over}
		for n := range b.coarser[i] {
			step.Templates = append(step.Templates, s.explainTemplate(p, nil, &b.coarser[i][n])...)
		}
		e.Steps = append(e.Steps, step)
	}
	p.withheld = func(sink int, k invalidation.Kind, value []byte) {
		purges.Invalidate(b.id, sink, k, value)
		purges.purges[len(purges.purges)-1].Withheld = true
	}
	p.evalRule(b, op, &purges)
	p.withheld = nil
	e.Purges = purges.purges
	return e
}

// explainCondition tries the condition as match does, and keeps the results.
func (p *Plan) explainCondition(c *condition, op cdc.Op, e *Explanation) {
	first, second := p.view(c.expression, op)
	var undecided []string
	for _, row := range []*rowView{first, second} {
		if row == nil {
			continue
		}
		t := Tried{Image: p.imageOf(row)}
		yes, err := p.try(c, row)
		t.Result, t.Error = result(yes, err)
		if yes {
			e.Tried = append(e.Tried, t)
			e.Matched, e.Why = true, "the condition is true for the "+t.Image+" row"
			return
		}
		if err != nil {
			undecided = append(undecided, fmt.Sprintf("the %s row (%v)", t.Image, err))
		}
		terms := c.terms
		if len(terms) == 0 {
			terms = []*expression{c.expression}
		}
		for _, term := range terms {
			yes, err := p.try(&condition{expression: term}, row)
			part := Term{Source: term.source, Columns: p.columnValues(term, row)}
			part.Result, part.Error = result(yes, err)
			t.Terms = append(t.Terms, part)
		}
		e.Tried = append(e.Tried, t)
	}
	if len(undecided) > 0 {
		e.Matched = true
		e.Why = "the condition could not be decided for " + strings.Join(undecided, " and ") + ", which counts as true"
		return
	}
	e.Why = "the condition is false for the " + e.Tried[0].Image + " row"
	if len(e.Tried) > 1 {
		e.Why += " and for the " + e.Tried[1].Image + " row"
	}
}

func result(yes bool, err error) (result, reason string) {
	if err != nil {
		return "unknown", err.Error()
	}
	return fmt.Sprint(yes), ""
}

func (p *Plan) imageOf(row *rowView) string {
	if row == &p.oldView || row == &p.oldFill {
		return "old"
	}
	return "new"
}

// columnValues lists what an expression reads; row is the image tried.
func (p *Plan) columnValues(e *expression, row *rowView) []ColumnValue {
	var out []ColumnValue
	for _, c := range e.columns {
		rows := map[image][]*rowView{eachImage: {row}, oldImage: {&p.oldView}, newImage: {&p.newView}, bothImages: {&p.oldView, &p.newView}}[c.image]
		for _, r := range rows {
			v := ColumnValue{Image: p.imageOf(r), Column: c.name}
			v.State, v.Value = p.columnState(c.name, r.row)
			out = append(out, v)
		}
	}
	return out
}

func (p *Plan) columnState(name string, row cdc.Tuple) (state, value string) {
	i, ok := p.index[name]
	switch {
	case row == nil:
		return "no such row", ""
	case !ok:
		return "no such column", ""
	case row[i].Kind == cdc.Null:
		return "null", ""
	case row[i].Kind != cdc.Text:
		return "not carried", ""
	}
	return "value", string(appendText(nil, row[i].Data, p.types[i].form))
}

// explainTemplate builds a template's values as Eval does, and keeps the reasons
// for those that there are not. The rule is nil for a step of collapse:, where
// nothing else is purged for a value.
func (s *Set) explainTemplate(p *Plan, b *boundRule, t *boundTemplate) []Expansion {
	var sinks []string
	for _, i := range t.sinks {
		sinks = append(sinks, s.sinks[i].Name)
	}
	one := func(image string, row cdc.Tuple, view *rowView) Expansion {
		x := Expansion{Kind: t.kind, Template: t.source, Sinks: sinks, Image: image}
		var notes []string
		var without lacks
		f := fanout{plan: p, template: t, seen: map[string]bool{}, notes: &notes, emit: func(v []byte) {
			x.Values = append(x.Values, t.kind.Text(string(v)))
			notes = append(notes, s.tooLong(t, v, &without)...)
		}}
		f.image(row, view)
		if f.unknown {
			without.add(t, everySink)
		}
		x.Skipped, x.Unknown = strings.Join(notes, "; "), len(without.all) > 0
		if b != nil {
			x.Instead = s.instead(b.Rule, &without)
		}
		return x
	}
	if !t.each {
		return []Expansion{one("", nil, &p.newFill)}
	}
	var out []Expansion
	if p.new != nil {
		out = append(out, one("new", p.new, &p.newFill))
	}
	if p.old != nil {
		out = append(out, one("old", p.old, &p.oldFill))
	}
	return out
}

// tooLong notes the sinks for which a value is too long, and says so.
func (s *Set) tooLong(t *boundTemplate, value []byte, without *lacks) (notes []string) {
	for _, sink := range t.sinks {
		if !s.sinks[sink].Caps.Fits(t.kind, value) {
			without.add(t, sink)
			notes = append(notes, s.sinks[sink].tooLong(t.kind, value))
		}
	}
	return notes
}

// instead lists what replaces values that could not be built, where unknown: does not.
func (s *Set) instead(r *Rule, without *lacks) (out []Instead) {
	without.each(func(sink int, f *Fallback) {
		if !r.off(sink) && !r.takesAny(sink, &r.unknown) {
			out = append(out, Instead{Sink: s.sinks[sink].Name, Fallback: *f})
		}
	})
	return out
}

// noColumn says why a part that is a column has no text.
func (p *Plan) noColumn(t *boundTemplate, part *boundPart, row cdc.Tuple) string {
	switch part.image {
	case oldImage:
		row = p.old
	case newImage:
		row = p.new
	}
	switch state, value := p.columnState(part.name, row); {
	case state == "null":
		return part.name + " is NULL"
	case state == "no such row":
		return fmt.Sprintf("%s: %v", part.name, errNoImage)
	case state == "no such column" && part.answer:
		return fmt.Sprintf("the lookup has no column %q", part.name)
	case state == "no such column":
		return fmt.Sprintf("the table has no column %q", part.name)
	case state == "value" && len(value) <= t.max:
		return part.name + " is empty, which would widen the prefix"
	case state == "value":
		return fmt.Sprintf("%s is %d bytes long, at most %d are allowed", part.name, len(value), t.max)
	}
	return fmt.Sprintf("column %q was not carried by the stream", part.name)
}

// purgeList gathers what a rule hands over.
type purgeList struct {
	set    *Set
	answer func(Query) Answer
	purges []Purge
}

// Invalidate implements Output.
func (l *purgeList) Invalidate(_, sink int, k invalidation.Kind, value []byte) {
	l.purges = append(l.purges, Purge{Sink: l.set.sinks[sink].Name, Kind: k, Value: k.Text(string(value))})
}

// Fallback implements Output.
func (l *purgeList) Fallback(_, sink int, f *Fallback) {
	p := Purge{Sink: l.set.sinks[sink].Name, Kind: f.Kind, Value: f.Value, For: f.Template, Parked: f.Parked()}
	if p.Parked {
		p.Kind = f.Of
	}
	l.purges = append(l.purges, p)
}

// Lookup implements Output.
func (l *purgeList) Lookup(p *Pending) { l.set.Fill(p, l.answer(p.Query), l) }

// Verdict implements Output.
func (l *purgeList) Verdict(int, Verdict) {}
