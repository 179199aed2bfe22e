package delivery

import (
	"context"
	"time"

	"golang.org/x/time/rate"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// Buckets are the token buckets of all lanes. It is not safe for concurrent use;
// the paces that it makes are.
type Buckets struct {
	shared map[string]*rate.Limiter
}

// NewBuckets returns an empty set.
func NewBuckets() *Buckets { return &Buckets{shared: make(map[string]*rate.Limiter)} }

// Pace holds calls of one lane back until its budgets have room. The zero Pace
// holds nothing back.
type Pace struct {
	charges []charge
}

type charge struct {
	bucket *rate.Limiter
	cost   func(batch []invalidation.Invalidation) int
}

// Pace makes the pace of a lane that spends from these budgets. Those that share
// a name share a bucket, which gets the smaller of their numbers: of two
// statements about one limit, the careful one holds.
func (b *Buckets) Pace(budgets ...sinks.Budget) Pace {
	var p Pace
	for _, budget := range budgets {
		if budget.PerSecond <= 0 {
			continue
		}
		perSecond, burst := rate.Limit(budget.PerSecond), max(1, budget.Burst)
		bucket := b.shared[budget.Share]
		if bucket == nil || budget.Share == "" {
			bucket = rate.NewLimiter(perSecond, burst)
		}
		if budget.Share != "" {
			bucket.SetLimit(min(bucket.Limit(), perSecond))
			bucket.SetBurst(min(bucket.Burst(), burst))
			b.shared[budget.Share] = bucket
		}
		p.charges = append(p.charges, charge{bucket, budget.Cost})
	}
	return p
}

// Wait blocks until every bucket has given what a call with these invalidations
// costs, or the context ends, whose error it then returns.
func (p Pace) Wait(ctx context.Context, batch []invalidation.Invalidation) error {
	for _, c := range p.charges {
		cost := 1
		if c.cost != nil {
			cost = c.cost(batch)
		}
		// A bucket never holds more than its burst.
		for cost > 0 {
			n := min(cost, c.bucket.Burst())
			if err := c.bucket.WaitN(ctx, n); err != nil {
				return err
			}
			cost -= n
		}
	}
	return nil
}

// Duration is how long the buckets hold calls with these invalidations back, from what they
// hold now: until the last one may be made, if nothing else spends from them.
func (p Pace) Duration(calls [][]invalidation.Invalidation) (longest time.Duration) {
	for _, c := range p.charges {
		cost := 0
		for _, call := range calls {
			if c.cost == nil {
				cost++
			} else {
				cost += c.cost(call)
			}
		}
		if missing := float64(cost) - c.bucket.Tokens(); cost > 0 && missing > 0 {
			longest = max(longest, time.Duration(missing/float64(c.bucket.Limit())*float64(time.Second)))
		}
	}
	return longest
}

// tightest returns the state of the bucket with the least room, false if the pace
// holds nothing back.
func (p Pace) tightest() (tokens, perSecond float64, limited bool) {
	for _, c := range p.charges {
		if t := c.bucket.Tokens(); !limited || t < tokens {
			tokens, perSecond, limited = t, float64(c.bucket.Limit()), true
		}
	}
	return tokens, perSecond, limited
}
