package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// A session whose backlog is large reads it through SQL before it starts the stream, on the same
// connection: see package catchup. What it does with a message is the same in both ways.
//
// Nothing of a chunk is claimed before it has arrived in full and the slot is found where it was
// before. So a kill at any moment repeats the chunk, and a slot that another process moves ends
// the session without a claim, for which the next session finds the gap.

// backlog is what a session reads through SQL.
type backlog struct {
	cfg  Config
	conn *hijacked
	plan *catchup.Plan
	// take is Limits.TakeTime.
	take time.Duration
	// progress is shown in the status.
	progress *progress
	// bytes is the size of the rows of the newest chunk, and took the time until the first of them arrived.
	bytes uint64
	took  time.Duration
}

// hijacked is a replication connection that was taken over from pgconn, ready for a statement.
type hijacked struct {
	net.Conn
	in io.Reader
	// cancel asks the server to end the statement that runs.
	cancel func(ctx context.Context) error
}

const (
	// statementTime bounds statements other than the chunks. An advance reads the log from restart_lsn.
	statementTime = 50 * time.Second
	cancelTime    = 5 * time.Second
)

// errSlotMoved ends a session whose slot another process has moved.
var errSlotMoved = errors.New("another process has moved the slot")

// errIntakeEnded ends the reading of a backlog for a stop, or because the receiver failed.
var errIntakeEnded = errors.New("the intake has ended")

// inbox returns one by one the messages that a receiver brings.
type inbox struct {
	rc *receiver
	// current is the gulp at hand, rest what is left of it.
	current []byte
	rest    []byte
	// dropped reports that rows were dropped in the answer at hand.
	dropped bool
}

// next returns the next message; large is set in place of the body of a large one.
func (in *inbox) next(ctx context.Context) (typ byte, body []byte, l *large, err error) {
	for len(in.rest) == 0 {
		in.release()
		select {
		case g, more := <-in.rc.gulps:
			if !more {
				return 0, nil, nil, errIntakeEnded
			}
			if g.large != nil {
				return 'd', nil, g.large, nil
			}
			in.rest, in.dropped = g.whole, in.dropped || g.dropped
			if !g.dropped {
				in.current = g.whole
			}
		case <-ctx.Done():
			return 0, nil, nil, context.Cause(ctx)
		}
	}
	typ, body, in.rest = cutMessage(in.rest)
	return typ, body, nil, nil
}

// release gives the gulp at hand back to the receiver.
func (in *inbox) release() {
	if in.current != nil {
		in.rc.recycle(in.current)
		in.current = nil
	}
}

// statement runs a statement and returns its first row in text format. An error of the server is a
// *pgconn.PgError, after which the connection is ready again.
func (b *backlog) statement(ctx context.Context, in *inbox, sql string) (row []string, err error) {
	timer := time.AfterFunc(statementTime, b.cancel)
	defer timer.Stop()
	if err := b.send(in, sql); err != nil {
		return nil, err
	}
	var failed error
	for {
		typ, body, _, err := in.next(ctx)
		if err != nil {
			return nil, err
		}
		switch typ {
		case 'D':
			if row == nil {
				row = textRow(body)
			}
		case 'E':
			failed = serverError(body)
		case 'Z':
			in.dropped = false
			return row, failed
		}
	}
}

func (b *backlog) send(in *inbox, sql string) error {
	in.rc.asked.Store(time.Now().UnixNano())
	in.rc.waits.Store(false)
	if err := b.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := b.conn.Write(frame('Q', sql+"\x00"))
	return err
}

// cancel asks the server to end the statement that runs. A statement that has ended is not concerned.
func (b *backlog) cancel() {
	ctx, done := context.WithTimeout(context.Background(), cancelTime)
	defer done()
	_ = b.conn.cancel(ctx) // the deadline of the connection remains
}

func (b *backlog) slot(ctx context.Context, in *inbox) (catchup.Slot, error) {
	row, err := b.statement(ctx, in, catchup.SlotStatement(b.cfg.Slot))
	if err != nil {
		return catchup.Slot{}, err
	}
	if row == nil {
		return catchup.Slot{}, fmt.Errorf("slot %q is gone", b.cfg.Slot)
	}
	return catchup.ParseSlot(row)
}

// outcome is how the reading of a chunk ended, where that is no error of the session.
type outcome uint8

const (
	// copied: it has arrived in full.
	copied outcome = iota
	// untaken: the handler did not take it in time, so it was cancelled.
	untaken
	// refused: the server did not return it, or not in time.
	refused
)

