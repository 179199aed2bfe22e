package machine

import (
	"slices"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// value is what is purged, whatever rules ask for it.
type value struct {
	kind invalidation.Kind
	text string
}

// Distinct drops repeated values in place, whatever rules they come from.
func Distinct(all []invalidation.Invalidation) []invalidation.Invalidation {
	seen := make(map[value]struct{}, len(all))
	out := all[:0]
	for _, inv := range all {
		v := value{inv.Kind, inv.Value}
		if _, dup := seen[v]; !dup {
			seen[v] = struct{}{}
			out = append(out, inv)
		}
	}
	return out
}

// without returns those of the invalidations that are not among others.
func without(all, others []invalidation.Invalidation) []invalidation.Invalidation {
	if len(others) == 0 {
		return all
	}
	drop := make(map[value]bool, len(others))
	for _, inv := range others {
		drop[value{inv.Kind, inv.Value}] = true
	}
	return slices.DeleteFunc(slices.Clone(all), func(inv invalidation.Invalidation) bool { return drop[value{inv.Kind, inv.Value}] })
}

// kindsOf lists the kinds of invalidations, each once, in order.
func kindsOf(invs []invalidation.Invalidation) (kinds []invalidation.Kind) {
	for _, inv := range invs {
		if !slices.Contains(kinds, inv.Kind) {
			kinds = append(kinds, inv.Kind)
		}
	}
	return kinds
}

// ofKind returns the invalidations of a kind.
func ofKind(invs []invalidation.Invalidation, kind invalidation.Kind) (out []invalidation.Invalidation) {
	for _, inv := range invs {
		if inv.Kind == kind {
			out = append(out, inv)
		}
	}
	return out
}

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
