package rules

import (
	"bytes"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Eval tells out what the table's rules say about c, in the order of the
// rules. It neither keeps c nor allocates, apart from what conditions and
// expressions need.
func (p *Plan) Eval(c *cdc.Change, out Output) {
	if c.Op == cdc.Truncate {
		for i := range p.rules {
			p.rules[i].evalTruncate(p.rules[i].id, out)
		}
		return
	}
	if c.Op < cdc.Insert || c.Op > cdc.Delete {
		return
	}
	p.images(c)
	for i := range p.rules {
		if p.rules[i].ops[c.Op] {
			p.evalRule(&p.rules[i], c.Op, out)
		}
	}
}

func (p *Plan) evalRule(b *boundRule, op cdc.Op, out Output) {
	p.vars.captured, p.fills.captured = b.captured, b.captured
	unknown, failed := false, false
	p.vars.exceeded, p.fills.exceeded = false, false
	if b.when != nil {
		var match bool
		if match, unknown, failed = p.match(b.when, op); !match {
			return
		}
	}
	out.Verdict(b.id, Matched)
	if unknown {
		out.Verdict(b.id, UnknownCondition)
	}
	p.lacks.all = p.lacks.all[:0]
	if p.gather != nil && len(b.steps) > 0 {
		failed = p.emitCollapsing(b, op, out) || failed
	} else {
		failed = p.emit(b, op, out) || failed
	}
	if len(b.lookups) > 0 {
		failed = p.ask(b, op, out) || failed
	}
	if failed {
		out.Verdict(b.id, Failed)
	}
	if p.vars.exceeded || p.fills.exceeded {
		out.Verdict(b.id, Exceeded)
	}
	if len(p.lacks.all) > 0 {
		out.Verdict(b.id, UnknownValue)
		b.replace(b.id, &p.lacks, out)
	}
}

// emit hands over the rule's values, notes the templates of which one is unknown,
// and reports whether an expression failed.
func (p *Plan) emit(b *boundRule, op cdc.Op, out Output) (failed bool) {
	for i := range b.values {
		t := &b.values[i]
		if t.expressions || t.lists {
			failed = p.emitExpressions(b, t, op, out) || failed
			continue
		}
		var fromNew, fromOld outcome
		switch {
		case !t.each:
			p.newBuf, fromNew = p.expand(p.newBuf[:0], t, nil)
		default:
			if p.new != nil {
				p.newBuf, fromNew = p.expand(p.newBuf[:0], t, p.new)
			}
			if p.old != nil {
				p.oldBuf, fromOld = p.expand(p.oldBuf[:0], t, p.old)
			}
		}
		if fromNew == isUnknown || fromOld == isUnknown {
			p.lacks.add(t, everySink)
		}
		if fromNew == isValue {
			p.invalidate(b, t, p.newBuf, out)
		}
		if fromOld == isValue && (fromNew != isValue || !bytes.Equal(p.newBuf, p.oldBuf)) {
			p.invalidate(b, t, p.oldBuf, out)
		}
	}
	return failed
}

// outcome is what a template came to.
type outcome uint8

const (
	isNothing outcome = iota // a NULL, an image that the operation lacks, or an empty text
	isValue
	isUnknown
)

// expand builds a value from one image. Nothing wins over unknown: with a NULL
// in it there is no value, whatever the other columns hold.
func (p *Plan) expand(buf []byte, t *boundTemplate, row cdc.Tuple) ([]byte, outcome) {
	unknown := false
	for i := range t.parts {
		part := &t.parts[i]
		if part.column < 0 && !part.missing {
			buf = append(buf, part.literal...)
			continue
		}
		var is outcome
		switch buf, is = p.appendColumn(buf, t, part, row); is {
		case isNothing:
			return buf, isNothing
		case isUnknown:
			unknown = true
		}
	}
	switch {
	case unknown || len(buf) > t.max || escapes(t.kind, buf):
		return buf, isUnknown
	case len(buf) == 0:
		return buf, isNothing
	}
	return buf, isValue
}

// columnOf is a column's value; it is a text where that is a value.
func (p *Plan) columnOf(part *boundPart, row cdc.Tuple) (v *cdc.Value, is outcome) {
	from := row
	switch part.image {
	case oldImage:
		from = p.old
	case newImage:
		from = p.new
	}
	switch {
	case from == nil && part.image == newImage && p.elsewhere:
		return nil, isUnknown
	case from == nil:
		return nil, isNothing
	case part.missing:
		return nil, isUnknown
	}
	switch v = &from[part.column]; v.Kind {
	case cdc.Null:
		return nil, isNothing
	case cdc.Text:
		return v, isValue
	}
	return nil, isUnknown
}

// appendColumn appends a column's text.
func (p *Plan) appendColumn(buf []byte, t *boundTemplate, part *boundPart, row cdc.Tuple) ([]byte, outcome) {
	v, is := p.columnOf(part, row)
	if is != isValue {
		return buf, is
	}
	text, form := v.Data, asIs
	if part.typ != nil {
		form = part.typ.form
	}
	if form == charForm {
		text, form = withoutBlanks(text), asIs
	}
	switch {
	case len(text) > t.max+len(`\x`):
		// Too long before it is copied: no form drops more than a \x.
		return buf, isUnknown
	case t.kind == invalidation.URLPrefix && hollow(text):
		return buf, isUnknown
	}
	if part.escape {
		p.rawBuf = appendText(p.rawBuf[:0], text, form)
		return appendFor(t.kind, buf, p.rawBuf), isValue
	}
	return appendText(buf, text, form), isValue
}

// emitLiterals hands over fixed values to every sink of the rule that takes them.
func (r *Rule) emitLiterals(id int, l *literals, out Output) {
	for k := range l.values {
		for _, v := range l.values[k] {
			for _, sink := range r.routes[k] {
				if !r.off(sink) {
					out.Invalidate(id, sink, invalidation.Kind(k), v)
				}
			}
		}
	}
}
