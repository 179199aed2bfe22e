package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// reporter owns the writing side of a replication connection. It tells the
// server the position that is safe: whenever that moved (but not more often
// than every confirmPause, or backlogPause), at once when the server asks, and every
// pingPause in any case, then asking for an answer, so that a dead server or a
// dead path is noticed and the server's position is known.
type reporter struct {
	conn   net.Conn
	board  *watermark.Board
	policy watermark.Policy
	start  cdc.Position
	urgent <-chan struct{}
	// names says whether PostgreSQL would take a flush position for that of a standby. While it
	// would, the slot is confirmed by turns.
	names *syncNames

	// mu is held while something is written.
	mu   sync.Mutex
	sent update
	// away is set once the stream is ended for a turn, at left: nothing may be reported.
	away bool
	left time.Time
	// done is what the slot was last confirmed to, at is when.
	done cdc.LSN
	at   time.Time
}

// update is what a status update says. The server takes the flush position as permission to
// forget, and 0 as none.
type update struct{ write, flush cdc.Position }

const (
	confirmPause = 20 * time.Millisecond
	// backlogPause is the pause while more has been received than is safe. The
	// server may write and sync the slot for each confirmation.
	backlogPause = 250 * time.Millisecond
	pingPause    = time.Second
	writeTimeout = 10 * time.Second
)

// safe is what may be confirmed in this session: never before its start, never
// a position of another timeline.
func (r *reporter) safe() cdc.Position {
	p := r.board.Safe(r.policy)
	if failpoint.On("confirm_on_receive") {
		p = r.board.Get(watermark.Mark{Stage: watermark.Received})
	}
	if p.SystemID != r.start.SystemID || p.Timeline != r.start.Timeline || p.LSN < r.start.LSN {
		return r.start
	}
	return p
}

// update returns what may be reported. All positions are the safe one, except that a connection
// that must not count as a standby reports what it has received as written, which a server that
// shuts down waits for, and nothing as flushed.
func (r *reporter) update() update {
	p := r.safe()
	if !r.names.counts() {
		return update{write: p, flush: p}
	}
	if got := r.board.Get(watermark.Mark{Stage: watermark.Received}); got.SystemID == p.SystemID && got.Timeline == p.Timeline {
		p.LSN = max(p.LSN, got.LSN)
	}
	return update{write: p}
}

// run reports until the context ends, and returns nil then.
func (r *reporter) run(ctx context.Context) error {
	ping := beat.After(pingPause)
	if err := r.send(true); err != nil {
		return err
	}
	for {
		changed := r.board.Watch()
		_, renamed := r.names.named()
		ask := false
		if r.told() == r.update() {
			select {
			case <-changed:
				continue
			case <-renamed:
				continue
			case <-r.urgent:
			case <-ping:
				ask, ping = true, beat.After(pingPause)
			case <-ctx.Done():
				return nil
			}
		}
		if err := r.send(ask); err != nil {
			return err
		}
		if ask {
			continue // nothing has moved, so there is nothing to gather
		}
		if stop, err := r.pause(ctx); stop || err != nil {
			return err
		}
	}
}

// pause waits until it is time for the next report, or the server asks for one,
// and reports whether the context ended.
func (r *reporter) pause(ctx context.Context) (stop bool, err error) {
	began := time.Now()
	for {
		select {
		case <-time.After(confirmPause):
		case <-r.urgent:
			return false, r.send(false)
		case <-ctx.Done():
			return true, nil
		}
		all := !r.update().write.Before(r.board.Get(watermark.Mark{Stage: watermark.Received}))
		if all || time.Since(began) >= backlogPause {
			return false, nil
		}
	}
}

// send writes one status update.
func (r *reporter) send(ask bool) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away {
		return nil
	}
	u := r.update()
	var b [5 + 34]byte
	b[0] = 'd'
	binary.BigEndian.PutUint32(b[1:], 4+34)
	b[5] = 'r'
	for i, p := range [...]cdc.LSN{u.write.LSN, u.flush.LSN, u.flush.LSN} {
		binary.BigEndian.PutUint64(b[6+8*i:], uint64(p))
	}
	if failpoint.On("flush_zero") {
		clear(b[14:22])
	}
	binary.BigEndian.PutUint64(b[30:], uint64(time.Now().UnixMicro()-946684800_000_000))
	if ask {
		b[38] = 1
	}
	if err := r.write(b[:]); err != nil {
		return fmt.Errorf("confirm %s: %w", u.write, err)
	}
	failpoint.Crash("confirmed")
	r.sent = u
	if u.flush.LSN > 0 {
		r.confirm(u.flush)
	}
	return nil
}

// confirm notes what the slot was confirmed to. The caller holds the lock.
func (r *reporter) confirm(p cdc.Position) {
	r.done, r.at = p.LSN, time.Now()
	r.board.Advance(watermark.Mark{Stage: watermark.Confirmed}, p)
}

// confirmed notes what a turn has confirmed the slot to.
func (r *reporter) confirmed(p cdc.Position) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.confirm(p)
}

// unconfirmed is how much is safe and not confirmed, in bytes, and since when at most.
func (r *reporter) unconfirmed() (bytes int64, since time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return int64(r.safe().LSN) - int64(r.done), r.at
}

// told returns what was reported last.
func (r *reporter) told() update {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

// leave ends the stream. Nothing is reported any more.
func (r *reporter) leave() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.away, r.left = true, time.Now()
	return r.write(frame('c', ""))
}

func (r *reporter) write(b []byte) error {
	if err := r.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := r.conn.Write(b)
	return err
}

// goodbye reports once more and ends the stream and the connection in order
// (CopyDone, Terminate), so that the server frees the slot at once. in is what the server has
// sent and has not been read.
func (r *reporter) goodbye(in *remainder, slot string) error {
	if r.away || r.send(false) != nil {
		return nil
	}
	if bytes, _ := r.unconfirmed(); bytes > 0 && r.names.counts() {
		if err := r.lastTurn(in, slot); err != nil {
			return fmt.Errorf("confirm slot %q at the end of the stream: %w", slot, err)
		}
		_ = r.write(frame('X', ""))
		return nil
	}
	_ = r.write(append(frame('c', ""), frame('X', "")...))
	return nil
}
