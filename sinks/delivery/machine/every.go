package machine

import (
	"container/heap"
	"slices"
	"time"

	"github.com/walpurge/walpurge/rules/invalidation"
)

const (
	// MaxDeferred and maxDeferredValues bound the messages, and the values in them,
	// that are not acknowledged because a value is deferred: its own and those
	// behind it that are done. Past them the oldest value is purged before its
	// time. It is a quarter of what the stream hands out unacknowledged.
	MaxDeferred       = 4096
	maxDeferredValues = 100_000
	// maxPassed and maxPassedXIDs bound the messages, and the transactions in them, that are
	// acknowledged because newer ones hold what they deferred. They are in memory only.
	maxPassed     = 1 << 17
	maxPassedXIDs = 1 << 18
	// maxPaced bounds the values whose last purge is remembered. One that is
	// forgotten is purged at once.
	maxPaced = 100_000
)

// pacer knows which values were purged lately, and which are deferred until
// their period is over. It belongs to the machine.
type pacer struct {
	last map[value]time.Time
	// order lists the values of last as they were noted, to forget the oldest.
	order []noted
	waits map[value]*wait
	due   waitHeap
	// deferrals are the messages with deferred values, oldest first.
	deferrals []*deferral
	// passable are messages that may have passed on all that they lack.
	passable []*deferral
}

type noted struct {
	value
	until time.Time
}

// wait is a value that is deferred. What asks for it meanwhile shares its purge.
type wait struct {
	value
	rule      string
	every     time.Duration
	due       time.Time
	place     int // in the heap
	deferrals []*deferral
	// holder is the newest message with the value. As long as the stream holds that, it need
	// not hold the others for it.
	holder *deferral
	// items are those that asked, for what replaces the value in its rule. Those without
	// coarser values say the same, so there is one of them at most.
	items []*invalidation.Item
	// coarse is set where an item has coarser values. Then each message keeps its own.
	coarse bool
}

// deferral is a message that is done but for deferred values.
type deferral struct {
	ready Ready
	left  int
	waits []*wait
	// passed is how many of what is left a newer message has, too; acked that all are and the
	// stream was told.
	passed int
	acked  bool
	// values is the size of the message.
	values int
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
func (p *pacer) putOff(o *deferral, v value, item *invalidation.Item, due time.Time) (shared bool) {
	w, shared := p.waits[v]
	if !shared {
		w = &wait{value: v, rule: item.Rule, every: item.Every, due: due}
		p.waits[v] = w
		heap.Push(&p.due, w)
	}
	coarse := len(item.Coarser) > 0
	if len(w.items) == 0 || coarse || w.coarse {
		w.items = append(w.items, item)
	}
	w.coarse = w.coarse || coarse
	if n := len(w.deferrals); n == 0 || w.deferrals[n-1] != o {
		w.deferrals = append(w.deferrals, o)
		o.waits = append(o.waits, w)
		o.left++
		p.hold(w, o)
	}
	return shared
}

// hold makes the newer of two messages the one that keeps a value in the stream.
func (p *pacer) hold(w *wait, o *deferral) {
	older := w.holder
	if older == nil || o.ready.Msg.Seq >= older.ready.Msg.Seq {
		w.holder = o
	} else {
		older = o
	}
	if older != nil {
		older.passed++
		p.passable = append(p.passable, older)
	}
}

// passedOn returns the messages of which newer ones have all that is left, too, and forgets
// what they hold beside their stamps. With second, each message keeps in the stream what is to be
// purged a second time, so none is passed on. Nor is one that lacks values that are set aside.
func (p *pacer) passedOn(second bool, lacking map[*Entry]*incomplete) []*Entry {
	var out []*Entry
	for _, o := range p.passable {
		switch {
		case o.acked || o.left == 0 || o.passed < o.left || !o.ready.Final:
		case second, lacking[o.ready.entry] != nil:
		case slices.ContainsFunc(o.waits, func(w *wait) bool { return w.coarse }):
		default:
			o.acked, o.ready.passed = true, true
			b := o.ready.Msg.Batch
			o.ready.Msg.Batch = &invalidation.Batch{Sink: b.Sink, Origin: b.Origin, Stamp: b.Stamp}
			out = append(out, o.ready.entry)
		}
	}
	p.passable = p.passable[:0]
	return out
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

// done notes that deferred values were purged, and returns the messages that have
// nothing any more.
func (p *pacer) done(met []*wait) []Ready {
	var out []Ready
	for _, w := range met {
		for _, o := range w.deferrals {
			if o != w.holder {
				o.passed--
			}
			if o.left--; o.left == 0 {
				out = append(out, o.ready)
				continue
			}
			p.passable = append(p.passable, o)
		}
	}
	n := 0
	for n < len(p.deferrals) && p.deferrals[n].left == 0 {
		p.deferrals[n] = nil
		n++
	}
	p.deferrals = p.deferrals[n:]
	return out
}

// hurry makes the values of the oldest message due.
func (p *pacer) hurry(now time.Time) {
	if len(p.deferrals) == 0 {
		return
	}
	for _, w := range p.deferrals[0].waits {
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
