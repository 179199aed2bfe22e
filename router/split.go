package router

import (
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// largest bounds the bytes of values in one message of the stream, as JSON. One change
// or one message of the log may ask for more than a batch is cut at otherwise.
const (
	largest = 8 * maxBytes
	escaped = len(`\u0000`) // what JSON makes of one byte at most
)

// split cuts a batch so that each part can be carried by the stream. All parts
// have the whole stamp.
func split(b *invalidation.Batch) []*invalidation.Batch {
	part := func() *invalidation.Batch {
		return &invalidation.Batch{Sink: b.Sink, Origin: b.Origin, Stamp: b.Stamp}
	}
	total := 0
	for i := range b.Items {
		total += sizeOf(&b.Items[i])
	}
	if total <= largest/escaped {
		return []*invalidation.Batch{b}
	}
	out := []*invalidation.Batch{part()}
	out[0].Flush, out[0].Reason = b.Flush, b.Reason
	size := 0
	for i := range b.Items {
		item := like(&b.Items[i])
		item.Unbuilt = b.Items[i].Unbuilt
		for k, values := range b.Items[i].Values {
			for _, v := range values {
				if size += jsonLen(v); size > largest {
					out[len(out)-1].Items = append(out[len(out)-1].Items, item)
					out = append(out, part())
					item, size = like(&b.Items[i]), jsonLen(v)
				}
				item.Values[k] = append(item.Values[k], v)
			}
		}
		if sizeOf(&item) > 0 || len(item.Unbuilt) > 0 {
			out[len(out)-1].Items = append(out[len(out)-1].Items, item)
		}
	}
	return slices.DeleteFunc(out, func(b *invalidation.Batch) bool { return len(b.Items) == 0 && !b.Flush })
}

// like is an item without values: what holds for some of them holds for each.
func like(item *invalidation.Item) invalidation.Item {
	return invalidation.Item{Rule: item.Rule, Every: item.Every, Coarser: item.Coarser}
}

func sizeOf(item *invalidation.Item) int {
	size := 0
	for _, values := range item.Values {
		for _, v := range values {
			size += len(v)
		}
	}
	return size
}

// jsonLen is how long a value may become in the payload, which is JSON.
func jsonLen(v string) int {
	n := len(v)
	for i := range len(v) {
		if c := v[i]; c < ' ' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' || c >= 0x7f {
			n += escaped - 1
		}
	}
	return n
}
