package rules

import "hash/maphash"
import "github.com/walpurge/walpurge/rules/invalidation"

// Text is a value of a kind.
type Text struct {
	Kind  invalidation.Kind
	Value string
}

// Coarser are values that together replace others when these are more than
// Over.
type Coarser struct {
	Over   int
	Values []Text
}

// ladder counts the values of one rule for one sink in one transaction. It
// stands on a rung: 0 as long as the rule's own values are held, then the number
// of the step whose values are. What is finer than its rung it has forgotten.
//
// A row's values on all rungs make a group, so that whatever part of them is
// handed on takes with it what replaces just that part.
type ladder struct {
	rule, sink int
	overs      []int // of the steps that the sink takes
	// fixed is set where the last step's values are the same for every row.
	fixed bool

	rung   int
	levels []level
	groups groups
	// counted are the hashes of the rule's own values, once those are not held any
	// more and there is a step left to take. Two values of one hash count as one;
	// nothing else comes of that.
	counted map[uint64]struct{}
	// sealed is set once nothing that a row adds would be new.
	sealed bool
	// collapsed counts the rule's own values that coarser ones replace.
	collapsed int
	bytes     int
	ids       []int32
	key       []byte
}

// level holds values of one rung, each once.
type level struct {
	index  map[string]int32
	values []Text
}

// groups are lists of places in the levels from the rung on, each group once.
type groups struct {
	index map[string]struct{}
	// flat has for each group and level the number of places, and the places.
	flat []int32
}

// reset forgets the transaction. A map that has grown large is given up: to
// clear it would cost each small transaction what the large one needed.
func (l *ladder) reset() {
	const large = 1024
	l.rung, l.sealed, l.collapsed, l.counted = 0, false, 0, nil
	for i := range l.levels {
		if len(l.levels[i].values) > large {
			l.levels[i] = level{}
		}
	}
	if len(l.groups.index) > large {
		l.groups = groups{}
	}
	l.empty()
}

// empty forgets what is held, and not what was counted.
func (l *ladder) empty() {
	for i := range l.levels {
		clear(l.levels[i].index)
		clear(l.levels[i].values)
		l.levels[i].values = l.levels[i].values[:0]
	}
	clear(l.groups.index)
	l.groups.flat, l.bytes = l.groups.flat[:0], 0
}

// held is the number of values held, on all rungs, and of groups.
func (l *ladder) held() int {
	n := len(l.groups.index)
	for i := range l.levels {
		n += len(l.levels[i].values)
	}
	return n
}

// add takes a row's own values and what each step has for them.
func (l *ladder) add(seed maphash.Seed, exact []kindValue, covers [][]kindValue) {
	if l.levels == nil {
		l.levels = make([]level, len(l.overs)+1)
	}
	l.ids = l.ids[:0]
	if l.rung == 0 {
		l.note(0, exact)
	} else {
		l.collapsed += len(exact)
	}
	for i := max(1, l.rung); i < len(l.levels); i++ {
		l.note(i, covers[i-1])
	}
	l.group(l.ids)
	if l.counted != nil {
		for _, v := range exact {
			l.count(seed, v.kind, v.value)
		}
	}
	for l.rung < len(l.overs) && l.size() > l.overs[l.rung] {
		l.climb(seed)
	}
	l.sealed = l.fixed && l.rung == len(l.overs)
}

// size is what the next step's over is compared with: the number of the rule's
// own values, or of those that replace them, should they be more.
func (l *ladder) size() int { return max(len(l.counted), len(l.levels[l.rung].values)) }

func (l *ladder) count(seed maphash.Seed, k invalidation.Kind, value []byte) {
	l.key = append(append(l.key[:0], byte(k)), value...)
	l.counted[maphash.Bytes(seed, l.key)] = struct{}{}
}

// note holds values on a rung and appends their places to the group.
func (l *ladder) note(rung int, values []kindValue) {
	at := &l.levels[rung]
	if at.index == nil {
		at.index = make(map[string]int32)
	}
	l.ids = append(l.ids, int32(len(values)))
	for _, v := range values {
		l.key = append(append(l.key[:0], byte(v.kind)), v.value...)
		place, known := at.index[string(l.key)]
		if !known {
			key := string(l.key)
			place = int32(len(at.values))
			at.index[key] = place
			at.values = append(at.values, Text{v.kind, key[1:]})
			l.bytes += len(key)
		}
		l.ids = append(l.ids, place)
	}
}

// group holds a group unless it is held already.
func (l *ladder) group(ids []int32) {
	l.key = l.key[:0]
	for _, id := range ids {
		l.key = append(l.key, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	if _, known := l.groups.index[string(l.key)]; known {
		return
	}
	if l.groups.index == nil {
		l.groups.index = make(map[string]struct{})
	}
	l.groups.index[string(l.key)] = struct{}{}
	l.groups.flat = append(l.groups.flat, ids...)
	l.bytes += 8 * len(ids)
}

// climb takes the next step: what is held on this rung is forgotten.
func (l *ladder) climb(seed maphash.Seed) {
	if l.rung == 0 {
		own := l.levels[0].values
		l.collapsed += len(own)
		if l.counted == nil && len(l.overs) > 1 {
			l.startCounting(seed)
		}
	}
	l.rung++
	if l.rung == len(l.overs) {
		l.counted = nil // no step is left to take
	}
	flat := l.groups.flat
	l.groups = groups{}
	for i := range l.levels[:l.rung] {
		l.levels[i] = level{}
	}
	l.bytes = 0
	for i := range l.levels {
		for _, v := range l.levels[i].values {
			l.bytes += len(v.Value) + 1
		}
	}
	for len(flat) > 0 {
		group := flat[1+flat[0]:] // without the rung that was left
		end := 0
		for range len(l.levels) - l.rung {
			end += 1 + int(group[end])
		}
		l.group(group[:end])
		flat = group[end:]
	}
}

func (l *ladder) startCounting(seed maphash.Seed) {
	l.counted = make(map[uint64]struct{}, len(l.levels[0].values))
	for _, v := range l.levels[0].values {
		l.count(seed, v.Kind, []byte(v.Value))
	}
}

// handOn gives what is held to a function, group by group, and forgets it. What
// follows in the transaction is counted together with it.
func (l *ladder) handOn(seed maphash.Seed, hand func(Group) error) error {
	if l.rung == 0 && len(l.levels) > 0 && l.counted == nil {
		l.startCounting(seed)
	}
	defer l.empty()
	for flat := l.groups.flat; len(flat) > 0; {
		g := Group{Rule: l.rule, Sink: l.sink}
		for i := l.rung; i < len(l.levels); i++ {
			texts := make([]Text, flat[0])
			for n, place := range flat[1 : 1+flat[0]] {
				texts[n] = l.levels[i].values[place]
			}
			flat = flat[1+flat[0]:]
			if i == l.rung {
				g.Values = texts
				continue
			}
			g.Coarser = append(g.Coarser, Coarser{Over: l.overs[i-1], Values: texts})
		}
		if err := hand(g); err != nil {
			return err
		}
	}
	return nil
}
