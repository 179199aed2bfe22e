package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// Options are the reader's surroundings.
type Options struct {
	Board *watermark.Board
	// Confirm says which mark the server may be told.
	Confirm watermark.Policy
	// Tables returns the tables that must be published. It is asked at the start
	// of every session.
	Tables func() []cdc.Table
	Logger *slog.Logger
}

// Reader streams changes to a Handler.
type Reader struct {
	cfg   Config
	opts  Options
	beat  *heartbeat
	state atomic.Pointer[State]
}

// Phase says what the reader is doing.
type Phase string

// The phases.
const (
	Connecting Phase = "connecting"
	// Standby: another process streams from the slot, this one waits for it.
	Standby   Phase = "standby"
	Streaming Phase = "streaming"
	Stopped   Phase = "stopped"
)

// State is the reader's condition for status pages.
type State struct {
	Phase Phase
	Since time.Time
	// Err says why the reader is not streaming.
	Err string
}

// NewReader returns a reader that does nothing until Run.
func NewReader(cfg Config, opts Options) *Reader {
	r := &Reader{cfg: cfg, opts: opts, beat: &heartbeat{cfg: cfg, board: opts.Board, log: opts.Logger}}
	r.enter(Connecting, nil)
	return r
}

// State returns what the reader is doing.
func (r *Reader) State() State { return *r.state.Load() }

func (r *Reader) enter(p Phase, err error) {
	s := State{Phase: p, Since: time.Now()}
	if err != nil {
		s.Err = err.Error()
	}
	r.state.Store(&s)
}

// Slot is the health of the slot as last seen.
type Slot struct {
	Name   string
	Status string
	// Retained and Safe are in bytes: the log that the slot holds back, and how
	// much more may be written before it is lost; Safe is nil without a limit.
	Retained int64
	Safe     *int64
	// Heartbeat is when the newest heartbeat that came back was written.
	Heartbeat time.Time
}

// Slot returns the slot's health, false if it was never seen.
func (r *Reader) Slot() (Slot, bool) {
	beat, info := r.beat.snapshot()
	if info == nil {
		return Slot{Name: r.cfg.Slot, Heartbeat: beat}, false
	}
	return Slot{Name: r.cfg.Slot, Status: info.Status, Retained: info.Retained, Safe: info.Safe, Heartbeat: beat}, true
}

// Run streams to the handler until the context ends, then hands over what was
// received, confirms what is safe, and returns nil. It reconnects after every
// failure but two: a *cdc.Halt is returned, and so is a *Fault or *Missing of
// the first attempt, because a daemon that cannot have worked once should not
// pretend to start. Run may be called once.
func (r *Reader) Run(ctx context.Context, h Handler) error {
	defer r.enter(Stopped, nil)
	backoff := minBackoff
	streamed := false
	for {
		began := time.Now()
		err := r.session(ctx, h, &streamed)
		if ctx.Err() != nil {
			return nil
		}
		var halt *cdc.Halt
		if errors.As(err, &halt) {
			return err
		}
		if !streamed && isFault(err) {
			return err
		}
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		var busy *busyError
		if errors.As(err, &busy) {
			r.waitForSlot(err)
			backoff = minBackoff * 4
		} else {
			r.opts.Logger.Warn("replication interrupted, reconnecting", "err", err, "after", backoff)
			r.enter(Connecting, err)
		}
		select {
		case <-time.After(backoff + rand.N(backoff/2)):
		case <-ctx.Done():
			return nil
		}
		backoff = min(backoff*2, maxBackoff)
	}
}

const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 10 * time.Second
	// stopGrace bounds how long a stop waits for the handler to take what was
	// received and for it to become safe.
	stopGrace = 5 * time.Second
)

func isFault(err error) bool {
	var f *Fault
	var m *Missing
	return errors.As(err, &f) || errors.As(err, &m)
}

func (r *Reader) waitForSlot(err error) {
	if r.State().Phase != Standby {
		r.opts.Logger.Info("another process streams from the slot, waiting for it", "slot", r.cfg.Slot, "err", err)
		r.enter(Standby, err)
	}
}

// session prepares the database, streams, and returns why it stopped.
func (r *Reader) session(ctx context.Context, h Handler, streamed *bool) error {
	prepared, newestXID, err := r.prepare(ctx, *streamed)
	if err != nil {
		return err
	}
	conn, hr, err := r.cfg.connectReplication(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	id, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify the server: %w", err)
	}
	prepared.Start.SystemID, prepared.Start.Timeline = id.SystemID, uint32(id.Timeline)
	stream, err := r.cfg.startStreaming(ctx, conn, hr)
	if err != nil {
		return r.explainStart(err)
	}
	defer stream.Close()
	*streamed = true
	r.opts.Board.Advance(watermark.Mark{Stage: watermark.Received}, prepared.Start)
	r.opts.Logger.Info("streaming", "slot", r.cfg.Slot, "from", prepared.Start.String())

	s := &session{
		start: prepared, conn: stream, board: r.opts.Board, handler: h, beat: r.beat,
		urgent: make(chan struct{}, 1), decoder: pgoutput.NewDecoder(), xids: widener{newest: newestXID},
	}
	return r.stream(ctx, s, newReceiver(stream, hr))
}

