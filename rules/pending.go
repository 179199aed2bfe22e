package rules

import (
	"iter"
	"slices"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Pending is what a rule's values wait for: a question, and the values as far as
// the row makes them. It holds no row, and outlives the change and its Plan's
// scratch. Two that have the same Key produce the same.
type Pending struct {
	// Rule is an index of Set.Rules.
	Rule  int
	Query Query
	// Key tells what the Pending would produce apart from every other one of its Set.
	Key string

	pendingShape
	templates []pendingTemplate
}

// pendingShape is what all have in common that wait for one lookup because of one
// operation.
type pendingShape struct {
	rule     *Rule
	lookup   *boundLookup
	op       types.String
	captured ref.Val
}

// pendingTemplate is a template, by its place among those of the lookup, with the texts
// of those parts that the row gives; nil for those of the answer.
type pendingTemplate struct {
	*boundTemplate
	place int
	texts [][]string
}

// boundLookup is a lookup whose arguments are bound to a table's shape, with the
// templates that wait for it.
type boundLookup struct {
	*Lookup
	args []boundTemplate
	// each is set when arguments or templates depend on the image in turn.
	each      bool
	templates []boundTemplate
}

func (p *Plan) bindLookup(r *Rule, l *Lookup, read func(string) (int, bool), expression func(*expression)) boundLookup {
	b := boundLookup{Lookup: l}
	for _, t := range l.args {
		bt := p.bindTemplate(r, t, invalidation.Key, read, expression)
		bt.max = maxArgument
		if len(bt.parts) == 1 {
			// A lone column goes back as it came: the server reads what it printed.
			bt.parts[0].typ = nil
		}
		b.each = b.each || bt.each
		b.args = append(b.args, bt)
	}
	return b
}

// rows runs over the images that values are taken from: each there is, or none in
// particular. p.fill must have been called.
func (p *Plan) rows(each bool) iter.Seq2[cdc.Tuple, *rowView] {
	return func(yield func(cdc.Tuple, *rowView) bool) {
		switch {
		case !each:
			yield(nil, &p.newFill)
		case p.new != nil && !yield(p.new, &p.newFill):
		case p.old != nil:
			yield(p.old, &p.oldFill)
		}
	}
}

// ask hands over what waits for the rule's lookups, image by image, notes the
// templates for which an argument or a part of a value is unknown, and reports
// whether an expression failed.
func (p *Plan) ask(b *boundRule, op cdc.Op, out Output) (failed bool) {
	p.fill(op)
	for i := range b.lookups {
		var first *Pending
		for row, view := range p.rows(b.lookups[i].each) {
			f := fanout{plan: p}
			pending := f.pend(b, &b.lookups[i], op, row, view)
			failed = failed || f.failed
			if pending != nil && (first == nil || pending.Key != first.Key) {
				out.Lookup(pending)
				first = pending
			}
		}
	}
	return failed
}

// pend makes what waits for one lookup; nil where nothing does.
func (f *fanout) pend(b *boundRule, l *boundLookup, op cdc.Op, row cdc.Tuple, view *rowView) *Pending {
	f.plan.fills.row = view
	shape := pendingShape{rule: b.Rule, lookup: l, op: types.String(op.String()), captured: b.captured}
	pending := &Pending{Rule: b.id, pendingShape: shape, Query: Query{Lookup: l.Lookup}}
	for i := range l.args {
		arg, is := f.argument(&l.args[i], row)
		if is != isValue {
			if is == isUnknown {
				f.unknown = true
				for n := range l.templates {
					f.plan.lacks.add(&l.templates[n], everySink)
				}
			}
			return nil
		}
		pending.Query.Args = append(pending.Query.Args, arg)
	}
	for i := range l.templates {
		f.template = &l.templates[i]
		texts, is := f.texts(row)
		if is != isValue {
			if is == isUnknown {
				f.unknown = true
				f.plan.lacks.add(f.template, everySink)
			}
			continue
		}
		pending.templates = append(pending.templates, pendingTemplate{f.template, i, texts})
	}
	if len(pending.templates) == 0 {
		return nil
	}
	pending.Key = pending.key()
	return pending
}

// key is what Pending.Key says.
func (p *Pending) key() string {
	key := appendKey(nil, strconv.Itoa(p.Rule), p.lookup.Name, string(p.op))
	key = appendKey(key, p.Query.Args...)
	for i := range p.templates {
		key = appendKey(key, strconv.Itoa(p.templates[i].place))
		for _, choices := range p.templates[i].texts {
			key = append(strconv.AppendInt(key, int64(len(choices)), 10), ' ')
			key = appendKey(key, choices...)
		}
	}
	return string(key)
}

// appendKey appends texts so that no two lists of texts give the same bytes.
func appendKey(key []byte, texts ...string) []byte {
	for _, t := range texts {
		key = append(strconv.AppendInt(key, int64(len(t)), 10), ':')
		key = append(key, t...)
	}
	return key
}

// argument is the text of one argument.
func (f *fanout) argument(t *boundTemplate, row cdc.Tuple) (arg string, is outcome) {
	f.template = t
	texts, is := f.texts(row)
	if is != isValue {
		return "", is
	}
	for _, choices := range texts {
		if len(choices) != 1 {
			f.note("the argument %q is a list", t.source)
			return "", isUnknown
		}
		if arg += choices[0]; len(arg) > maxArgument {
			f.note("the argument %q is longer than %d bytes", t.source, maxArgument)
			return "", isUnknown
		}
	}
	return arg, isValue
}

// texts is what the parts that the row gives produce. As everywhere, nothing wins
// over unknown.
func (f *fanout) texts(row cdc.Tuple) (texts [][]string, is outcome) {
	parts := f.template.parts
	texts, is = make([][]string, len(parts)), isValue
	count := 1
	for i := range parts {
		if parts[i].answer {
			continue
		}
		choices, was, err := f.part(&parts[i], row)
		switch was {
		case isNothing:
			return nil, isNothing
		case isUnknown:
			is = isUnknown
			f.failed = f.failed || err != nil && !onlyNotCarried(err)
		case isValue:
			texts[i] = slices.Clip(choices)
			count *= min(len(choices), f.template.limit+1)
		}
		if count > f.template.limit {
			f.note("its lists make more than %d values", f.template.limit)
			is, count = isUnknown, 1
		}
	}
	return texts, is
}
