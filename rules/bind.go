package rules

import (
	"slices"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/interpreter"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Plan is the rules of one table, bound to one version of its shape. It holds
// scratch buffers: one goroutine at a time. A Plan does not outlive its Set's
// use, and a new Relation needs a new Plan.
type Plan struct {
	rel   *cdc.Relation
	rules []boundRule
	index map[string]int
	// types are those of rel's columns, in their order.
	types []*columnType
	used  []int // columns that any rule reads, ascending
	// gather is the transaction's tally, or what replaces it, during its Eval; row is
	// what it needs of the change at hand.
	gather gatherer
	row    rowValues
	// withheld, where it is not nil, is told of what a rollout keeps back.
	withheld func(sink int, k invalidation.Kind, value []byte)
	// problems is what Problems says.
	problems []Problem

	// The images of the change at hand; nil where it has none. They point to
	// the tuples below.
	old, new         cdc.Tuple
	oldTuple, newRow cdc.Tuple
	newBuf, oldBuf   []byte
	rawBuf           []byte // a text before it is escaped
	oldView, newView rowView
	// elsewhere reports that the new row has moved to where the log has no row: p.new is nil, and what is
	// asked of the new row is unknown.
	elsewhere bool
	viewed    bool // the views show the change at hand
	vars      activation
	// lacks are the values of the rule at hand that could not be built.
	lacks lacks
	// The same for the expressions of templates.
	oldFill, newFill rowView
	filled           bool
	fills            activation
}

type boundRule struct {
	*Rule
	id     int
	values []boundTemplate
	// lookups have the templates that wait for an answer.
	lookups []boundLookup
	// coarser are the templates of the steps of collapse:, step by step.
	coarser [][]boundTemplate
	// captured holds the captures of the table's name for expressions.
	captured ref.Val
}

// boundTemplate is a template whose columns are places in a tuple.
type boundTemplate struct {
	source string
	kind   invalidation.Kind
	max    int
	parts  []boundPart
	sinks  []int
	// fallbacks are those of the sinks, in the same order.
	fallbacks []Fallback
	// each is set when the value depends on the image in turn.
	each bool
	// expressions is set where a part is one, lists where a part is a column that is an array:
	// then limit bounds the values.
	expressions, lists bool
	limit              int
}

type boundPart struct {
	literal []byte
	name    string // of the column
	column  int    // -1: a literal, or a column that the table lacks
	missing bool
	image   image
	// typ is the column's type, nil for a literal and for a column that is passed on as
	// PostgreSQL printed it.
	typ    *columnType
	expr   *expression
	escape bool
	answer bool // a part of a lookup's answer
}

// Bind resolves the rules' columns in rel. It is nil when no rule watches the
// table; Problems has what the table's shape and the rules disagree about. A column that the table lacks is one that is never known; saying so
// early is the business of the checks against the database (Needs).
func (s *Set) Bind(rel *cdc.Relation) *Plan {
	table := Table{Schema: rel.Schema, Name: rel.Name}
	ids := s.watching(table)
	if len(ids) == 0 {
		return nil
	}
	n := len(rel.Columns)
	p := &Plan{rel: rel, index: make(map[string]int, n), types: columnTypesOf(rel), oldTuple: make(cdc.Tuple, n), newRow: make(cdc.Tuple, n)}
	for i := range rel.Columns {
		p.index[rel.Columns[i].Name] = i
	}
	reads := make([]bool, n)
	for _, id := range ids {
		p.bindRule(id, s.rules[id], table, reads)
	}
	for i := range reads {
		if reads[i] {
			p.used = append(p.used, i)
		}
	}
	p.oldView = rowView{plan: p, cache: make([]ref.Val, n)}
	p.newView = rowView{plan: p, cache: make([]ref.Val, n)}
	p.vars = activation{old: &p.oldView, new: &p.newView}
	p.oldFill = rowView{plan: p, cache: make([]ref.Val, n), fills: true}
	p.newFill = rowView{plan: p, cache: make([]ref.Val, n), fills: true}
	p.fills = activation{old: &p.oldFill, new: &p.newFill}
	return p
}

// Reads returns which columns the rules read, in the order of the relation's columns.
func (p *Plan) Reads() []bool {
	reads := make([]bool, len(p.rel.Columns))
	for _, i := range p.used {
		reads[i] = true
	}
	return reads
}

// Columns returns those of a table's columns that its rules read, whatever happens to a row:
// all that a publication must send, besides what identifies rows.
func (s *Set) Columns(t Table, columns []string) []string {
	rel := &cdc.Relation{Schema: t.Schema, Name: t.Name, Columns: make([]cdc.Column, len(columns))}
	for i, name := range columns {
		rel.Columns[i].Name = name
	}
	plan := s.Bind(rel)
	if plan == nil {
		return nil
	}
	out := make([]string, len(plan.used))
	for n, i := range plan.used {
		out[n] = columns[i]
	}
	return out
}

func (p *Plan) bindRule(id int, r *Rule, table Table, reads []bool) {
	r, captured := r.in(table)
	p.ambiguous(r)
	read := func(column string) (int, bool) {
		i, ok := p.index[column]
		if ok {
			reads[i] = true
		}
		return i, ok
	}
	b := boundRule{Rule: r, id: id, captured: captured}
	expression := func(e *expression) {
		for _, c := range e.columns {
			read(c.name)
		}
		for i := range reads {
			reads[i] = reads[i] || e.wholeRow
		}
	}
	if r.when != nil {
		expression(r.when.expression)
	}
	for kind := range r.values {
		for _, t := range r.values[kind] {
			bt := p.bindTemplate(r, t, invalidation.Kind(kind), read, expression)
			if t.lookup == "" {
				b.values = append(b.values, bt)
				continue
			}
			i := slices.IndexFunc(b.lookups, func(l boundLookup) bool { return l.Name == t.lookup })
			if i < 0 {
				i = len(b.lookups)
				b.lookups = append(b.lookups, p.bindLookup(r, r.lookup(t.lookup), read, expression))
			}
			b.lookups[i].templates = append(b.lookups[i].templates, bt)
			b.lookups[i].each = b.lookups[i].each || bt.each
		}
	}
	for i := range r.steps {
		var step []boundTemplate
		for kind := range r.steps[i].values {
			for _, t := range r.steps[i].values[kind] {
				step = append(step, p.bindTemplate(r, t, invalidation.Kind(kind), read, expression))
			}
		}
		b.coarser = append(b.coarser, step)
	}
	p.rules = append(p.rules, b)
}

// bindTemplate finds the template's columns; read and expression note what is read.
func (p *Plan) bindTemplate(r *Rule, t *template, kind invalidation.Kind, read func(string) (int, bool), expression func(*expression)) boundTemplate {
	bt := boundTemplate{source: t.source, kind: kind, max: invalidation.MaxValue, sinks: t.sinks, limit: t.limit}
	for _, part := range t.parts {
		bp := boundPart{literal: []byte(part.literal), name: part.column, column: -1, image: part.image, expr: part.expr, escape: part.escape, answer: part.answer}
		switch {
		case part.answer:
		case part.expr != nil:
			expression(part.expr)
			bt.expressions = true
			bt.each = bt.each || part.expr.usesRow
		case part.column != "":
			i, ok := read(part.column)
			bp.missing = !ok
			if ok {
				bp.column, bp.typ = i, p.types[i]
				bt.lists = bt.lists || bp.typ.elem != nil || bp.typ.maybe
			}
			bt.each = bt.each || part.image == eachImage
		}
		bt.parts = append(bt.parts, bp)
	}
	for _, sink := range t.sinks {
		bt.fallbacks = append(bt.fallbacks, t.fallback(kind, r.specs[sink].Takes))
	}
	return bt
}

// activation gives an expression its variables.
type activation struct {
	row, old, new *rowView
	op            types.String
	captured      ref.Val
	// exceeded is set once an expression has reached a limit.
	exceeded bool
}

// ResolveName implements CEL's lookup of variables.
func (a *activation) ResolveName(name string) (any, bool) {
	switch name {
	case "row":
		return a.row, true
	case "old":
		return a.old, true
	case "new":
		return a.new, true
	case "op":
		return a.op, true
	case captureVariable:
		return a.captured, true
	}
	return nil, false
}

// Parent implements CEL's activation; there is no outer one.
func (a *activation) Parent() interpreter.Activation { return nil }
