package simulate

// sender makes the messages of one session. Some transactions it sends while they run: in
// blocks, the first of which may come before other transactions, and with rows of
// subtransactions that are rolled back.
type sender struct {
	w         *world
	described map[int]bool
	running   map[uint64]*running
	// subs counts subtransactions, whose ids are nobody's.
	subs uint64
}

// running is a transaction of which blocks were sent.
type running struct {
	sent      int
	described map[int]bool
}

func newSender(w *world) *sender {
	return &sender{w: w, described: make(map[int]bool), running: make(map[uint64]*running), subs: 1 << 20}
}

// whole is a transaction to its end; after it, others follow.
func (s *sender) whole(tx *txn, after []*txn) (out [][]byte) {
	if len(after) > 0 && s.w.rnd.IntN(4) == 0 {
		ahead := after[s.w.rnd.IntN(len(after))]
		out = s.block(ahead, s.w.rnd.IntN(len(ahead.rows)+1))
	}
	if s.running[tx.xid] != nil || s.w.rnd.IntN(4) == 0 {
		out = append(out, s.block(tx, len(tx.rows))...)
		for table := range s.running[tx.xid].described {
			s.described[table] = true
		}
		delete(s.running, tx.xid)
		s.w.tally.streamed++
		return append(out, streamCommitMsg(tx))
	}
	out = append(out, beginMsg(tx))
	for _, r := range tx.rows {
		if !s.described[r.table] {
			s.described[r.table] = true
			out = append(out, relationMsg(r.table))
		}
		out = append(out, rowMsg(r))
	}
	return append(out, commitMsg(tx))
}

// block sends a transaction's rows up to one.
func (s *sender) block(tx *txn, until int) [][]byte {
	at := s.running[tx.xid]
	if at == nil {
		at = &running{described: make(map[int]bool)}
		s.running[tx.xid] = at
	}
	out := [][]byte{blockStartMsg(tx.xid)}
	put := func(r row, sub uint64) {
		if !at.described[r.table] {
			at.described[r.table] = true
			out = append(out, relationMsg(r.table, sub))
		}
		out = append(out, rowMsg(r, sub))
	}
	for ; at.sent < until; at.sent++ {
		put(tx.rows[at.sent], tx.xid)
	}
	if s.w.rnd.IntN(3) > 0 {
		return append(out, blockStopMsg())
	}
	s.subs++
	put(row{table: s.w.rnd.IntN(len(tables)), id: s.w.rnd.IntN(14)}, s.subs)
	return append(out, blockStopMsg(), rollbackMsg(tx.xid, s.subs))
}
