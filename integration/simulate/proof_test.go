package simulate

import (
	"encoding/json"
	"strings"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// need is what one committed row asks of one sink: a purge of the value that begins once
// the commit is visible, and once the inner sink has had its own.
type need struct {
	txn         *txn
	sink, value string
	inner       *need
	met         int // when it was satisfied, 0: it is not
	// at are the places of the messages in the stream that say so.
	at []uint64
}

// proof is the oracle.
type proof struct {
	all   []*need
	lacks map[string]map[string][]*need // not met, by sink and value
}

// owe notes what the rows of a transaction ask for. mu is held.
func (w *world) owe(tx *txn) {
	for _, r := range tx.rows {
		values := wanted(r.table, r.id)
		var inner *need
		for _, sink := range sinkNames {
			v, has := values[sink]
			if !has {
				continue
			}
			n := &need{txn: tx, sink: sink, value: v}
			switch sink {
			case "cache":
				inner = n
			case "edge":
				n.inner = inner
			}
			tx.needs = append(tx.needs, n)
			w.proof.all = append(w.proof.all, n)
			w.proof.lacks[sink][v] = append(w.proof.lacks[sink][v], n)
		}
	}
}

// everything is the value that flushes carry.
const everything = "*"

// carried notes that a purge which began at a time has carried out a value. mu is held.
func (w *world) carried(sink, value string, began int) {
	if value == everything {
		for v := range w.proof.lacks[sink] {
			w.carried(sink, v, began)
		}
		return
	}
	w.meet(sink, value, func(n *need) bool {
		return n.txn.visible > 0 && n.txn.visible <= began && (n.inner == nil || n.inner.met > 0 && n.inner.met <= began)
	})
}

func (w *world) meet(sink, value string, covered func(*need) bool) {
	var left []*need
	now := w.tick()
	for _, n := range w.proof.lacks[sink][value] {
		if covered(n) {
			n.met = now
		} else {
			left = append(left, n)
		}
	}
	if len(left) == 0 {
		delete(w.proof.lacks[sink], value)
		return
	}
	w.proof.lacks[sink][value] = left
}

// stored notes what a message that has reached the stream stands for. mu is held.
func (w *world) stored(m message) {
	sink, isBatch := strings.CutPrefix(m.subject, "walpurge.sim.purge.")
	if !isBatch {
		return
	}
	b, err := invalidation.Decode(m.data)
	if err != nil {
		w.failf("an unreadable message was published: %v", err)
		return
	}
	for _, xid := range b.Stamp.XIDs {
		tx := w.db.byXID[xid]
		if tx == nil {
			w.failf("a batch bears transaction %d, which was never committed", xid)
			return
		}
		for _, n := range tx.needs {
			if n.sink == sink && holds(b, n.value) {
				n.at = append(n.at, m.seq)
			}
		}
	}
}

func holds(b *invalidation.Batch, value string) bool {
	for _, inv := range b.Invalidations(nil) {
		if inv.Value == value {
			return true
		}
	}
	return b.Flush
}

// confirming judges a confirmation: what the server may forget is on disk. mu is held.
func (w *world) confirming(lsn cdc.LSN) {
	synced := w.disk.files["walpurge_sim"].synced
	for _, tx := range w.db.log {
		if tx.end > lsn || tx.end <= w.db.slot.confirmed || tx.gap {
			continue
		}
		for _, n := range tx.needs {
			safe := false
			for _, seq := range n.at {
				safe = safe || seq <= synced
			}
			if !safe {
				w.failf("confirmed up to %s, and %s of transaction %d for %s is not on disk (stored at %v, synced up to %d)", lsn, n.value, tx.xid, n.sink, n.at, synced)
				return
			}
		}
	}
}

// marked judges a watermark: what lies at or before it was purged. mu is held.
func (w *world) marked(sink string, lsn cdc.LSN) {
	for _, left := range w.proof.lacks[sink] {
		for _, n := range left {
			if n.txn.end <= lsn {
				w.failf("%s says that it has purged up to %s, and %s of transaction %d (ends at %s, visible %v) is not", sink, lsn, n.value, n.txn.xid, n.txn.end, n.txn.visible > 0)
				return
			}
		}
	}
}

// parkedAt lets parked invalidations that are on disk stand for purges. mu is held.
func (w *world) parkedAt(m message) {
	sink := strings.TrimPrefix(m.subject, "walpurge.sim.parked.")
	var p struct{ Batch json.RawMessage }
	if err := json.Unmarshal(m.data, &p); err != nil {
		w.failf("an unreadable message was parked: %v", err)
		return
	}
	b, err := invalidation.Decode(p.Batch)
	if err != nil {
		w.failf("an unreadable batch was parked: %v", err)
		return
	}
	for _, inv := range b.Invalidations(nil) {
		if inv.Value == everything && b.Stamp.Position.LSN == 0 {
			continue // a manual purge, which meets nothing
		}
		if !refused(inv.Value) {
			w.failf("%s of %s was parked, and the sink would take it", inv.Value, sink)
		}
		w.tally.parked++
		w.meet(sink, inv.Value, func(*need) bool { return true })
	}
}
