package router

import (
	"context"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// complainEvery bounds how often the log says that messages cannot be used.
const complainEvery = 10 * time.Second

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
	if err := r.set.Message(prefix, content, r); err != nil {
		r.complaints++
		if time.Since(r.complained) >= complainEvery {
			r.cfg.Logger.Warn("a message asks for what cannot be purged; the rest of it is", "err", err, "count", r.complaints)
			r.complained, r.complaints = time.Now(), 0
		}
	}
}
