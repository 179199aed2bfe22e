package rules

import (
	"encoding/binary"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Recording judges changes of transactions that may yet be rolled back: what Eval would
// hand over, and what it would tally, comes as records, to be played once the change
// stands. A record has no row, only values, and the arguments of lookups. It means
// something to the Recording that made it alone, which holds what the records of lookups
// have in common, once for each operation of each shape of a table. One goroutine at a
// time.
type Recording struct {
	set    *Set
	shapes []pendingShape
	places map[shapeKey]int
	out    RecordOutput
	buf    []byte
}

// RecordOutput receives what a Recording makes of a change.
type RecordOutput interface {
	// Record hands over a record, which is valid during the call only.
	Record(record []byte)
	// Verdict is that of Output.
	Verdict(rule int, v Verdict)
}

type shapeKey struct {
	lookup *boundLookup
	op     string
}

// The kinds of records, by their first byte.
const (
	recordValue byte = iota
	recordGroup
	recordLookup
	recordFallback
)

// NewRecording returns a recording for the set's rules.
func (s *Set) NewRecording() *Recording {
	return &Recording{set: s, places: make(map[shapeKey]int)}
}

// Eval records what Tally.Eval would do. Verdicts are handed over at once.
func (r *Recording) Eval(p *Plan, c *cdc.Change, out RecordOutput) {
	r.out, p.gather = out, r
	p.Eval(c, r)
	r.out, p.gather = nil, nil
}

// Verdict implements Output.
func (r *Recording) Verdict(rule int, v Verdict) { r.out.Verdict(rule, v) }

// Invalidate implements Output.
func (r *Recording) Invalidate(rule, sink int, k invalidation.Kind, value []byte) {
	r.begin(recordValue, rule, sink)
	r.buf = append(append(r.buf, byte(k)), value...)
	r.out.Record(r.buf)
}

func (r *Recording) begin(kind byte, numbers ...int) {
	r.buf = append(r.buf[:0], kind)
	for _, n := range numbers {
		r.number(n)
	}
}

func (r *Recording) number(n int) { r.buf = binary.AppendUvarint(r.buf, uint64(n)) }

func (r *Recording) text(s string) {
	r.number(len(s))
	r.buf = append(r.buf, s...)
}

func (r *Recording) values(values []kindValue) {
	r.number(len(values))
	for _, v := range values {
		r.buf = append(r.buf, byte(v.kind))
		r.number(len(v.value))
		r.buf = append(r.buf, v.value...)
	}
}

func (r *Recording) collapses(rule, sink, _ int) (taken, sealed bool) {
	climbs := r.set.rules[rule].climbs
	return climbs != nil && len(climbs[sink]) > 0, false
}

func (r *Recording) group(rule, sink int, exact []kindValue, covers [][]kindValue) {
	r.begin(recordGroup, rule, sink)
	r.values(exact)
	r.number(len(covers))
	for _, c := range covers {
		r.values(c)
	}
	r.out.Record(r.buf)
}

// Fallback implements Output.
func (r *Recording) Fallback(rule, sink int, f *Fallback) {
	r.begin(recordFallback, rule, sink, int(f.Of), int(f.Kind))
	r.text(f.Template)
	r.text(f.Value)
	r.out.Record(r.buf)
}

// Lookup implements Output.
func (r *Recording) Lookup(p *Pending) {
	key := shapeKey{p.lookup, string(p.op)}
	shape, known := r.places[key]
	if !known {
		shape = len(r.shapes)
		r.shapes = append(r.shapes, p.pendingShape)
		r.places[key] = shape
	}
	r.begin(recordLookup, p.Rule, shape, len(p.Query.Args))
	for _, arg := range p.Query.Args {
		r.text(arg)
	}
	r.number(len(p.templates))
	for i := range p.templates {
		t := &p.templates[i]
		r.number(t.place)
		for _, choices := range t.texts {
			if choices == nil {
				r.number(0)
				continue
			}
			r.number(1 + len(choices))
			for _, c := range choices {
				r.text(c)
			}
		}
	}
	r.out.Record(r.buf)
}
