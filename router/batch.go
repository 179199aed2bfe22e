package router

import (
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Limits of one batch: it is published early when it reaches one of them.
const (
	maxValues = 2000
	maxBytes  = 48 << 10
	maxXIDs   = 4000
)

// builder collects the invalidations for one sink since the last batch, each
// value of a rule once.
type builder struct {
	stamped
	sink  string
	rules []*rules.Rule
	seen  map[string]struct{}
	items []invalidation.Item
	place []int // rule index -> place in items plus one
	count int
	bytes int
	flush bool
	key   []byte
	// fallbacks are for each rule the place in items, plus one, of what replaces values that could
	// not be built.
	fallbacks []int
	// groups are the items that hold values with coarser ones.
	groups map[groupKey]*grouped
}

func newBuilder(sink string, all []*rules.Rule) *builder {
	return &builder{
		sink: sink, rules: all, seen: make(map[string]struct{}), place: make([]int, len(all)), fallbacks: make([]int, len(all)), groups: make(map[groupKey]*grouped),
	}
}

func (b *builder) item(rule int) invalidation.Item {
	return invalidation.Item{Rule: b.rules[rule].Name, Every: b.rules[rule].Every}
}

// add takes a value; it is copied only if it is new in this batch.
func (b *builder) add(rule int, kind invalidation.Kind, value []byte, tx *cdc.Txn) {
	b.note(tx)
	b.put(rule, kind, value)
}

// put takes a value of transactions that are noted already.
func (b *builder) put(rule int, kind invalidation.Kind, value []byte) {
	if kind == invalidation.Everything {
		b.flush = true
		return
	}
	b.key = append(b.key[:0], byte(kind), byte(rule), byte(rule>>8))
	b.key = append(b.key, value...)
	if _, dup := b.seen[string(b.key)]; dup {
		return
	}
	k := string(b.key)
	b.seen[k] = struct{}{}
	if b.place[rule] == 0 {
		b.items = append(b.items, b.item(rule))
		b.place[rule] = len(b.items)
	}
	values := &b.items[b.place[rule]-1].Values[kind]
	*values = append(*values, k[3:])
	b.count++
	b.bytes += len(value)
}

// fallback takes what replaces values that could not be built, of transactions that are noted
// already. It has an item of its own in which the rule's period, if it has one, is long enough.
func (b *builder) fallback(rule int, f *rules.Fallback) {
	if b.fallbacks[rule] == 0 {
		b.items = append(b.items, invalidation.Item{Rule: b.rules[rule].Name, Every: max(b.rules[rule].Every, invalidation.FallbackEvery)})
		b.fallbacks[rule] = len(b.items)
	}
	item := &b.items[b.fallbacks[rule]-1]
	if f.Parked() {
		for i := range item.Unbuilt {
			if u := &item.Unbuilt[i]; u.Template == f.Template && u.Of == f.Of {
				u.Count++
				return
			}
		}
		item.Unbuilt = append(item.Unbuilt, invalidation.Unbuilt{Template: f.Template, Of: f.Of, Count: 1})
		return
	}
	if values := &item.Values[f.Kind]; !slices.Contains(*values, f.Value) {
		*values = append(*values, f.Value)
	}
}

// empty reports that there is nothing to publish.
func (b *builder) empty() bool { return len(b.items) == 0 && !b.flush }

// full reports that the batch should be published before more is added.
func (b *builder) full() bool {
	return b.count >= maxValues || b.bytes >= maxBytes || len(b.xids) >= maxXIDs
}

// take returns the batch and starts a new one.
func (b *builder) take(start cdc.Position) *invalidation.Batch {
	out := &invalidation.Batch{Sink: b.sink, Origin: invalidation.FromWAL, Items: b.items, Flush: b.flush, Stamp: b.stamp(start)}
	if b.flush {
		out.Reason = invalidation.FlushTruncate
	}
	clear(b.seen)
	clear(b.place)
	clear(b.fallbacks)
	clear(b.groups)
	// What was handed on is the publisher's now, and sizes hint at the next.
	*b = builder{
		sink: b.sink, rules: b.rules, seen: b.seen, place: b.place, fallbacks: b.fallbacks, key: b.key, groups: b.groups,
		items: make([]invalidation.Item, 0, len(b.items)), stamped: stamped{xids: slices.Grow([]uint64(nil), min(len(b.xids), 64))},
	}
	return out
}
