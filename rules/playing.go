package rules

import (
	"encoding/binary"
	"fmt"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Play does what Tally.Eval would have done where the record was made. Verdicts were
// handed over then. A record that this Recording did not make is an error, or means
// something else.
func (r *Recording) Play(record []byte, t *Tally, out Output) error {
	p := playback{left: record}
	switch kind := p.byte(); kind {
	case recordValue:
		rule, sink, k := p.rule(r.set), p.below(len(r.set.sinks)), invalidation.Kind(p.byte())
		if !p.failed {
			out.Invalidate(rule, sink, k, p.left)
		}
	case recordGroup:
		p.group(r.set, t, out)
	case recordFallback:
		rule, sink := p.rule(r.set), p.below(len(r.set.sinks))
		f := Fallback{Of: invalidation.Kind(p.below(invalidation.NumKinds)), Kind: invalidation.Kind(p.below(invalidation.NumKinds)), Template: string(p.bytes()), Value: string(p.bytes())}
		if !p.failed {
			out.Fallback(rule, sink, &f)
		}
	case recordLookup:
		if pending := p.pending(r); pending != nil {
			out.Lookup(pending)
		}
	default:
		p.failed = true
	}
	if p.failed {
		return fmt.Errorf("a record of %d bytes is not what was recorded", len(record))
	}
	return nil
}

// playback reads one record.
type playback struct {
	left   []byte
	failed bool
}

func (p *playback) byte() byte {
	if len(p.left) == 0 {
		p.failed = true
		return 0
	}
	b := p.left[0]
	p.left = p.left[1:]
	return b
}

// below reads a number that is less than n; 0 where it is not.
func (p *playback) below(n int) int {
	v, size := binary.Uvarint(p.left)
	if size <= 0 || v >= uint64(n) {
		p.failed = true
		return 0
	}
	p.left = p.left[size:]
	return int(v)
}

func (p *playback) rule(s *Set) int { return p.below(len(s.rules)) }

// count reads how many things follow that take a byte at least.
func (p *playback) count() int { return p.below(len(p.left) + 1) }

func (p *playback) bytes() []byte {
	n := p.count()
	if p.failed || n > len(p.left) {
		p.failed = true
		return nil
	}
	b := p.left[:n:n]
	p.left = p.left[n:]
	return b
}

func (p *playback) values() []kindValue {
	values := make([]kindValue, 0, p.count())
	for range cap(values) {
		values = append(values, kindValue{invalidation.Kind(p.byte()), p.bytes()})
	}
	return values
}

func (p *playback) group(s *Set, t *Tally, out Output) {
	rule, sink := p.rule(s), p.below(len(s.sinks))
	exact := p.values()
	covers := make([][]kindValue, 0, p.count())
	for range cap(covers) {
		covers = append(covers, p.values())
	}
	if p.failed {
		return
	}
	l := t.of(rule, sink)
	if l == nil || len(covers) != len(l.overs) {
		p.failed = true
		return
	}
	if _, sealed := t.collapses(rule, sink, len(exact)); !sealed {
		t.group(rule, sink, exact, covers)
	}
}

func (p *playback) texts(count int) []string {
	texts := make([]string, 0, count)
	for range count {
		texts = append(texts, string(p.bytes()))
	}
	return texts
}

func (p *playback) pending(r *Recording) *Pending {
	rule, shape := p.rule(r.set), p.below(len(r.shapes))
	if p.failed {
		return nil
	}
	pending := &Pending{Rule: rule, pendingShape: r.shapes[shape]}
	l := pending.lookup
	pending.Query = Query{Lookup: l.Lookup, Args: p.texts(p.count())}
	for range p.count() {
		place := p.below(len(l.templates))
		if p.failed {
			return nil
		}
		t := pendingTemplate{&l.templates[place], place, make([][]string, len(l.templates[place].parts))}
		for i := range t.texts {
			if n := p.count(); n > 0 {
				t.texts[i] = p.texts(n - 1)
			}
		}
		pending.templates = append(pending.templates, t)
	}
	pending.Key = pending.key()
	if p.failed {
		return nil
	}
	return pending
}