// prepare brings publication and slot into being and reads where to start. A
// reader that streamed before goes on without the tables that the application
// has dropped or made unpublishable meanwhile: the others' purges matter more.
func (r *Reader) prepare(ctx context.Context, streamed bool) (cdc.Session, uint64, error) {
	conn, err := r.cfg.Connect(ctx)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	slot, err := r.cfg.slot(ctx, conn)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	if slot != nil && slot.Active {
		// Only the slot's owner may touch the publication.
		return cdc.Session{}, 0, &busyError{slot: r.cfg.Slot, pid: slot.ActivePID}
	}
	tables := r.opts.Tables()
	if streamed {
		tables = r.publishable(ctx, conn, tables)
	}
	created, err := r.cfg.Ensure(ctx, conn, tables)
	if err != nil {
		return cdc.Session{}, 0, err
	}
	if slot, err = r.cfg.slot(ctx, conn); err != nil {
		return cdc.Session{}, 0, err
	}
	if slot == nil {
		return cdc.Session{}, 0, fmt.Errorf("slot %q vanished while starting", r.cfg.Slot)
	}
	if slot.Status == "lost" {
		return cdc.Session{}, 0, &Fault{fmt.Errorf("slot %q was invalidated by the server: changes are lost", r.cfg.Slot),
			"drop it (SELECT pg_drop_replication_slot('" + r.cfg.Slot + "');) and start again: a new slot is created and every sink flushed"}
	}
	var next uint64
	if err := conn.QueryRow(ctx, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::numeric").Scan(&next); err != nil {
		return cdc.Session{}, 0, fmt.Errorf("read the next transaction id: %w", err)
	}
	return cdc.Session{Start: cdc.Position{LSN: slot.Confirmed}, SlotCreated: created}, next, nil
}

// publishable leaves out the tables that cannot be published, and says so.
func (r *Reader) publishable(ctx context.Context, conn *pgx.Conn, tables []cdc.Table) []cdc.Table {
	infos, err := Inspect(ctx, conn, r.cfg.Publication, tables)
	if err != nil {
		r.opts.Logger.Error("rules watch tables that are gone, going on without them", "err", err)
	}
	return slices.DeleteFunc(slices.Clone(tables), func(t cdc.Table) bool {
		info := infos[t]
		if info != nil && !info.Published && (!info.Usable || info.Root != "") {
			r.opts.Logger.Error("rules watch a table that cannot be published, going on without it", "err", info.IdentityFault())
			return true
		}
		return info == nil
	})
}

// busyError says that another process streams from the slot.
type busyError struct {
	slot string
	pid  int
}

func (e *busyError) Error() string {
	return fmt.Sprintf("slot %q is active for PostgreSQL process %d", e.slot, e.pid)
}

func (r *Reader) explainStart(err error) error {
	switch sqlState(err) {
	case codeObjectInUse:
		return &busyError{slot: r.cfg.Slot}
	case codeUndefinedObject, codeNotInState:
		return &Fault{fmt.Errorf("slot %q cannot be read: %w", r.cfg.Slot, err), "see `walpurge check`; a lost slot must be dropped before a new one is created"}
	}
	return fmt.Errorf("start replication: %w", err)
}

// stream runs the session's goroutines until one fails or the context ends.
func (r *Reader) stream(ctx context.Context, s *session, rc *receiver) error {
	// work outlives the intake: what was received is handed over and confirmed
	// even after the order to stop, within stopGrace.
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	intake, stopIntake := context.WithCancel(ctx)
	defer stopIntake()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(stopGrace, giveUp) })
	defer stop()

	rep := &reporter{conn: s.conn, board: r.opts.Board, policy: r.opts.Confirm, start: s.start.Start, urgent: s.urgent}
	var g errgroup.Group
	fail := func(run func() error) func() error {
		return func() error {
			err := run()
			if err != nil {
				stopIntake()
				giveUp()
			}
			return err
		}
	}
	reporting, stopReporting := context.WithCancel(work)
	defer stopReporting()
	var side errgroup.Group
	side.Go(fail(func() error { return rep.run(reporting) }))
	side.Go(fail(func() error { return r.beat.run(reporting, s.start.Start) }))

	g.Go(fail(func() error { return rc.run(intake) }))
	g.Go(fail(func() error {
		if err := s.handler.Start(work, s.start); err != nil {
			return err
		}
		r.enter(Streaming, nil)
		for b := range rc.gulps {
			if err := s.gulp(work, b); err != nil {
				return err
			}
			rc.recycle(b)
		}
		return nil
	}))
	err := g.Wait()
	if err == nil {
		r.settle(work)
	}
	stopReporting()
	sideErr := side.Wait()
	if err == nil && sideErr == nil {
		rep.goodbye()
	}
	return errors.Join(err, sideErr)
}

// settle waits until all whole transactions received are safe.
func (r *Reader) settle(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, stopGrace)
	defer cancel()
	head := r.opts.Board.Get(watermark.Mark{Stage: watermark.Received})
	for {
		changed := r.opts.Board.Watch()
		if !r.opts.Board.Safe(r.opts.Confirm).Before(head) || r.opts.Confirm == watermark.ConfirmSettled {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Widen publishes tables that a reload added, before the new rules begin.
func (r *Reader) Widen(ctx context.Context, tables []cdc.Table) error {
	conn, err := r.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = r.cfg.Ensure(ctx, conn, tables)
	return err
}
