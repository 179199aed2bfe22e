package simulate

import (
	"encoding/binary"
	"io"
	"net"
	"time"

	"github.com/walpurge/walpurge/cdc"
)

type row struct {
	table, id int
	deleted   bool
}

// txn is a committed transaction; visible is when others began to see it, 0: they do not.
type txn struct {
	xid         uint64
	commit, end cdc.LSN
	time        time.Time
	rows        []row
	visible     int
	gap         bool // it lies where the slot was dropped, and is never sent
	needs       []*need
}

// slot is strict: it resends all that was not confirmed, and takes no confirmation that
// goes backwards or beyond what was ever sent.
type slot struct {
	born, confirmed, sent cdc.LSN
	created               bool // made anew, and nobody has been told yet
}

type database struct {
	lsn   cdc.LSN
	xid   uint64
	log   []*txn
	byXID map[uint64]*txn
	slot  slot
}

// commit writes a transaction of random rows.
func (w *world) commit(rows int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tally.commits++
	db := &w.db
	db.xid++
	tx := &txn{xid: db.xid, commit: db.lsn + 8, end: db.lsn + 16, time: time.Now()}
	db.lsn = tx.end
	for range rows {
		tx.rows = append(tx.rows, row{table: w.steps.IntN(len(tables)), id: w.steps.IntN(14), deleted: w.steps.IntN(4) == 0})
	}
	if w.steps.IntN(3) > 0 {
		tx.visible = w.tick()
	}
	db.log = append(db.log, tx)
	w.note("committed %d, ends at %s, visible %v, %d rows", tx.xid, tx.end, tx.visible > 0, len(tx.rows))
	db.byXID[tx.xid] = tx
	w.owe(tx)
	w.wake()
}

// show lets transactions become visible, one in n of those that are not.
func (w *world) show(n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, tx := range w.db.log {
		if tx.visible == 0 && w.steps.IntN(n) == 0 {
			tx.visible = w.tick()
		}
	}
	w.wake()
}

// dropSlot makes the slot anew at the end of the log. Before anything was confirmed that
// would be a first start, which promises nothing of what lies before.
func (w *world) dropSlot() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.db.slot.confirmed == w.db.slot.born {
		return
	}
	w.db.lsn += 8
	w.note("the slot is made anew at %s", w.db.lsn)
	for _, tx := range w.db.log {
		tx.gap = tx.gap || tx.end > w.db.slot.confirmed
	}
	w.db.slot = slot{born: w.db.lsn, confirmed: w.db.lsn, sent: w.db.lsn, created: true}
}

// connect starts replication, and returns the daemon's end of the connection.
func (w *world) connect(d *daemon) (net.Conn, cdc.Session, uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.db.slot
	session := cdc.Session{Start: at(s.confirmed), End: w.db.lsn, SlotCreated: s.created, SlotUnread: s.confirmed == s.born}
	s.created = false
	for _, tx := range w.db.log {
		if tx.visible == 0 {
			session.Open = append(session.Open, tx.xid)
		}
	}
	w.note("a session begins at %s, open are %v", s.confirmed, session.Open)
	server, client := net.Pipe()
	ws := &walsender{w: w, d: d, conn: server, sent: s.confirmed}
	d.serving.Go(ws.send)
	d.serving.Go(ws.receive)
	d.conn = server
	return client, session, w.db.xid
}

// walsender is the server's side of one session.
type walsender struct {
	w    *world
	d    *daemon
	conn net.Conn
	sent cdc.LSN // guarded by w.mu
}

// send writes every transaction beyond the confirmed position, in the order of the log, and
// keepalives when it has nothing else.
func (s *walsender) send() {
	defer s.conn.Close()
	w := s.w
	sender := newSender(w)
	for {
		w.mu.Lock()
		var ahead []*txn
		for _, tx := range w.db.log {
			if tx.end > s.sent && !tx.gap {
				ahead = append(ahead, tx)
			}
		}
		changed, pause := w.changed, w.takes(3*time.Second)+10*time.Millisecond
		var out [][]byte
		if len(ahead) == 0 {
			s.sent = w.db.lsn
			w.note("keepalive %s", s.sent)
			out = append(out, keepaliveMsg(w.db.lsn, w.rnd.IntN(2) == 0))
		} else {
			s.sent = ahead[0].end
			w.note("sending %d", ahead[0].xid)
			out = sender.whole(ahead[0], ahead[1:])
		}
		w.db.slot.sent = max(w.db.slot.sent, s.sent)
		// What one write carries is what one read may bring.
		var writes [][]byte
		for _, m := range out {
			if n := len(writes); n > 0 && w.rnd.IntN(4) > 0 {
				writes[n-1] = append(writes[n-1], m...)
				continue
			}
			writes = append(writes, m)
		}
		w.mu.Unlock()
		for _, b := range writes {
			if _, err := s.conn.Write(b); err != nil {
				return
			}
		}
		if len(ahead) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-time.After(pause):
		case <-s.d.dead:
			return
		}
	}
}

// receive reads status updates until the connection ends.
func (s *walsender) receive() {
	defer s.conn.Close()
	for {
		var head [5]byte
		if _, err := io.ReadFull(s.conn, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(s.conn, body); err != nil {
			return
		}
		if head[0] != 'd' || body[0] != 'r' {
			continue
		}
		s.confirm(cdc.LSN(binary.BigEndian.Uint64(body[9:])))
	}
}

// confirm takes the flushed position of a status update.
func (s *walsender) confirm(lsn cdc.LSN) {
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.d.step() != nil {
		return
	}
	switch confirmed := w.db.slot.confirmed; {
	case lsn < confirmed:
		w.failf("the slot was confirmed up to %s, and is told %s", confirmed, lsn)
	case lsn > w.db.slot.sent:
		w.failf("%s was confirmed, and nothing beyond %s was sent", lsn, w.db.slot.sent)
	default:
		w.confirming(lsn)
		if lsn > confirmed {
			w.note("confirmed %s", lsn)
		}
		w.db.slot.confirmed = lsn
	}
}
