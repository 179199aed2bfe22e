package router

import (
	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// grouped is the item of a batch that holds values of one rule with so many
// steps above them: values of different rungs have nothing in common.
type grouped struct {
	item  int
	seen  map[rules.Text]struct{}
	steps []map[rules.Text]struct{}
}

type groupKey struct{ rule, steps int }

// addGroup takes values with what replaces them, so that whatever batch they
// land in is complete in itself.
func (b *builder) addGroup(g rules.Group, tx *cdc.Txn) {
	b.note(tx)
	if len(g.Coarser) == 0 {
		for _, v := range g.Values {
			b.add(g.Rule, v.Kind, []byte(v.Value), tx)
		}
		return
	}
	key := groupKey{g.Rule, len(g.Coarser)}
	at, known := b.groups[key]
	if !known {
		at = &grouped{item: len(b.items), seen: make(map[rules.Text]struct{}), steps: make([]map[rules.Text]struct{}, len(g.Coarser))}
		item := b.item(g.Rule)
		for i, c := range g.Coarser {
			at.steps[i] = make(map[rules.Text]struct{})
			item.Coarser = append(item.Coarser, invalidation.CoarserValues{Over: c.Over})
		}
		b.items = append(b.items, item)
		b.groups[key] = at
	}
	item := &b.items[at.item]
	b.count += b.merge(at.seen, &item.Values, g.Values)
	for i, c := range g.Coarser {
		b.merge(at.steps[i], &item.Coarser[i].Values, c.Values)
	}
}

// merge adds the values that are new and returns their number.
func (b *builder) merge(seen map[rules.Text]struct{}, to *invalidation.Values, values []rules.Text) (added int) {
	for _, v := range values {
		if _, dup := seen[v]; dup {
			continue
		}
		seen[v] = struct{}{}
		to[v.Kind] = append(to[v.Kind], v.Value)
		b.bytes += len(v.Value)
		added++
	}
	return added
}
