package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// A leap moves the slot ahead, over changes that were not read: the server may
// forget them at once. It is carried out between two sessions, and is
// safe against a crash at any moment without a note of its own: a slot that was
// moved lies beyond the newest claim in the stream, and that is a gap.
type leap struct {
	reason cdc.GapReason
	// past is where the slot is to be moved; 0 is the end of the log.
	past cdc.LSN
	from cdc.LSN
	to   cdc.LSN
	done chan struct{}
}

// leaps holds the leap that was asked for and not carried out.
type leaps struct {
	mu      sync.Mutex
	pending *leap
	// wanted is closed while there is one.
	wanted chan struct{}
}

func newLeaps() *leaps { return &leaps{wanted: make(chan struct{})} }

// ask requests a leap to a position; 0 is the end of the log. One that is pending serves this
// request, too, if it goes as far; a request of the operator is the stronger reason.
func (l *leaps) ask(reason cdc.GapReason, past cdc.LSN) *leap {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		l.pending = &leap{reason: reason, past: past, done: make(chan struct{})}
		close(l.wanted)
	}
	if past == 0 {
		l.pending.past = 0
	}
	if reason == cdc.GapSkipped {
		l.pending.reason = reason
	}
	return l.pending
}

// waiting is closed while a leap waits.
func (l *leaps) waiting() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.wanted
}

// wants reports whether a leap is pending, and to where.
func (l *leaps) wants() (past cdc.LSN, pending bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == nil {
		return 0, false
	}
	return l.pending.past, true
}

// carriedOut ends the leap that waits, if it still does, and returns its reason.
func (l *leaps) carriedOut(from, to cdc.LSN) cdc.GapReason {
	l.mu.Lock()
	defer l.mu.Unlock()
	done := l.pending
	if done == nil {
		return cdc.GapSkipped // whoever asked has gone away meanwhile
	}
	done.from, done.to = from, to
	close(done.done)
	l.pending, l.wanted = nil, make(chan struct{})
	return done.reason
}

// withdraw takes back a leap that was not carried out.
func (l *leaps) withdraw(asked *leap) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending == asked {
		l.pending, l.wanted = nil, make(chan struct{})
	}
}

// errLeap ends a session for a leap.
var errLeap = errors.New("the slot is about to be moved")

// ErrNotOurs says that another process streams from the slot.
var ErrNotOurs = errors.New("another process streams from the slot; ask that one")

// Skip moves the slot to the end of the log, and returns what was skipped. It
// ends the session, and blocks until the slot was moved, which the next session
// answers as a gap; or until the context ends, and then nothing is moved later.
func (r *Reader) Skip(ctx context.Context) (from, to cdc.LSN, err error) {
	if r.State().Phase == Standby {
		return 0, 0, ErrNotOurs
	}
	asked := r.leaps.ask(cdc.GapSkipped, 0)
	select {
	case <-asked.done:
		return asked.from, asked.to, nil
	case <-ctx.Done():
	}
	r.leaps.withdraw(asked)
	select {
	case <-asked.done:
		return asked.from, asked.to, nil
	default:
		return 0, 0, context.Cause(ctx)
	}
}

// leap carries out what was asked for on a slot that nobody reads. Until a session has
// begun on it, the reason stands.
func (r *Reader) leap(ctx context.Context, conn *pgx.Conn, slot *slotInfo) error {
	past, pending := r.leaps.wants()
	if !pending {
		return nil
	}
	to, err := r.cfg.leap(ctx, conn, past)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotMoved, err)
	}
	r.leapt = r.leaps.carriedOut(slot.Confirmed, to)
	r.conditions.At(slotMoved, "reason", string(r.leapt)).Observe("from", slot.Confirmed.String(), "to", to.String(), "times", condition.Sum(1))
	slot.Confirmed = to
	return nil
}

// errNotMoved says that a leap failed. It is still pending.
var errNotMoved = errors.New("the slot could not be moved")

// leap moves the slot, which no process may be reading, to a position; 0 is the end of the log. The
// server reads its log up to there, without decoding rows. It needs the REPLICATION attribute.
func (c Config) leap(ctx context.Context, conn *pgx.Conn, past cdc.LSN) (cdc.LSN, error) {
	var text string
	err := conn.QueryRow(ctx, `SELECT end_lsn::pg_catalog.text FROM pg_catalog.pg_replication_slot_advance($1,
		CASE WHEN $2::pg_catalog.pg_lsn = '0/0' THEN pg_catalog.pg_current_wal_lsn() ELSE $2::pg_catalog.pg_lsn END)`, c.Slot, past.String()).Scan(&text)
	if err != nil {
		return 0, fmt.Errorf("advance slot %q: %w", c.Slot, err)
	}
	return cdc.ParseLSN(text)
}

// SkipUnread moves the slot of a pipeline whose daemon does not run. The next
// start takes that for a gap. A *Fault says why it cannot be done.
func (c Config) SkipUnread(ctx context.Context) (from, to cdc.LSN, err error) {
	conn, err := c.Connect(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := c.slot(ctx, conn)
	switch {
	case err != nil:
		return 0, 0, err
	case slot == nil:
		return 0, 0, &Fault{fmt.Errorf("there is no slot %q, so nothing is held back", c.Slot), "start the daemon, it makes one"}
	case slot.Active:
		return 0, 0, &Fault{c.busy(ctx, conn, slot.ActivePID), "name the address of that daemon with --addr, or stop it"}
	case slot.Status == slotLost:
		return 0, 0, c.lostSlot()
	}
	switch pid, err := c.owner(ctx, conn); {
	case err != nil:
		return 0, 0, err
	case pid != 0:
		return 0, 0, &Fault{c.busy(ctx, conn, pid), "name the address of that daemon with --addr, or stop it"}
	}
	to, err = c.leap(ctx, conn, 0)
	return slot.Confirmed, to, err
}

// retains reports that the slot holds back more of the log than it may, by what
// was not confirmed: what an open transaction holds, no leap lets go.
func (c Config) retains(slot *slotInfo) bool {
	return c.MaxRetained > 0 && slot != nil && slot.Retained-slot.RestartLag > c.MaxRetained
}

// errRetained ends a session whose slot holds back too much.
var errRetained = errors.New("the slot holds back more of the log than postgres.max_retained")
