package postgres

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
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
	sent   cdc.Position
}

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

// run reports until the context ends, and returns nil then.
func (r *reporter) run(ctx context.Context) error {
	ping := beat.After(pingPause)
	if err := r.send(true); err != nil {
		return err
	}
	for {
		changed := r.board.Watch()
		ask := false
		if r.sent == r.safe() {
			select {
			case <-changed:
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
		all := !r.safe().Before(r.board.Get(watermark.Mark{Stage: watermark.Received}))
		if all || time.Since(began) >= backlogPause {
			return false, nil
		}
	}
}

// send writes one status update. All three positions are the safe one: the
// server takes the flush position as permission to forget.
func (r *reporter) send(ask bool) error {
	p := r.safe()
	var b [5 + 34]byte
	b[0] = 'd'
	binary.BigEndian.PutUint32(b[1:], 4+34)
	b[5] = 'r'
	for i := range 3 {
		binary.BigEndian.PutUint64(b[6+8*i:], uint64(p.LSN))
	}
	if failpoint.On("flush_zero") {
		clear(b[14:22])
	}
	binary.BigEndian.PutUint64(b[30:], uint64(time.Now().UnixMicro()-946684800_000_000))
	if ask {
		b[38] = 1
	}
	if err := r.write(b[:]); err != nil {
		return fmt.Errorf("confirm %s: %w", p, err)
	}
	failpoint.Crash("confirmed")
	r.sent = p
	r.board.Advance(watermark.Mark{Stage: watermark.Confirmed}, p)
	return nil
}

func (r *reporter) write(b []byte) error {
	if err := r.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := r.conn.Write(b)
	return err
}

// goodbye reports once more and ends the stream and the connection in order
// (CopyDone, Terminate), so that the server frees the slot at once.
func (r *reporter) goodbye() {
	if r.send(false) == nil {
		_ = r.write([]byte{'c', 0, 0, 0, 4, 'X', 0, 0, 0, 4})
	}
}
