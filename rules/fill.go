package rules

import (
	"errors"
	"fmt"
	"slices"

	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/cdc"
)

// Fill hands over what a Pending produces with the answer to its Query: a value
// for each row of it; or what the rule's unknown: names, where there is no row,
// the answer failed or has more than Limit rows, or a value cannot be built. It
// may be called from Output.Lookup.
func (s *Set) Fill(p *Pending, a Answer, out Output) {
	var without lacks
	failed, exceeded := false, false
	if lacking(p.Query.Lookup, a) != nil {
		for i := range p.templates {
			without.add(p.templates[i].boundTemplate, everySink)
		}
	} else {
		view := newAnswerView(p, a)
		for i := range p.templates {
			t := p.templates[i].boundTemplate
			var f fanout
			for _, value := range f.answered(&p.templates[i], a, view) {
				p.rule.hand(p.Rule, t, []byte(value), out, &without, nil)
			}
			if f.unknown {
				without.add(t, everySink)
			}
			failed = failed || f.failed
		}
		exceeded = view.plan.fills.exceeded
	}
	if failed {
		out.Verdict(p.Rule, Failed)
	}
	if exceeded {
		out.Verdict(p.Rule, Exceeded)
	}
	if len(without.all) > 0 {
		out.Verdict(p.Rule, UnknownValue)
		p.rule.replace(p.Rule, &without, out)
	}
}

// lacking says why an answer gives no values.
func lacking(l *Lookup, a Answer) error {
	switch {
	case a.Err != nil:
		return a.Err
	case len(a.Rows) == 0:
		return errors.New("no row")
	case len(a.Rows) > l.Limit:
		return fmt.Errorf("more than %d rows", l.Limit)
	}
	return nil
}

// newAnswerView shows the rows of an answer to templates, as if they were those
// of a table.
func newAnswerView(p *Pending, a Answer) *rowView {
	plan := &Plan{rel: a.Shape, index: make(map[string]int, len(a.Shape.Columns)), types: columnTypesOf(a.Shape)}
	for i, c := range a.Shape.Columns {
		plan.index[c.Name] = i
	}
	view := &rowView{plan: plan, cache: make([]ref.Val, len(a.Shape.Columns)), fills: true}
	plan.fills = activation{row: view, old: view, new: view, op: p.op, captured: p.captured}
	return view
}

// answered builds a template's values for all rows of an answer, each once; none
// where there are more than it may have.
func (f *fanout) answered(t *pendingTemplate, a Answer, view *rowView) []string {
	here := *t.boundTemplate
	here.parts = slices.Clone(here.parts)
	for i := range here.parts {
		if p := &here.parts[i]; p.answer && p.expr == nil {
			column, known := view.plan.index[p.name]
			p.missing = !known
			if known {
				p.column, p.typ = column, view.plan.types[column]
			}
		}
	}
	var values []string
	f.plan, f.template, f.given, f.seen = view.plan, &here, t.texts, map[string]bool{}
	f.emit = func(value []byte) { values = append(values, string(value)) }
	for _, row := range a.Rows {
		view.reset(row)
		f.image(row, view)
		if len(values) > here.limit {
			f.note("its rows make more than %d values", here.limit)
			f.unknown = true
			return nil
		}
	}
	return values
}

// known are the texts of a part: the texts found before, or those of the row.
func (f *fanout) known(i int, row cdc.Tuple) ([]string, outcome, error) {
	if f.given != nil && f.given[i] != nil {
		return f.given[i], isValue, nil
	}
	return f.part(&f.template.parts[i], row)
}
