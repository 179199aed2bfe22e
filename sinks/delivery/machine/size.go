package machine

import "github.com/walpurge/walpurge/rules/invalidation"

// bytesOf is about what a message takes in the stream.
func bytesOf(b *invalidation.Batch) int64 {
	const envelope, quotes = 400, 3
	n := envelope
	add := func(values *invalidation.Values) {
		for _, texts := range values {
			for _, text := range texts {
				n += len(text) + quotes
			}
		}
	}
	if b != nil {
		for i := range b.Items {
			add(&b.Items[i].Values)
			for s := range b.Items[i].Coarser {
				add(&b.Items[i].Coarser[s].Values)
			}
		}
	}
	return int64(n)
}

// longValue is the length from which a value counts as several, so that bounds on the number of
// values are bounds on memory, too.
const longValue = 512

// SizeOf is the number of values in a batch; long ones count more.
func SizeOf(b *invalidation.Batch) int {
	n := 0
	if b != nil {
		for i := range b.Items {
			for _, values := range b.Items[i].Values {
				n += len(values)
				for _, v := range values {
					n += len(v) / longValue
				}
			}
		}
	}
	return n
}
