package router

import (
	"sync/atomic"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
)

// Step is where the router is. Two equal ones, of which Evaluating is set, show that it has not moved
// between them.
type Step struct {
	// Number rises with every step.
	Number uint64
	// Evaluating reports that rules evaluate a change or a message, which takes milliseconds.
	Evaluating bool
	// Table is that of the newest change, XID and Commit are its transaction; Commit is 0 for one that has
	// not ended.
	Table  cdc.Table
	XID    uint64
	Commit cdc.LSN
}

// steps holds the router's step for other goroutines. Only the router's goroutine writes.
type steps struct {
	number      atomic.Uint64 // odd while rules evaluate
	rel         atomic.Pointer[cdc.Relation]
	xid, commit atomic.Uint64
}

// begin notes that the evaluation of a change begins; rel is nil for a message.
func (s *steps) begin(tx *cdc.Txn, rel *cdc.Relation) {
	if s.rel.Load() != rel {
		s.rel.Store(rel)
	}
	if s.xid.Load() != tx.XID || s.commit.Load() != uint64(tx.Commit) {
		s.xid.Store(tx.XID)
		s.commit.Store(uint64(tx.Commit))
	}
	s.evaluate()
}

// evaluate notes that an evaluation begins that is not of another change.
func (s *steps) evaluate() {
	s.number.Store(s.number.Load() + 1)
	failpoint.Hang("stuck_evaluation")
}

// end notes that it has ended.
func (s *steps) end() { s.number.Store(s.number.Load() + 1) }

// Step returns where the router is. It may be called from any goroutine.
func (r *Router) Step() Step {
	number := r.steps.number.Load()
	out := Step{Number: number, Evaluating: number%2 == 1, XID: r.steps.xid.Load(), Commit: cdc.LSN(r.steps.commit.Load())}
	if rel := r.steps.rel.Load(); rel != nil {
		out.Table = tableOf(rel)
	}
	return out
}
