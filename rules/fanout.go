package rules

import (
	"errors"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"

	"github.com/walpurge/walpurge/cdc"
)

// fanout builds the values of one template that has expressions, for one
// change, each once.
type fanout struct {
	plan     *Plan
	template *boundTemplate
	emit     func(value []byte)
	seen     map[string]bool
	// unknown is set where a value could not be built, failed where the reason
	// was another than something not carried.
	unknown, failed bool
}

// emitExpressions hands over the values of a template that has expressions.
func (p *Plan) emitExpressions(b *boundRule, t *boundTemplate, op cdc.Op, out Output) (unknown, failed bool) {
	f := fanout{plan: p, template: t, seen: map[string]bool{}, emit: func(value []byte) { invalidate(b.id, t, value, out) }}
	p.fill(op)
	switch {
	case !t.each:
		f.image(nil, &p.newFill)
	default:
		if p.new != nil {
			f.image(p.new, &p.newFill)
		}
		if p.old != nil {
			f.image(p.old, &p.oldFill)
		}
	}
	return f.unknown, f.failed
}

// fill shows the change at hand to the expressions of templates.
func (p *Plan) fill(op cdc.Op) {
	if !p.filled {
		p.newFill.reset(p.new)
		p.oldFill.reset(p.old)
		p.filled = true
	}
	p.fills.op = types.String(op.String())
}

// image builds the values of one image: the product of what the parts come to.
// As with columns, nothing wins over unknown.
func (f *fanout) image(row cdc.Tuple, view *rowView) {
	f.plan.fills.row = view
	parts := f.template.parts
	choices := make([][]string, len(parts))
	count, unknown, failed := 1, false, false
	for i := range parts {
		texts, is, err := f.part(&parts[i], row)
		if is == isNothing {
			return
		}
		unknown = unknown || is == isUnknown
		failed = failed || is == isUnknown && err != nil && !onlyNotCarried(err)
		choices[i] = texts
		if is == isValue && count <= f.template.limit {
			count *= len(texts)
		}
	}
	f.failed = f.failed || failed
	if unknown || count > f.template.limit {
		f.unknown = true
		return
	}
	buf := f.plan.newBuf
	for n := range count {
		buf = buf[:0]
		// The last list runs fastest.
		rest, size := n, count
		for _, texts := range choices {
			size /= len(texts)
			buf = append(buf, texts[rest/size]...)
			rest %= size
		}
		f.value(buf)
	}
	f.plan.newBuf = buf
}

// value hands over one value.
func (f *fanout) value(value []byte) {
	switch {
	case len(value) > f.template.max || escapes(f.template.kind, value):
		f.unknown = true
	case len(value) > 0 && !f.seen[string(value)]:
		f.seen[string(value)] = true
		f.emit(value)
	}
}

// part is what one part comes to: its texts, of which a list has several.
func (f *fanout) part(part *boundPart, row cdc.Tuple) ([]string, outcome, error) {
	if part.expr == nil {
		if part.column < 0 && !part.missing {
			return []string{string(part.literal)}, isValue, nil
		}
		text, is := f.plan.appendColumn(nil, f.template, part, row)
		return []string{string(text)}, is, nil
	}
	v, err := part.expr.run(&f.plan.fills)
	switch {
	case errors.Is(err, errNoImage):
		return nil, isNothing, nil
	case err != nil:
		return nil, isUnknown, err
	case isNull(v):
		return nil, isNothing, nil
	}
	if list, ok := v.(traits.Lister); ok {
		return f.list(part, list)
	}
	text, err := textOf(v)
	if err != nil {
		return nil, isUnknown, err
	}
	text, is := f.fit(part, text)
	return []string{text}, is, nil
}

// fit makes a text fit for the place that it lands in.
func (f *fanout) fit(part *boundPart, text string) (string, outcome) {
	if f.template.kind == URLPrefix && hollow([]byte(text)) {
		return "", isUnknown
	}
	if part.escape {
		text = string(appendEscaped(nil, []byte(text)))
	}
	return text, isValue
}

// list is what a list comes to; its NULLs are skipped, each for itself.
func (f *fanout) list(part *boundPart, list traits.Lister) (texts []string, is outcome, err error) {
	if size, ok := list.Size().(types.Int); !ok || int(size) > f.template.limit {
		return nil, isUnknown, nil
	}
	for it := list.Iterator(); it.HasNext() == types.True; {
		v := it.Next()
		if isNull(v) {
			continue
		}
		text, err := textOf(v)
		if err != nil {
			// The others are as good as ever.
			f.unknown, f.failed = true, true
			continue
		}
		text, is := f.fit(part, text)
		if is == isUnknown {
			f.unknown = true
			continue
		}
		texts = append(texts, text)
	}
	if len(texts) == 0 {
		return nil, isNothing, nil
	}
	return texts, isValue, nil
}
