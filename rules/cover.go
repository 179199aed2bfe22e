package rules

import (
	"bytes"
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// rowValues is what a rule with collapse: makes of one change: its own values by
// sink, and what each step produces. Its buffers are used again for the next.
type rowValues struct {
	exact [][]kindValue // by sink
	sinks []int         // that have any, in the order of their first value
	steps []stepValues
	built bool // the steps are those of the change at hand
	arena []byte
	cover [][]kindValue
}

// stepValues are what the templates of one step produce for one change.
type stepValues struct {
	values []stepValue
	// whole tells for each template whether it gave a value for every image;
	// unknown whether one could not be built.
	whole, unknown []bool
}

type stepValue struct {
	kindValue
	template int
}

// keep copies a value to where it outlives its scratch buffer.
func (v *rowValues) keep(value []byte) []byte {
	from := len(v.arena)
	v.arena = append(v.arena, value...)
	return v.arena[from:len(v.arena):len(v.arena)]
}

// Invalidate implements Output: the rule's own values come here first.
func (v *rowValues) Invalidate(_, sink int, k invalidation.Kind, value []byte) {
	for len(v.exact) <= sink {
		v.exact = append(v.exact, nil)
	}
	if len(v.exact[sink]) == 0 {
		v.sinks = append(v.sinks, sink)
	}
	v.exact[sink] = append(v.exact[sink], kindValue{k, v.keep(value)})
}

// Verdict implements Output.
func (v *rowValues) Verdict(int, Verdict) {}

// Fallback implements Output: what replaces values is not counted.
func (v *rowValues) Fallback(int, int, *Fallback) {}

// Lookup implements Output: what a lookup gives is not counted.
func (v *rowValues) Lookup(*Pending) {}

// gatherer takes the values of rules with collapse:.
type gatherer interface {
	// collapses reports whether values of the rule are taken for the sink; and, if so,
	// whether so many of a row were as good as taken already.
	collapses(rule, sink, values int) (taken, sealed bool)
	// group takes the values of a row, with those that replace them step by step. They
	// are valid during the call only.
	group(rule, sink int, exact []kindValue, covers [][]kindValue)
}

// emitCollapsing gives the rule's values of one change to who gathers them, each with
// the coarser ones that replace it; and hands over at once what no coarser
// value replaces.
func (p *Plan) emitCollapsing(b *boundRule, op cdc.Op, out Output) (failed bool) {
	row := &p.row
	for _, sink := range row.sinks {
		row.exact[sink] = row.exact[sink][:0]
	}
	row.sinks, row.arena, row.built = row.sinks[:0], row.arena[:0], false
	failed = p.emit(b, op, row)
	for _, sink := range row.sinks {
		exact := row.exact[sink]
		collapses, sealed := p.gather.collapses(b.id, sink, len(exact))
		if sealed {
			continue
		}
		if collapses && p.coversOf(b, sink, op) {
			p.gather.group(b.id, sink, exact, row.cover)
			continue
		}
		for _, v := range exact {
			out.Invalidate(b.id, sink, v.kind, v.value)
		}
	}
	return failed
}

// coversOf finds for each step that the sink takes what replaces the change's
// values there: what the step produces; with unknown: beside it where a value of
// it could not be built; else, where it lacks a value for one of the images, what
// the next step produces. It is false where even the last one does not do: then
// the exact values are all there is.
func (p *Plan) coversOf(b *boundRule, sink int, op cdc.Op) bool {
	row := &p.row
	if !row.built {
		p.buildSteps(b, op)
		row.built = true
	}
	climb := b.climbs[sink]
	for len(row.cover) < len(climb) {
		row.cover = append(row.cover, nil)
	}
	row.cover = row.cover[:len(climb)]
	for i := len(climb) - 1; i >= 0; i-- {
		s, templates := &row.steps[climb[i]], b.coarser[climb[i]]
		cover, whole, unknown := row.cover[i][:0], true, false
		for _, v := range s.values {
			switch {
			case !slices.Contains(templates[v.template].sinks, sink):
			case !b.specs[sink].Caps.Fits(v.kind, v.value):
				whole, unknown = false, true
			default:
				cover = append(cover, v.kindValue)
			}
		}
		for t := range templates {
			if slices.Contains(templates[t].sinks, sink) {
				whole, unknown = whole && s.whole[t], unknown || s.unknown[t]
			}
		}
		last := i == len(climb)-1
		switch {
		case whole:
		case (unknown || last) && b.takesAny(sink, &b.unknown):
			cover = b.appendLiterals(cover, &b.unknown, sink)
		case last:
			row.cover[i] = cover
			return false
		default:
			cover = append(cover[:0], row.cover[i+1]...)
		}
		row.cover[i] = cover
	}
	return true
}

func (r *Rule) appendLiterals(to []kindValue, l *literals, sink int) []kindValue {
	for k := range l.values {
		if slices.Contains(r.routes[k], sink) {
			for _, v := range l.values[k] {
				to = append(to, kindValue{invalidation.Kind(k), v})
			}
		}
	}
	return to
}

// buildSteps fills the templates of all steps with the change at hand.
func (p *Plan) buildSteps(b *boundRule, op cdc.Op) {
	row := &p.row
	for len(row.steps) < len(b.coarser) {
		row.steps = append(row.steps, stepValues{})
	}
	row.steps = row.steps[:len(b.coarser)]
	for i := range b.coarser {
		s := &row.steps[i]
		s.values, s.whole, s.unknown = s.values[:0], s.whole[:0], s.unknown[:0]
		for n := range b.coarser[i] {
			whole, unknown := p.buildStep(s, &b.coarser[i][n], n, op)
			s.whole, s.unknown = append(s.whole, whole), append(s.unknown, unknown)
		}
	}
}

func (p *Plan) buildStep(s *stepValues, t *boundTemplate, n int, op cdc.Op) (whole, unknown bool) {
	size, over := 0, false
	add := func(value []byte) {
		if size += len(value); size > maxCoarse {
			over = true
			return
		}
		s.values = append(s.values, stepValue{kindValue{t.kind, p.row.keep(value)}, n})
	}
	if t.expressions || t.lists {
		f := fanout{plan: p, template: t, seen: map[string]bool{}, emit: add}
		p.fill(op)
		whole = true
		image := func(row cdc.Tuple, view *rowView) {
			before := f.made
			f.image(row, view)
			whole = whole && f.made > before
		}
		if !t.each {
			image(nil, &p.newFill)
		}
		if t.each && p.new != nil {
			image(p.new, &p.newFill)
		}
		if t.each && p.old != nil {
			image(p.old, &p.oldFill)
		}
		return whole && !f.unknown && !over, f.unknown || over
	}
	fromNew, fromOld := isValue, isValue
	switch {
	case !t.each:
		p.newBuf, fromNew = p.expand(p.newBuf[:0], t, nil)
		p.oldBuf = append(p.oldBuf[:0], p.newBuf...)
	default:
		if p.new != nil {
			p.newBuf, fromNew = p.expand(p.newBuf[:0], t, p.new)
		}
		if p.old != nil {
			p.oldBuf, fromOld = p.expand(p.oldBuf[:0], t, p.old)
		}
		if p.new == nil {
			p.newBuf, fromNew = append(p.newBuf[:0], p.oldBuf...), fromOld
		}
		if p.old == nil {
			p.oldBuf, fromOld = append(p.oldBuf[:0], p.newBuf...), fromNew
		}
	}
	if fromNew == isValue {
		add(p.newBuf)
	}
	if fromOld == isValue && (fromNew != isValue || !bytes.Equal(p.newBuf, p.oldBuf)) {
		add(p.oldBuf)
	}
	return fromNew == isValue && fromOld == isValue && !over, fromNew == isUnknown || fromOld == isUnknown || over
}
