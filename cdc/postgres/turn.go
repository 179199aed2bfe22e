package postgres

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpurge/walpurge/cdc"
)

// turn confirms the slot while the status updates must not: it ends the stream, moves the slot
// with pg_replication_slot_advance on the replication connection, and ends the session, so that
// the next one begins at once. It needs another connection for that: a walsender that has ended a
// logical stream ends the next one before it begins (StartLogicalReplication in walsender.c leaves
// streamingDoneSending set). A turn belongs to the session's goroutine: the server's answers arrive
// behind the stream's messages.
type turn struct {
	rep  *reporter
	slot string
	// took is how long the last turn took, up to the next stream.
	took time.Duration

	step turnStep
	// target is what the slot is moved to.
	target cdc.Position
}

// turnStep is what the server was asked for and has not finished.
type turnStep uint8

const (
	turnNone turnStep = iota
	turnEnding
	turnAdvancing
)

// confirmation says how much may be safe and not confirmed through the slot.
type confirmation struct {
	bytes int64
	age   time.Duration
}

var usualConfirmation = confirmation{bytes: 64 << 20, age: time.Minute}

const (
	// turnShare is the least time between two turns, as a multiple of what one takes: the server
	// reads its log again from the oldest transaction that is open, however long ago that began.
	turnShare = 10
	// turnPatience is for how many times the usual age a turn waits for streamed transactions,
	// which the server would send again.
	turnPatience = 10
)

// unconfirmed is what a turn would be for, and what it would cost.
type unconfirmed struct {
	// bytes are safe and not confirmed, for at most age.
	bytes int64
	age   time.Duration
	// restartLag is how far the server reads back, in bytes, and took how long the last turn took.
	restartLag int64
	took       time.Duration
	// limit is how many bytes may not be confirmed before the slot is moved to the end of the
	// log; 0: as many as there are.
	limit int64
	// streams says that streamed transactions are open, of which the oldest began that long ago.
	streams bool
	oldest  time.Duration
}

// due reports whether it is time for a turn.
func (c confirmation) due(u unconfirmed) bool {
	switch {
	case u.bytes <= 0:
		return false
	case u.limit > 0 && u.bytes >= u.limit/2:
		return true
	case u.age < turnShare*u.took:
		return false
	case u.streams:
		// One that has been open all the time holds the log whatever is confirmed.
		return u.age >= turnPatience*c.age && u.oldest < u.age/2
	}
	return u.bytes >= max(c.bytes, u.restartLag) || u.age >= c.age
}

// begin ends the stream, for a turn.
func (t *turn) begin() error {
	t.step = turnEnding
	return t.rep.leave()
}

// errTurned ends a session whose slot has been confirmed in a turn.
var errTurned = errors.New("the stream was ended to confirm the slot, and begins again")

// message handles a message of the server during a turn, other than those of the stream.
func (t *turn) message(typ byte, body []byte) error {
	switch {
	case typ == 'E' && t.step == turnEnding:
		return serverError(body)
	case typ == 'E':
		err := serverError(body)
		if sqlState(err) == codeObjectInUse {
			return &busyError{slot: t.slot}
		}
		names, _ := t.rep.names.named()
		return fmt.Errorf("synchronous_standby_names = '%s' can name walpurge, and slot %q cannot be confirmed by pg_replication_slot_advance: %w; %s", names, t.slot, err, syncNamesFix)
	case typ == 'Z' && t.step == turnEnding:
		t.step, t.target = turnAdvancing, t.rep.safe()
		return t.rep.write(frame('Q', advance(t.slot, t.target.LSN)+"\x00"))
	case typ == 'Z':
		t.rep.confirmed(t.target)
		return errTurned
	}
	switch typ {
	case 'c', 'C', 'T', 'D':
		return nil
	}
	return fmt.Errorf("unexpected protocol message %q while the slot is confirmed", typ)
}

// advance is the statement that moves a slot. It fails while a process streams from the slot.
func advance(slot string, to cdc.LSN) string {
	return "SELECT pg_catalog.pg_replication_slot_advance('" + slot + "', '" + to.String() + "')"
}

// frame is a protocol message of the client.
func frame(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{typ}, uint32(4+len(body)))
	return append(b, body...)
}

// lastTurnTimeout bounds the confirmation at the end of a session: the server may be decoding a
// large transaction, and finishes that first. What is not confirmed is purged again by the next
// start.
const lastTurnTimeout = 5 * time.Second

// remainder is what the server has sent and has not been read: what is left of a large message,
// and then whole messages.
type remainder struct {
	unread int
	io.Reader
}

// lastTurn ends the stream and moves the slot. The receiver must have ended: lastTurn reads in.
func (r *reporter) lastTurn(in *remainder, slot string) error {
	if err := r.conn.SetReadDeadline(time.Now().Add(lastTurnTimeout)); err != nil {
		return err
	}
	if _, err := io.CopyN(io.Discard, in, int64(in.unread)); err != nil {
		return err
	}
	frontend := pgproto3.NewFrontend(in, r.conn)
	for _, request := range [][]byte{frame('c', ""), frame('Q', advance(slot, r.safe().LSN)+"\x00")} {
		if err := r.write(request); err != nil {
			return err
		}
		for ready := false; !ready; {
			message, err := frontend.Receive()
			if err != nil {
				return err
			}
			if e, failed := message.(*pgproto3.ErrorResponse); failed {
				return pgconn.ErrorResponseToPgError(e)
			}
			_, ready = message.(*pgproto3.ReadyForQuery)
		}
	}
	r.confirmed(r.safe())
	return nil
}
