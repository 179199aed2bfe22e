package router

import (
	"slices"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// stamped gathers the transactions that something comes from.
type stamped struct {
	xids        []uint64
	first, last time.Time
	at          cdc.LSN
	trace       string
}

// note adds a transaction, the newest so far.
func (s *stamped) note(tx *cdc.Txn) {
	if n := len(s.xids); n == 0 || s.xids[n-1] != tx.XID {
		s.xids = append(s.xids, tx.XID)
	}
	s.times(tx.Time, tx.Time)
	s.at = max(s.at, tx.Commit+1)
}

func (s *stamped) times(first, last time.Time) {
	if s.first.IsZero() || first.Before(s.first) {
		s.first = first
	}
	if last.After(s.last) {
		s.last = last
	}
}

// commit notes that the newest transaction, if it is this one, ended.
func (s *stamped) commit(tx *cdc.Txn) {
	if n := len(s.xids); n > 0 && s.xids[n-1] == tx.XID {
		s.at = max(s.at, tx.End)
	}
}

// traced notes the trace of the newest transaction, if it is this one. A batch belongs
// to one trace at most.
func (s *stamped) traced(tx *cdc.Txn, trace string) {
	if n := len(s.xids); n > 0 && s.xids[n-1] == tx.XID && s.trace == "" {
		s.trace = trace
	}
}

// join adds the transactions of another, each once.
func (s *stamped) join(other *stamped) {
	if len(other.xids) == 0 {
		return
	}
	has := make(map[uint64]struct{}, len(s.xids))
	for _, xid := range s.xids {
		has[xid] = struct{}{}
	}
	// The newest stays last, which is what note and commit compare with.
	merged := slices.DeleteFunc(slices.Clone(other.xids), func(xid uint64) bool { _, dup := has[xid]; return dup })
	s.xids = append(merged, s.xids...)
	s.times(other.first, other.last)
	s.at = max(s.at, other.at)
}

// stamp is what a batch says of where it comes from.
func (s *stamped) stamp(start cdc.Position) cdc.Stamp {
	start.LSN = s.at
	return cdc.Stamp{Position: start, XIDs: s.xids, FirstCommit: s.first, LastCommit: s.last, Trace: s.trace}
}