// copy hands over the rows of a chunk. They are published and not claimed.
func (b *backlog) copy(ctx context.Context, in *inbox, s *session, upTo cdc.LSN) (outcome, error) {
	var late, slow atomic.Bool
	began := time.Now()
	b.bytes, b.took = 0, 0
	patience := time.AfterFunc(b.plan.Patience(), func() {
		late.Store(true)
		b.cancel()
	})
	defer patience.Stop()
	var taking *time.Timer
	defer func() {
		if taking != nil {
			taking.Stop()
		}
	}()
	if err := b.send(in, catchup.PeekStatement(b.cfg.Slot, b.cfg.Publication, upTo)); err != nil {
		return refused, err
	}
	var rows catchup.Rows
	var failed error
	held, changes := 0, uint64(0)
	for {
		typ, body, l, err := in.next(ctx)
		if err != nil {
			return refused, err
		}
		switch typ {
		case 'd':
			if taking == nil {
				patience.Stop()
				b.took = time.Since(began)
				taking = time.AfterFunc(b.take, func() {
					slow.Store(true)
					select {
					case in.rc.drop <- struct{}{}:
					default:
					}
					b.cancel()
				})
			}
			failpoint.Crash("received")
			change, err := s.row(ctx, &rows, body, l)
			if err != nil {
				return refused, err
			}
			if change {
				changes++
			}
			size := len(body) + 5
			if l != nil {
				size += largeMessage
			}
			b.bytes += uint64(size)
			held += size
			if held >= lingerBytes && !s.open {
				b.progress.arrived(changes)
				held, changes = 0, 0
				if err := s.handler.Rest(ctx, cdc.Rest{Unproven: true}); err != nil {
					return refused, err
				}
			}
		case 'E':
			failed = serverError(body)
		case 'H', 'c', 'C', 'N', 'S':
		case 'Z':
			select {
			case <-in.rc.drop:
			default:
			}
			in.rc.waits.Store(true)
			b.progress.arrived(changes)
			dropped := in.dropped
			in.dropped = false
			switch {
			case slow.Load() || dropped:
				return untaken, nil
			case failed != nil && late.Load():
				return refused, nil
			case failed != nil:
				return refused, failed
			case !rows.Ended() || s.open:
				return refused, errors.New("the chunk ended within a transaction")
			}
			return copied, nil
		default:
			return refused, fmt.Errorf("unexpected protocol message %q in a chunk", typ)
		}
	}
}

// row hands over what a row of a chunk carries, and reports whether that was a change of a row.
func (s *session) row(ctx context.Context, rows *catchup.Rows, body []byte, l *large) (change bool, err error) {
	if l != nil {
		return true, s.handOverLarge(ctx, l, func(head []byte, n int) (int, error) {
			skip, _, more, err := rows.Skip(head, n)
			if err == nil && !more {
				err = errors.New("unexpected end of a binary COPY")
			}
			return skip, err
		})
	}
	data, err := rows.Data(body)
	if err != nil || data == nil {
		return false, err
	}
	change = len(data) > 0 && (data[0] == 'I' || data[0] == 'U' || data[0] == 'D')
	return change, s.wal(ctx, data)
}

