package router

import (
	"context"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// Message carries out what a message in the log asks for.
func (r *Router) Message(ctx context.Context, tx *cdc.Txn, prefix string, content []byte) error {
	if tx.Streamed {
		r.keep(tx, prefix, content)
		return nil
	}
	r.enter()
	if !r.set.Watches(prefix) {
		return nil
	}
	r.tx = tx
	r.carryOut(prefix, content)
	return r.relieve(ctx)
}

func (r *Router) carryOut(prefix string, content []byte) {
	r.steps.begin(r.tx, nil)
	err := r.set.Message(prefix, content, r)
	r.steps.end()
	if err != nil {
		r.conditions.At(unusable, "prefix", prefix).Observe("err", err, "count", condition.Sum(1))
	}
}
