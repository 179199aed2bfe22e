package webhook

import (
	"encoding/json"
	"strconv"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// itemLayout is how an item of a body holds the values that one rule asked for: as an item of the
// stream does. Everything is a member of the body.
var itemLayout = invalidation.NewLayout(invalidation.AllKinds&^invalidation.Kinds(invalidation.Everything), invalidation.Required())

// encode writes the fixed form of a body, version 1: items in the order in which their rules come.
// What else a stream message has (positions, times) belongs to one transaction, and a batch can be
// of many.
func encode(batch []invalidation.Invalidation) []byte {
	type item struct {
		rule   string
		values invalidation.Values
	}
	var items []item
	everything := false
	place := make(map[string]int)
	for _, inv := range batch {
		if inv.Kind == invalidation.Everything {
			everything = true
			continue
		}
		n, known := place[inv.Rule]
		if !known {
			n = len(items)
			place[inv.Rule] = n
			items = append(items, item{rule: inv.Rule})
		}
		items[n].values[inv.Kind] = append(items[n].values[inv.Kind], inv.Value)
	}
	out := []byte(`{"v":1,"items":[`)
	for i := range items {
		if i > 0 {
			out = append(out, ',')
		}
		rule, _ := json.Marshal(items[i].rule) // a text never fails
		out = append(append(out, `{"rule":`...), rule...)
		out = append(itemLayout.Append(out, &items[i].values), '}')
	}
	out = strconv.AppendBool(append(out, `],"everything":`...), everything)
	return append(out, '}')
}
