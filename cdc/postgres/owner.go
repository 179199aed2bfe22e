package postgres

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/failpoint"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// While a backlog is read through SQL, the slot is active only during the calls. So a session also
// holds an advisory lock on the replication connection, by which other processes see that the slot has an
// owner. Nothing depends on it but who waits for whom: two processes that read one slot are told
// apart by the epochs in the stream.

// formerPause and formerTime are for the process that served this reader's connection before: it
// ends soon, and no other process has the slot then.
const (
	formerPause = 20 * time.Millisecond
	formerTime  = 5 * time.Second
)

// own takes the lock of the slot. A role that may not call the function goes without.
func (r *Reader) own(ctx context.Context, conn *pgconn.PgConn) error {
	for began := time.Now(); ; {
		row, err := queryOne(ctx, conn, catchup.LockStatement(r.cfg.Slot))
		switch {
		case sqlState(err) == codePrivilege:
			return nil
		case err != nil:
			return fmt.Errorf("lock slot %q: %w", r.cfg.Slot, err)
		case row[0] == "t":
			r.backend = conn.PID()
			return nil
		}
		if row, err = queryOne(ctx, conn, catchup.OwnerStatement(r.cfg.Slot)); err != nil {
			return fmt.Errorf("read the owner of slot %q: %w", r.cfg.Slot, err)
		}
		pid, _ := strconv.Atoi(row[0])
		if pid != 0 && uint32(pid) != r.backend || time.Since(began) > formerTime {
			return &busyError{slot: r.cfg.Slot, pid: pid}
		}
		select {
		case <-time.After(formerPause):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// freed reads the slot. It waits for the process that served this reader before.
func (r *Reader) freed(ctx context.Context, conn *pgx.Conn) (*slotInfo, error) {
	for began := time.Now(); ; {
		slot, err := r.cfg.slot(ctx, conn)
		if err != nil || slot == nil || !slot.Active || uint32(slot.ActivePID) != r.backend || time.Since(began) > formerTime {
			return slot, err
		}
		select {
		case <-time.After(formerPause):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// owner returns the process that holds the lock of the slot, 0 if no process does.
func (c Config) owner(ctx context.Context, conn *pgx.Conn) (pid int, err error) {
	if err := conn.QueryRow(ctx, catchup.OwnerStatement(c.Slot)).Scan(&pid); err != nil {
		return 0, fmt.Errorf("read the owner of slot %q: %w", c.Slot, err)
	}
	return pid, nil
}

// limits are those of this process; tests ask for others by failpoints.
func limits() catchup.Limits {
	switch {
	case failpoint.On("catch_up_always"):
		return catchup.Forced
	case failpoint.On("catch_up_never"):
		never := catchup.Usual
		never.Begin = 1 << 62
		return never
	}
	return catchup.Usual
}

// fit prepares a connection for reading the slot through SQL, and reports whether it may be read so.
func (r *Reader) fit(ctx context.Context, conn *pgconn.PgConn) (slot catchup.Slot, fit bool, err error) {
	version, err := queryOne(ctx, conn, "SHOW server_version_num")
	if err != nil {
		return slot, false, err
	}
	if number, err := strconv.Atoi(version[0]); err != nil || !catchup.Fit(number) {
		return slot, false, err
	}
	row, err := queryOne(ctx, conn, catchup.SlotStatement(r.cfg.Slot))
	if err != nil {
		return slot, false, err
	}
	if slot, err = catchup.ParseSlot(row); err != nil {
		return slot, false, err
	}
	if !r.limits.Begins(slot) {
		r.reportLacking(slot)
		return slot, false, nil
	}
	_, err = conn.Exec(ctx, catchup.SettingsStatement(r.limits)).ReadAll()
	return slot, err == nil, err
}

// backlog takes the connection over if the session reads its backlog through SQL. It returns nil if it does
// not: the backlog is small; a chunk would wait for the slowest sink; the server is too old; or
// transactions must be read by the stream for another reason.
func (r *Reader) backlog(ctx context.Context, cfg Config, conn *pgconn.PgConn, hr *handshakeReader, start cdc.Session) (*backlog, error) {
	switch {
	case r.opts.Confirm == watermark.ConfirmSettled, uint64(start.End)-uint64(start.Start.LSN) <= r.limits.Begin, start.End < start.Start.LSN,
		!r.turnBegan.IsZero(), r.text.raw, r.failures.times > 0, cfg.Streaming != r.cfg.Streaming, start.Start.LSN < r.streamUntil:
		return nil, nil
	}
	r.declined = true
	slot, fit, err := r.fit(ctx, conn)
	switch {
	case sqlState(err) != "":
		// The stream needs none of what the server refuses here.
		r.conditions.At(noSQL).Observe("err", err, "times", condition.Sum(1))
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("prepare to read slot %q through SQL: %w", cfg.Slot, err)
	case !fit:
		return nil, nil
	}
	taken, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the replication connection: %w", err)
	}
	if taken.Frontend.ReadBufferLen() != 0 {
		return nil, errReadAhead
	}
	r.declined = false
	r.progress.begin(slot)
	return &backlog{cfg: cfg, conn: &hijacked{Conn: taken.Conn, in: hr, cancel: conn.CancelRequest}, plan: catchup.NewPlan(r.limits, start.Start.LSN), take: r.limits.TakeTime(), progress: &r.progress}, nil
}
