package rules

import (
	"errors"
	"fmt"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/traits"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// fanout builds the values of one template that has expressions, for one
// change, each once.
type fanout struct {
	plan     *Plan
	template *boundTemplate
	emit     func(value []byte)
	seen     map[string]bool
	// made counts the values, repeated ones too.
	made int
	// unknown is set where a value could not be built, failed where the reason
	// was another than something not carried.
	unknown, failed bool
	// given are the texts of parts that are known before; nil where there are none.
	given [][]string
	// notes, where it is not nil, gathers why there is no value.
	notes *[]string
}

func (f *fanout) note(format string, args ...any) {
	if f.notes != nil {
		*f.notes = append(*f.notes, fmt.Sprintf(format, args...))
	}
}

// emitExpressions hands over the values of a template that has expressions.
func (p *Plan) emitExpressions(b *boundRule, t *boundTemplate, op cdc.Op, out Output) (failed bool) {
	f := fanout{plan: p, template: t, seen: map[string]bool{}, emit: func(value []byte) { p.invalidate(b, t, value, out) }}
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
	if f.unknown {
		p.lacks.add(t, everySink)
	}
	return f.failed
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

// image builds the values of one image: the product of the texts of the parts.
// As with columns, nothing wins over unknown.
func (f *fanout) image(row cdc.Tuple, view *rowView) {
	f.plan.fills.row = view
	parts := f.template.parts
	choices := make([][]string, len(parts))
	count, unknown, failed := 1, false, false
	for i := range parts {
		texts, is, err := f.known(i, row)
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
		if !unknown {
			f.note("its lists make more than %d values", f.template.limit)
		}
		f.unknown = true
		return
	}
	buf, total := f.plan.newBuf, 0
	for n := range count {
		buf = buf[:0]
		// The last list runs fastest.
		rest, size := n, count
		for _, texts := range choices {
			size /= len(texts)
			buf = append(buf, texts[rest/size]...)
			rest %= size
		}
		if total += len(buf); total > maxFanout {
			f.note("its lists make values of more than %d bytes together", maxFanout)
			f.unknown = true
			break
		}
		f.value(buf)
	}
	f.plan.newBuf = buf
}

// value hands over one value.
func (f *fanout) value(value []byte) {
	switch {
	case len(value) > f.template.max:
		f.note("a value is %d bytes long, at most %d are allowed", len(value), f.template.max)
		f.unknown = true
	case escapes(f.template.kind, value):
		f.note("a value makes a path segment of dots, which would step up")
		f.unknown = true
	case len(value) == 0:
		f.note("the value is empty")
	case f.seen[string(value)]:
		f.made++
	default:
		f.made++
		f.seen[string(value)] = true
		f.emit(value)
	}
}

// part has the texts of one part, of which a list has several.
func (f *fanout) part(part *boundPart, row cdc.Tuple) ([]string, outcome, error) {
	if part.expr == nil {
		if part.column < 0 && !part.missing {
			return []string{string(part.literal)}, isValue, nil
		}
		if t := part.typ; t != nil && (t.elem != nil || t.maybe) {
			return f.array(part, row)
		}
		text, is := f.plan.appendColumn(nil, f.template, part, row)
		if is != isValue && f.notes != nil {
			f.note("%s", f.plan.noColumn(f.template, part, row))
		}
		return []string{string(text)}, is, nil
	}
	v, err := part.expr.run(&f.plan.fills)
	switch {
	case errors.Is(err, errNoImage):
		f.note("{%s}: %v", part.expr.source, errNoImage)
		return nil, isNothing, nil
	case err != nil:
		f.note("{%s}: %v", part.expr.source, err)
		return nil, isUnknown, err
	case isNull(v):
		f.note("{%s} is NULL", part.expr.source)
		return nil, isNothing, nil
	}
	if list, ok := v.(traits.Lister); ok {
		return f.list(part, list)
	}
	text, err := textOf(v)
	if err != nil {
		f.note("{%s}: %v", part.expr.source, err)
		return nil, isUnknown, err
	}
	text, is := f.fit(part, text)
	return []string{text}, is, nil
}

// fit makes a text fit for the place that it lands in.
func (f *fanout) fit(part *boundPart, text string) (string, outcome) {
	if f.template.kind == invalidation.URLPrefix && hollow([]byte(text)) {
		f.note("{%s} is empty, which would widen the prefix", part.source())
		return "", isUnknown
	}
	if part.escape {
		text = string(appendFor(f.template.kind, nil, []byte(text)))
	}
	return text, isValue
}

// source is what stands between the braces.
func (p *boundPart) source() string {
	if p.expr != nil {
		return p.expr.source
	}
	return p.name
}

// array gives the texts of a column that is an array: a text for each element, each once. NULLs are
// skipped, and nested arrays are flattened. What may be an array, and may be a text, is both.
func (f *fanout) array(part *boundPart, row cdc.Tuple) (texts []string, is outcome, err error) {
	v, is := f.plan.columnOf(part, row)
	if is != isValue {
		if f.notes != nil {
			f.note("%s", f.plan.noColumn(f.template, part, row))
		}
		return nil, is, nil
	}
	t, seen := part.typ, map[string]bool{}
	add := func(text []byte) {
		if fits, was := f.fit(part, string(text)); was == isUnknown {
			f.unknown = true
		} else if !seen[fits] {
			seen[fits] = true
			texts = append(texts, fits)
		}
	}
	if t.maybe {
		if len(v.Data) > maxArray {
			return nil, isUnknown, nil
		}
		t = &columnType{DataType: cdc.DataType{Delimiter: ','}, elem: &columnType{}}
		add(v.Data)
	}
	elements, err := parseArray(v.Data, t.Delimiter)
	if err != nil && part.typ.maybe {
		return texts, isValue, nil
	}
	if err == nil {
		err = t.each(elements, add)
	}
	if err != nil {
		f.note("%s: %v", part.name, err)
		return nil, isUnknown, err
	}
	if len(texts) == 0 {
		f.note("%s is an array without values", part.name)
		return nil, isNothing, nil
	}
	return texts, isValue, nil
}

// list has the texts of a list; its NULLs are skipped, each for itself.
func (f *fanout) list(part *boundPart, list traits.Lister) (texts []string, is outcome, err error) {
	if size, ok := list.Size().(types.Int); !ok || int(size) > f.template.limit {
		f.note("{%s} is a list of more than %d", part.expr.source, f.template.limit)
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
			f.note("{%s}: %v", part.expr.source, err)
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
		f.note("{%s} is a list without values", part.expr.source)
		return nil, isNothing, nil
	}
	return texts, isValue, nil
}
