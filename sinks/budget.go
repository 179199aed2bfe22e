package sinks

import "github.com/walpurge/walpurge/rules"

// Budget is a token bucket that calls of a sink are taken from, for limits that
// one token a call does not say: a provider's that go by requests where a call
// makes several, by items, by kind, or that hold for more than one sink.
type Budget struct {
	// Share names the bucket: budgets of the same name are one, with the smaller
	// numbers of them. Empty means a bucket of its own.
	Share string
	// PerSecond tokens come in, up to Burst. PerSecond 0 means without limit.
	PerSecond float64
	Burst     int
	// Cost is how many tokens a call with these invalidations takes, 0 for none;
	// nil means one.
	Cost func(batch []rules.Invalidation) int
}

// Budget is the bucket that PerSecond and Burst describe.
func (l Limits) Budget(share string) Budget {
	return Budget{Share: share, PerSecond: l.PerSecond, Burst: l.Burst}
}

// ItemsOf is the largest number of invalidations of a kind in one call.
func (l Limits) ItemsOf(k rules.Kind) int {
	if n := l.ByKind[k]; n > 0 {
		return n
	}
	return l.Items
}
