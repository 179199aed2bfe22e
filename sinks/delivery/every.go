package delivery

import (
	"container/heap"
	"time"

	"github.com/walpurge/walpurge/rules"
)

const (
	// maxPutOff and maxPutOffValues bound the messages, and the values in them,
	// that are not acknowledged because a value is put off: its own and those
	// behind it that are done. Past them the oldest value is purged before its
	// time. It is a quarter of what the stream hands out unacknowledged.
	maxPutOff       = 4096
	maxPutOffValues = 100_000
	// maxPaced bounds the values whose last purge is remembered. One that is
	// forgotten is purged at once.
	maxPaced = 100_000
)

// value is what is purged, whatever rules ask for it.
type value struct {
	kind rules.Kind
	text string
}

// pacer knows which values were purged lately, and which are put off until
// their period is over. It belongs to the lane's goroutine.
type pacer struct {
	last map[value]time.Time
	// order lists the values of last as they were noted, to forget the oldest.
	order []noted
	waits map[value]*wait
	due   waitHeap
	// owed are the messages with values put off, oldest first.
	owed []*owed
}

type noted struct {
	value
	until time.Time
}

// wait is a value that is put off. What asks for it meanwhile shares its purge.
type wait struct {
	value
	rule  string
	every time.Duration
	due   time.Time
	place int // in the heap
	owed  []*owed
	// items are those that asked, for what stands for the value in its rule.
	items []*rules.Item
}

// owed is a message that is done but for values put off.
type owed struct {
	ready ready
	left  int
	waits []*wait
}

func newPacer() *pacer { return &pacer{last: map[value]time.Time{}, waits: map[value]*wait{}} }

// early reports whether a value was purged less than its period ago, and when
// that is over.
func (p *pacer) early(v value, every time.Duration, now time.Time) (due time.Time, yes bool) {
	at, known := p.last[v]
	due = at.Add(every)
	return due, known && now.Before(due)
}

// note remembers a purge that was done at some time.
func (p *pacer) note(v value, every time.Duration, now time.Time) {
	p.last[v] = now
	p.order = append(p.order, noted{v, now.Add(every)})
	forget := 0
	for forget < len(p.order) && (!now.Before(p.order[forget].until) || len(p.order)-forget > maxPaced) {
		// A later purge of the same value stands further back.
		if o := p.order[forget]; !p.last[o.value].After(o.until.Add(-every)) {
			delete(p.last, o.value)
		}
		forget++
	}
	p.order = p.order[forget:]
}

// putOff makes a message wait for a value's next purge. shared reports that the
// value waited already.
func (p *pacer) putOff(o *owed, v value, item *rules.Item, due time.Time) (shared bool) {
	w, shared := p.waits[v]
	if !shared {
		w = &wait{value: v, rule: item.Rule, every: item.Every, due: due}
		p.waits[v] = w
		heap.Push(&p.due, w)
	}
	w.items = append(w.items, item)
	if n := len(w.owed); n == 0 || w.owed[n-1] != o {
		w.owed = append(w.owed, o)
		o.waits = append(o.waits, w)
		o.left++
	}
	return shared
}

// next returns when the first value is due.
func (p *pacer) next() (time.Time, bool) {
	if len(p.due) == 0 {
		return time.Time{}, false
	}
	return p.due[0].due, true
}

// take removes and returns the values that are due.
func (p *pacer) take(now time.Time) []*wait {
	var out []*wait
	for len(p.due) > 0 && !now.Before(p.due[0].due) {
		out = append(out, p.remove(p.due[0]))
	}
	return out
}

func (p *pacer) remove(w *wait) *wait {
	heap.Remove(&p.due, w.place)
	delete(p.waits, w.value)
	return w
}

// done notes that values put off were purged, and returns the messages that owe
// nothing any more.
func (p *pacer) done(met []*wait) []ready {
	var out []ready
	for _, w := range met {
		for _, o := range w.owed {
			if o.left--; o.left == 0 {
				out = append(out, o.ready)
			}
		}
	}
	n := 0
	for n < len(p.owed) && p.owed[n].left == 0 {
		p.owed[n] = nil
		n++
	}
	p.owed = p.owed[n:]
	return out
}

// hurry makes the values of the oldest message due.
func (p *pacer) hurry(now time.Time) {
	if len(p.owed) == 0 {
		return
	}
	for _, w := range p.owed[0].waits {
		if p.waits[w.value] == w && now.Before(w.due) {
			w.due = now
			heap.Fix(&p.due, w.place)
		}
	}
}

// waitHeap orders values by when they are due.
type waitHeap []*wait

func (h waitHeap) Len() int           { return len(h) }
func (h waitHeap) Less(i, j int) bool { return h[i].due.Before(h[j].due) }

func (h waitHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].place, h[j].place = i, j
}

// Push implements heap.Interface.
func (h *waitHeap) Push(x any) {
	w := x.(*wait)
	w.place = len(*h)
	*h = append(*h, w)
}

// Pop implements heap.Interface.
func (h *waitHeap) Pop() any {
	old := *h
	w := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return w
}
