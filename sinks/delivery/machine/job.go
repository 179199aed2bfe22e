package machine

import (
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// job is what one turn of a lane purges, and what follows from it once that is
// done.
type job struct {
	invs  []invalidation.Invalidation
	flush bool
	// met are the deferred values that this purge carries out.
	met []*wait
	// paced are the values of rules with a period that are purged, or that coarser
	// ones replace.
	paced []paced
	// later are the values that this turn puts off.
	later []putOff
	// coarser has the items of values that have something coarser.
	coarser   map[value][]*invalidation.Item
	collapsed map[string]int
	coalesced int
	// refused are those of invs that the sink refused for good, instead what was
	// purged in place of some.
	refused, instead []invalidation.Invalidation
	// aside are those that failed and wait beside the queue; see stuckKinds.
	aside []invalidation.Invalidation
	// twice is what is purged again later: invs, but for what a manual purge
	// flushes.
	twice []invalidation.Invalidation
}

type paced struct {
	value
	every time.Duration
}

type putOff struct {
	value
	ready int // place in the group
	item  *invalidation.Item
	due   time.Time
}

// want is an item with those of its values that are to be purged now.
type want struct {
	item   *invalidation.Item
	ready  int // place in the group; -1: a value that was deferred and is due
	values []value
	later  []putOff
}

// plan decides what a group's turn amounts to: what is purged now, what is put
// off because of its period, and what coarser values replace.
func (m *Machine) plan(group []Ready, now time.Time) *job {
	j := &job{collapsed: map[string]int{}}
	covered := false
	for i, r := range group {
		if group[i].skipped = m.Skips(r.Msg); group[i].skipped {
			continue
		}
		if group[i].covered = m.coveredBy(r.Msg); group[i].covered {
			covered = true
			continue
		}
		j.flush = j.flush || r.Msg.Batch != nil && r.Msg.Batch.Flush && !m.flusher.on()
	}
	var wants []want
	free := m.unpaced(group)
	for i, r := range group {
		b := r.Msg.Batch
		if b == nil || r.covered || r.skipped {
			continue
		}
		for n := range b.Items {
			w := want{item: &b.Items[n], ready: i}
			for k, texts := range w.item.Values {
				w.values = slices.Grow(w.values, len(texts))
				for _, text := range texts {
					v := value{invalidation.Kind(k), text}
					if w.item.Every > 0 && !j.flush && !b.Flush && b.Origin == invalidation.FromWAL {
						if due, early := m.pacer.early(v, w.item.Every, now); early && !free[v] {
							w.later = append(w.later, putOff{v, i, w.item, due})
							continue
						}
					}
					w.values = append(w.values, v)
				}
			}
			wants = append(wants, w)
		}
	}
	if j.flush {
		now = now.Add(invalidation.MaxEvery) // a flush carries out all that was deferred
	}
	j.met = m.pacer.take(now)
	for _, w := range j.met {
		for _, item := range w.items {
			wants = append(wants, want{item: item, ready: -1, values: []value{w.value}})
		}
	}
	j.decide(wants)
	j.join(m.pacer)
	j.twice = j.invs
	if covered {
		j.twice = Distinct(m.superseded.job.msg.Batch.Invalidations(slices.Clone(j.invs)))
		j.invs = Distinct(append(j.invs, m.superseded.all...))
	}
	return j
}

// unpaced are the values that some rule without a period asks for.
func (m *Machine) unpaced(group []Ready) map[value]bool {
	var plain, paced []*invalidation.Item
	for _, r := range group {
		if r.Msg.Batch == nil {
			continue
		}
		for i := range r.Msg.Batch.Items {
			if item := &r.Msg.Batch.Items[i]; item.Every > 0 {
				paced = append(paced, item)
			} else {
				plain = append(plain, item)
			}
		}
	}
	if len(paced) == 0 {
		return nil
	}
	out := make(map[value]bool)
	for _, item := range plain {
		for k, texts := range item.Values {
			for _, text := range texts {
				out[value{invalidation.Kind(k), text}] = true
			}
		}
	}
	return out
}

// decide takes for every item its exact values, or those of the last step whose
// over the values of its rule exceed that are to be purged now.
func (j *job) decide(wants []want) {
	counts := make(map[string]map[value]struct{})
	for _, w := range wants {
		if len(w.item.Coarser) == 0 {
			continue
		}
		if counts[w.item.Rule] == nil {
			counts[w.item.Rule] = make(map[value]struct{})
		}
		for _, v := range w.values {
			counts[w.item.Rule][v] = struct{}{}
		}
	}
	most := 0
	for _, w := range wants {
		most += len(w.values)
	}
	seen := make(map[value]struct{}, most)
	j.invs = slices.Grow(j.invs, most)
	add := func(rule string, v value) bool {
		known := len(seen)
		if seen[v] = struct{}{}; len(seen) == known {
			return false
		}
		j.invs = append(j.invs, invalidation.Invalidation{Kind: v.kind, Value: v.text, Rule: rule})
		return true
	}
	for _, w := range wants {
		step := -1
		for i, c := range w.item.Coarser {
			if len(counts[w.item.Rule]) > c.Over {
				step = i
			}
		}
		if w.item.Every > 0 {
			for _, v := range w.values {
				j.paced = append(j.paced, paced{v, w.item.Every})
			}
		}
		if step >= 0 {
			// They replace what would have been deferred, too.
			for k, texts := range w.item.Coarser[step].Values {
				for _, text := range texts {
					add(w.item.Rule, value{invalidation.Kind(k), text})
				}
			}
			j.collapsed[w.item.Rule] += len(w.values) + len(w.later)
			continue
		}
		for _, v := range w.values {
			if len(w.item.Coarser) > 0 {
				if j.coarser == nil {
					j.coarser = make(map[value][]*invalidation.Item)
				}
				j.coarser[v] = append(j.coarser[v], w.item)
			}
			if !add(w.item.Rule, v) && w.ready >= 0 {
				j.coalesced++
			}
		}
		j.later = append(j.later, w.later...)
	}
}

// join lets values that were deferred, and are not due, or were to be, go with
// equal ones that are purged now.
func (j *job) join(p *pacer) {
	if len(p.waits) == 0 && len(j.later) == 0 {
		return
	}
	now := make(map[value]bool, len(j.invs))
	for _, inv := range j.invs {
		v := value{inv.Kind, inv.Value}
		now[v] = true
		if w, waits := p.waits[v]; waits {
			j.met = append(j.met, p.remove(w))
			j.paced = append(j.paced, paced{w.value, w.every})
		}
	}
	j.later = slices.DeleteFunc(j.later, func(d putOff) bool { return now[d.value] })
}

// sources are the messages that a turn's values come from.
func (j *job) sources(group []Ready) []Ready {
	out := slices.Clone(group)
	for _, w := range j.met {
		for _, o := range w.deferrals {
			out = append(out, o.ready)
		}
	}
	return out
}
