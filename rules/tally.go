package rules

import (
	"hash/maphash"

	"github.com/walpurge/walpurge/cdc"
)

// Limits of what a tally holds over all rules and sinks; see Full.
const (
	MaxHeld      = 100_000
	MaxHeldBytes = 32 << 20
)

// Group are values of one rule for one sink that were made of the same row, with
// the coarser ones that replace them, step by step.
type Group struct {
	Rule, Sink int
	Values     []Text
	Coarser    []Coarser
}

// Tally counts what one transaction produces for rules with collapse:, by rule
// and sink, and holds it until it is handed on: the rule's own values, or those
// of the step whose over they have exceeded. It never holds more than its limits
// and one change, however large the transaction. One goroutine at a time.
//
// The number of values is counted by hashes where the values themselves are no
// longer held, at most as many as the last over says.
type Tally struct {
	ladders [][]*ladder // by rule and sink, nil where a sink takes no step
	active  []*ladder   // of this transaction
	sinks   [][]*ladder // active ones by sink
	seed    maphash.Seed
	values  int
	bytes   int
}

// NewTally returns a tally for the set's rules.
func (s *Set) NewTally() *Tally {
	t := &Tally{ladders: make([][]*ladder, len(s.rules)), sinks: make([][]*ladder, len(s.sinks)), seed: maphash.MakeSeed()}
	for id, r := range s.rules {
		if r.climbs == nil {
			continue
		}
		t.ladders[id] = make([]*ladder, len(s.sinks))
		for sink, climb := range r.climbs {
			if len(climb) == 0 {
				continue
			}
			l := &ladder{rule: id, sink: sink}
			for _, i := range climb {
				l.overs = append(l.overs, r.steps[i].over)
			}
			_, l.fixed = r.lastLiterals(sink)
			t.ladders[id][sink] = l
		}
	}
	return t
}

// Eval does what Plan.Eval does, except that the values of rules with collapse:
// go into the tally and not to out.
func (t *Tally) Eval(p *Plan, c *cdc.Change, out Output) {
	p.gather = t
	p.Eval(c, out)
	p.gather = nil
}

func (t *Tally) of(rule, sink int) *ladder {
	if t.ladders[rule] == nil {
		return nil
	}
	return t.ladders[rule][sink]
}

func (t *Tally) collapses(rule, sink, values int) (taken, sealed bool) {
	l := t.of(rule, sink)
	if l == nil {
		return false, false
	}
	if l.sealed {
		l.collapsed += values
	}
	return true, l.sealed
}

func (t *Tally) group(rule, sink int, exact []kindValue, covers [][]kindValue) {
	l := t.of(rule, sink)
	values, bytes := l.held(), l.bytes
	if values == 0 && l.rung == 0 && l.counted == nil {
		t.active = append(t.active, l)
		t.sinks[l.sink] = append(t.sinks[l.sink], l)
	}
	l.add(t.seed, exact, covers)
	t.values += l.held() - values
	t.bytes += l.bytes - bytes
}

// Held is the number of values (and of groups of them) that are held, and their
// size in bytes.
func (t *Tally) Held() (values, bytes int) { return t.values, t.bytes }

// Open reports that the transaction has values of rules with collapse:, held or
// handed on.
func (t *Tally) Open() bool { return len(t.active) > 0 }

// Full reports that the tally holds as much as it may: what it holds must be
// handed on, for all sinks, before the next change. That purges more than was
// needed, should the transaction still reach a step, and loses nothing.
func (t *Tally) Full() bool { return t.values >= MaxHeld || t.bytes >= MaxHeldBytes }

// HandOn gives what is held for a sink to a function, group by group, and
// forgets it; counting goes on. It ends at the function's first error and
// returns it.
func (t *Tally) HandOn(sink int, hand func(Group) error) error {
	for _, l := range t.sinks[sink] {
		values, bytes := l.held(), l.bytes
		if values == 0 {
			continue
		}
		err := l.handOn(t.seed, hand)
		t.values, t.bytes = t.values-values, t.bytes-bytes
		if err != nil {
			return err
		}
	}
	return nil
}

// End forgets the transaction. It tells the function, if there is one, how many
// values of which rule coarser ones replace, at which sink.
func (t *Tally) End(collapsed func(rule, sink, values int)) {
	for _, l := range t.active {
		if l.collapsed > 0 && collapsed != nil {
			collapsed(l.rule, l.sink, l.collapsed)
		}
		l.reset()
		t.sinks[l.sink] = t.sinks[l.sink][:0]
	}
	t.active, t.values, t.bytes = t.active[:0], 0, 0
}
