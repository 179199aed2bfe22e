package sinks

import "github.com/walpurge/walpurge/rules/invalidation"

// Budget is a token bucket that calls of a sink are taken from: a provider's limit of
// requests, of items, or of one kind, for one sink or for several.
type Budget struct {
	// Share names the bucket: budgets of the same name are one, with the smaller
	// numbers of them. Empty means a bucket of its own.
	Share string
	// PerSecond tokens come in, up to Burst. PerSecond 0 means without limit.
	PerSecond float64
	Burst     int
	// Cost is how many tokens a call with these invalidations takes, 0 for none;
	// nil means one.
	Cost func(batch []invalidation.Invalidation) int
}

// ItemsOf is the largest number of invalidations of a kind in one call.
func (l Limits) ItemsOf(k invalidation.Kind) int {
	if n := l.ByKind[k]; n > 0 {
		return n
	}
	return l.Items
}
