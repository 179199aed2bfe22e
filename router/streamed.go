package router

import (
	"context"
	"errors"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/rules"
)

// Limits of what is remembered of one streamed transaction beside its records.
const (
	maxAborted  = 100_000 // subtransactions
	maxPrefixes = 1000    // of messages that no rule watches
)

// streamed is what a transaction that has not ended produces, should it commit. Where
// that cannot be told any more, it is everything that rules derive from the tables
// it touched.
type streamed struct {
	// values are records of recording; messages are spooled as they came, because they
	// mean the same to whatever rules are in service at the end.
	values, messages *spool.Log
	recording        *rules.Recording
	// lost is why values are not all that the transaction produces; nil if they are.
	lost    error
	tables  map[cdc.Table]struct{}
	rel     *cdc.Relation // of the newest change
	heard   heard
	aborted map[uint64]struct{}
}

// heard are the prefixes of a transaction's messages: true where each message is spooled.
type heard struct {
	prefixes map[string]bool
	// others reports that there were more than are remembered.
	others bool
}

// note notes a message. One that a rule watches now is always remembered; others may be watched once
// the rules are reloaded, but no rule watches a prefix as long as some.
func (h *heard) note(prefix string, watched, spooled bool) {
	before, known := h.prefixes[prefix]
	switch {
	case len(prefix) > rules.MaxMessagePrefix:
	case !known && !watched && len(h.prefixes) >= maxPrefixes:
		h.others = true
	default:
		h.prefixes[prefix] = spooled && (before || !known)
	}
}

// errReloaded, errManyRollbacks: see streamed.lost.
var (
	errReloaded      = errors.New("the rules were reloaded while it ran")
	errManyRollbacks = errors.New("too many of its subtransactions were rolled back")
)

// stream returns what is known of a streamed transaction.
func (r *Router) stream(xid uint64) *streamed {
	st := r.streams[xid]
	if st == nil {
		st = &streamed{
			values: r.cfg.Spool.New(), messages: r.cfg.Spool.New(), recording: r.recording,
			tables: make(map[cdc.Table]struct{}), heard: heard{prefixes: make(map[string]bool)}, aborted: make(map[uint64]struct{}),
		}
		r.streams[xid] = st
	}
	if st.recording != r.recording {
		st.lose(errReloaded)
	}
	return st
}

// lose gives up the values.
func (st *streamed) lose(why error) {
	if st.lost == nil {
		st.lost = why
		st.values.Close()
	}
}

func (st *streamed) close() {
	st.values.Close()
	st.messages.Close()
}

// record stores what a change of a transaction that has not ended produces.
func (r *Router) record(tx *cdc.Txn, c *cdc.Change) {
	st := r.stream(tx.XID)
	if st.rel != c.Rel {
		st.rel = c.Rel
		st.tables[tableOf(c.Rel)] = struct{}{}
	}
	plan := r.plan(c.Rel)
	if st.lost != nil || plan.rules == nil {
		return
	}
	plan.changes[c.Op].Inc()
	r.recorder.stream, r.recorder.sub = st, tx.Sub-tx.XID
	r.steps.begin(tx, c.Rel)
	st.recording.Eval(plan.rules, c, &r.recorder)
	r.steps.end()
}

// recorder spools the records of the change at hand. Subtransactions are counted from
// their transaction's id on, which is smaller.
type recorder struct {
	router *Router
	stream *streamed
	sub    uint64
}

// Verdict implements rules.RecordOutput.
func (o *recorder) Verdict(rule int, v rules.Verdict) { o.router.Verdict(rule, v) }

// Record implements rules.RecordOutput.
func (o *recorder) Record(record []byte) {
	if o.stream.lost != nil {
		return
	}
	if err := o.stream.values.Append(o.sub, record); err != nil {
		o.stream.lose(err)
	}
}

// keep spools a message of a transaction that has not ended.
func (r *Router) keep(tx *cdc.Txn, prefix string, content []byte) {
	st := r.stream(tx.XID)
	watched := r.set.Watches(prefix)
	spooled := watched
	if watched {
		record := append(append([]byte(prefix), 0), content...)
		spooled = st.messages.Append(tx.Sub-tx.XID, record) == nil
	}
	st.heard.note(prefix, watched, spooled)
}

// Abort forgets what a streamed transaction, or its subtransaction, would have produced.
func (r *Router) Abort(_ context.Context, tx *cdc.Txn) error {
	st := r.streams[tx.XID]
	switch {
	case st == nil:
	case tx.Sub == tx.XID:
		st.close()
		delete(r.streams, tx.XID)
		r.cfg.Metrics.streamed.WithLabelValues(rolledBack).Inc()
	case len(st.aborted) >= maxAborted:
		// What is left of messages purges more than was asked for, as the rest does.
		st.lose(errManyRollbacks)
	default:
		st.aborted[tx.Sub-tx.XID] = struct{}{}
	}
	return nil
}

// dropStreams forgets all that has not ended: it comes again, whole.
func (r *Router) dropStreams() {
	for _, st := range r.streams {
		st.close()
	}
	r.streams = make(map[uint64]*streamed)
	// What records of lookups have in common begins again, too.
	r.recording = r.set.NewRecording()
}
