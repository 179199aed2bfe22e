package router

import (
	"bytes"
	"context"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// pour does for a streamed transaction, now that it has committed, what its changes would
// have done one by one.
func (r *Router) pour(ctx context.Context, tx *cdc.Txn) error {
	r.enter()
	r.tx = tx
	st := r.streams[tx.XID]
	if st == nil {
		return nil
	}
	delete(r.streams, tx.XID)
	defer st.close()
	if st.recording != r.recording {
		st.lose(errReloaded)
	}
	outcome := committed
	if st.lost == nil {
		if err := r.pourValues(ctx, st); err != nil {
			return err
		}
	}
	if st.lost != nil {
		outcome = coarsened
		r.coarsen(st)
	}
	r.cfg.Metrics.streamed.WithLabelValues(outcome).Inc()
	return r.pourMessages(ctx, st)
}

// pourValues ends early where the spool cannot be read; what was handed over until then
// is purged twice.
func (r *Router) pourValues(ctx context.Context, st *streamed) error {
	var failed error
	err := st.values.Each(func(sub uint64, record []byte) error {
		if _, aborted := st.aborted[sub]; aborted {
			return nil
		}
		r.steps.begin(r.tx, nil)
		err := st.recording.Play(record, r.tally, r)
		r.steps.end()
		if err != nil {
			return err
		}
		failed = r.relieve(ctx)
		return failed
	})
	if failed == nil && err != nil {
		st.lose(err)
	}
	return failed
}

// coarsen purges all that rules derive from the tables that the transaction touched.
func (r *Router) coarsen(st *streamed) {
	tables := make([]cdc.Table, 0, len(st.tables))
	for t := range st.tables {
		tables = append(tables, t)
	}
	r.conditions.At(notByRow).Observe("reason", st.lost, "tables", condition.Sum(len(tables)), "xid", r.tx.XID, "transactions", condition.Sum(1))
	r.set.Forget(tables, r)
}

// pourMessages carries out the messages that are spooled, and for those that are not, what
// replaces them.
func (r *Router) pourMessages(ctx context.Context, st *streamed) error {
	var failed error
	err := st.messages.Each(func(sub uint64, record []byte) error {
		if _, aborted := st.aborted[sub]; aborted {
			return nil
		}
		prefix, content, _ := bytes.Cut(record, []byte{0})
		r.carryOut(string(prefix), content)
		failed = r.relieve(ctx)
		return failed
	})
	if failed != nil {
		return failed
	}
	unread := func(prefix string) {
		if r.set.Watches(prefix) {
			r.conditions.At(notKept, "prefix", prefix).Observe("xid", r.tx.XID, "transactions", condition.Sum(1))
			r.set.ForgetMessages(prefix, r)
		}
	}
	for prefix, spooled := range st.heard.prefixes {
		if !spooled || err != nil {
			unread(prefix)
		}
	}
	if st.heard.others && st.recording != r.recording {
		for _, prefix := range r.set.Messages() {
			if _, known := st.heard.prefixes[prefix]; !known {
				unread(prefix)
			}
		}
	}
	return r.relieve(ctx)
}

// relieve publishes what must be before more is added.
func (r *Router) relieve(ctx context.Context) error {
	if r.tally.Full() {
		for sink := range r.builders {
			if err := r.handOn(ctx, sink); err != nil {
				return err
			}
		}
	}
	if r.full() {
		return r.publish(ctx)
	}
	return nil
}
