package router

import (
	"context"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/rules"
)

// publish sends what every sink has, once what waits for the database has its
// answers: a claim of the same transactions comes after both.
func (r *Router) publish(ctx context.Context) error {
	if err := r.resolve(ctx); err != nil {
		return err
	}
	return r.sendAll(ctx)
}

// sendAll publishes in the order of the sinks, so that a batch never overtakes
// what the same rows mean for a sink before it. In the middle of a transaction
// that goes for what the tally holds, too: all of it that belongs before the last
// batch is handed on.
func (r *Router) sendAll(ctx context.Context) error {
	last := len(r.builders) - 1
	for last >= 0 && r.builders[last].empty() {
		last--
	}
	for sink := range last {
		if err := r.handOn(ctx, sink); err != nil {
			return err
		}
	}
	return r.send(ctx, last)
}

// send publishes the batches of the sinks up to one.
func (r *Router) send(ctx context.Context, last int) error {
	for sink := range last + 1 {
		if b := r.builders[sink]; !b.empty() {
			for _, part := range split(b.take(r.start)) {
				failpoint.Crash("evaluated")
				if err := r.cfg.Publisher.Publish(ctx, part); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// handOn takes what the tally holds for a sink into its batch, and sends that
// whenever it is full. What the sinks before it hold has been handed on already.
func (r *Router) handOn(ctx context.Context, sink int) error {
	b := r.builders[sink]
	return r.tally.HandOn(sink, func(g rules.Group) error {
		for _, v := range g.Values {
			r.counters.invalidation(g.Rule, sink, v.Kind)
		}
		b.addGroup(g, r.tx)
		if b.full() {
			return r.send(ctx, sink)
		}
		return nil
	})
}

// settle ends the tally of a transaction.
func (r *Router) settle(ctx context.Context) error {
	if !r.tally.Open() {
		return nil
	}
	for sink := range r.builders {
		if err := r.handOn(ctx, sink); err != nil {
			return err
		}
	}
	r.tally.End(func(rule, sink, values int) {
		name, target := r.set.Rules()[rule].Name, r.cfg.Sinks[sink]
		r.cfg.Metrics.Collapsed(name, target, values)
		r.conditions.At(collapsing, "rule", name, "sink", target).Observe("values", condition.Sum(values), "xid", r.tx.XID, "transactions", condition.Sum(1))
	})
	return nil
}