// catchUp reads the backlog, and returns the session that the stream begins with; nil if the intake has
// ended before.
func (r *Reader) catchUp(ctx context.Context, s *session, in *inbox, b *backlog) (*session, error) {
	begun := false
	for {
		slot, err := b.slot(ctx, in)
		if err != nil {
			return nil, err
		}
		b.progress.note(slot, b.plan)
		step := b.plan.Next(slot)
		switch step.Do {
		case catchup.Abandon:
			return nil, errSlotMoved
		case catchup.Stream:
			r.reportLacking(slot)
			r.opts.Logger.Info("the rest of the backlog comes through the stream", "reason", string(step.Why), "left_bytes", int64(slot.Flushed)-int64(slot.Confirmed), "from", slot.Confirmed.String())
			if begun {
				s = r.renewed(s)
			}
			return s, nil
		}
		if !begun {
			in.rc.waits.Store(true)
			if err := s.handler.Start(ctx, s.start); err != nil {
				return nil, err
			}
			r.leapt, begun = "", true
		}
		result, err := b.copy(ctx, in, s, step.UpTo)
		if err != nil && sqlState(err) == "" {
			return nil, err
		}
		switch {
		case err != nil:
			// The stream meets the same error, or gets past it; there it is handled.
			b.progress.chunk(chunkRefused)
			r.conditions.At(chunkFailed).Observe("err", err, "times", condition.Sum(1))
			r.streamUntil = step.UpTo
			return r.renewed(s), nil
		case result == refused:
			b.progress.chunk(chunkRefused)
			r.conditions.At(chunkLate).Observe("up_to", step.UpTo.String(), "times", condition.Sum(1))
			r.streamUntil = step.UpTo
			return r.renewed(s), nil
		case result == untaken:
			b.progress.chunk(chunkCancelled)
			b.plan.Cancelled()
			s, begun = r.renewed(s), false
			continue
		}
		failpoint.Crash("copied")
		if slot, err = b.slot(ctx, in); err != nil {
			return nil, err
		}
		at, proven := b.plan.Copied(slot, s.end)
		if !proven {
			return nil, errSlotMoved
		}
		b.plan.Arrived(b.bytes, b.took, slot)
		if err := s.prove(ctx, at); err != nil {
			return nil, err
		}
		if err := r.untilSafe(ctx, in, s, at); err != nil {
			return nil, err
		}
		if _, err := b.statement(ctx, in, catchup.AdvanceStatement(b.cfg.Slot, at)); err != nil {
			return nil, fmt.Errorf("advance slot %q: %w", b.cfg.Slot, err)
		}
		failpoint.Crash("advanced")
		p := s.start.Start
		p.LSN = at
		r.opts.Board.Advance(watermark.Mark{Stage: watermark.Confirmed}, p)
		b.plan.Advanced(at)
		b.progress.chunk(chunkDone)
		s.start.Start, s.start.End = p, max(s.start.End, at)
	}
}

// reportLacking names the standbys that hold up what the stream is to bring.
func (r *Reader) reportLacking(slot catchup.Slot) {
	if slot.Lacking != "" {
		r.conditions.At(heldUp).Observe("slots", slot.Lacking, "readable_up_to", slot.Flushed.String())
	}
}

// prove claims a position that a chunk has proven.
func (s *session) prove(ctx context.Context, at cdc.LSN) error {
	s.rest.Idle, s.rest.Urgent = at, true
	return s.pause(ctx)
}

// untilSafe waits until a position is safe. What the server says meanwhile is that it ends.
func (r *Reader) untilSafe(ctx context.Context, in *inbox, s *session, at cdc.LSN) error {
	p := s.start.Start
	p.LSN = at
	in.release()
	in.rc.waits.Store(true)
	for {
		changed := r.opts.Board.Watch()
		if !r.opts.Board.Safe(r.opts.Confirm).Before(p) {
			return nil
		}
		select {
		case <-changed:
		case g, more := <-in.rc.gulps:
			if !more {
				return errIntakeEnded
			}
			for rest := g.whole; len(rest) > 0; {
				var typ byte
				var body []byte
				if typ, body, rest = cutMessage(rest); typ == 'E' {
					return serverError(body)
				}
			}
			in.rc.recycle(g.whole)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// start sends START_REPLICATION and waits for the stream.
func (b *backlog) start(ctx context.Context, in *inbox) error {
	command := fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL 0/0 (%s)", b.cfg.Slot, strings.Join(b.cfg.pluginArgs(), ", "))
	if err := b.send(in, command); err != nil {
		return err
	}
	for {
		typ, body, _, err := in.next(ctx)
		switch {
		case err != nil:
			return err
		case typ == 'E':
			return serverError(body)
		case typ == 'W':
			return nil
		case typ != 'N' && typ != 'S':
			return fmt.Errorf("unexpected protocol message %q at the start of the stream", typ)
		}
	}
}

// textRow returns the values of a DataRow in text format; NULL is empty.
func textRow(body []byte) (row []string) {
	var d pgproto3.DataRow
	if d.Decode(body) != nil {
		return nil
	}
	for _, v := range d.Values {
		row = append(row, string(v))
	}
	return row
}

// queryOne runs a statement on a connection and returns its first row in text format.
func queryOne(ctx context.Context, conn *pgconn.PgConn, sql string) ([]string, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return nil, errors.New("the server returned no row")
	}
	var row []string
	for _, v := range results[0].Rows[0] {
		row = append(row, string(v))
	}
	return row, nil
}

// leave ends the statement that runs, and the connection, so that the server frees the slot soon.
func (b *backlog) leave() {
	b.cancel()
	if b.conn.SetWriteDeadline(time.Now().Add(writeTimeout)) == nil {
		_, _ = b.conn.Write(frame('X', "")) // it may be gone already
	}
}
