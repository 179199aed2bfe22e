package router

import (
	"slices"

	"github.com/walpurge/walpurge/rules"
)

// largest bounds the bytes of values in one message of the stream. One change or
// one message of the log may ask for more than a batch is cut at otherwise.
const largest = 8 * maxBytes

// split cuts a batch so that each part can be carried by the stream. All parts
// have the whole stamp.
func split(b *rules.Batch) []*rules.Batch {
	part := func() *rules.Batch {
		return &rules.Batch{Sink: b.Sink, Origin: b.Origin, Stamp: b.Stamp}
	}
	total := 0
	for i := range b.Items {
		total += sizeOf(&b.Items[i])
	}
	if total <= largest {
		return []*rules.Batch{b}
	}
	out := []*rules.Batch{part()}
	out[0].Flush, out[0].Reason = b.Flush, b.Reason
	size := 0
	for i := range b.Items {
		item := rules.Item{Rule: b.Items[i].Rule}
		for k, values := range b.Items[i].Values {
			for _, v := range values {
				if size += len(v); size > largest {
					out[len(out)-1].Items = append(out[len(out)-1].Items, item)
					out = append(out, part())
					item, size = rules.Item{Rule: item.Rule}, len(v)
				}
				item.Values[k] = append(item.Values[k], v)
			}
		}
		if sizeOf(&item) > 0 {
			out[len(out)-1].Items = append(out[len(out)-1].Items, item)
		}
	}
	return slices.DeleteFunc(out, func(b *rules.Batch) bool { return len(b.Items) == 0 && !b.Flush })
}

func sizeOf(item *rules.Item) int {
	size := 0
	for _, values := range item.Values {
		for _, v := range values {
			size += len(v)
		}
	}
	return size
}
