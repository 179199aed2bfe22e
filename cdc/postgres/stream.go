package postgres

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// stream runs the session's goroutines until one fails or the context ends. What b has, which may be nil, is
// read before the stream starts.
func (r *Reader) stream(ctx context.Context, s *session, rc *receiver, b *backlog) error {
	// work outlives the intake: what was received is handed over and confirmed
	// even after the order to stop, within Options.StopGrace.
	work, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	intake, stopIntake := context.WithCancel(ctx)
	defer stopIntake()
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(r.opts.StopGrace, giveUp) })
	defer stop()

	// rep is set, and s replaced, before the stream begins.
	var rep *reporter
	report := func() *reporter {
		rep := &reporter{conn: s.conn, board: r.opts.Board, policy: r.opts.Confirm, start: s.start.Start, urgent: s.urgent,
			names: r.syncNames, done: s.start.Start.LSN, at: time.Now()}
		s.turn = &turn{rep: rep, slot: r.cfg.Slot, took: r.turnTook}
		s.confirm, s.retained = r.confirm, r.cfg.MaxRetained
		if s.streamUntil = r.streamUntil; r.opts.Confirm != watermark.ConfirmSettled && !r.declined && !r.text.raw {
			s.behind = &catchup.Behind{Limits: r.limits}
		}
		return rep
	}
	var g errgroup.Group
	// cause is the first failure. What fails after it, fails because of it.
	var cause error
	var once sync.Once
	fail := func(run func() error) func() error {
		return func() error {
			err := run()
			if err != nil {
				once.Do(func() { cause = err })
				stopIntake()
				giveUp()
			}
			return err
		}
	}
	reporting, stopReporting := context.WithCancel(work)
	defer stopReporting()
	var side errgroup.Group
	from := s.start.Start
	side.Go(fail(func() error { return r.beat.run(reporting, from) }))

	side.Go(fail(func() error {
		select {
		case <-r.leaps.waiting():
			return errLeap
		case <-reporting.Done():
			return nil
		}
	}))

	g.Go(fail(func() error { return rc.run(intake) }))
	g.Go(fail(func() error {
		defer close(rc.gone)
		in := &inbox{rc: rc}
		if b != nil {
			r.enter(CatchingUp, nil)
			next, err := r.catchUp(work, s, in, b)
			if err == nil {
				s = next
				if err = b.start(work, in); sqlState(err) != "" {
					err = r.explainStart(err)
				}
			}
			if errors.Is(err, errIntakeEnded) {
				return s.handler.Rest(work, cdc.Rest{Unproven: true, Last: true})
			}
			if err != nil {
				return err
			}
			r.streams(s.start.Start, b.cfg.Streaming)
		}
		rep = report()
		side.Go(fail(func() error { return rep.run(reporting) }))
		if err := s.handler.Start(work, s.start); err != nil {
			return err
		}
		r.leapt = ""
		if r.State().Phase != Streaming { // a turn is no interruption
			r.enter(Streaming, nil)
		}
		if err := s.handOver(work, in.rest); err != nil {
			return err
		}
		in.release()
		if err := s.feed(work, rc); err != nil {
			return err
		}
		return s.handler.Rest(work, cdc.Rest{Last: true})
	}))
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	err, stuck := within(work, ended)
	if stuck {
		// The handler still has the session, so no other may begin.
		return &cdc.Halt{Err: errStuck}
	}
	if err == nil && rep != nil {
		r.settle(work, s.committed())
	}
	stopReporting()
	sideErr := side.Wait()
	if rep == nil {
		if b != nil {
			b.leave()
		}
		return cause
	}
	if err == nil && sideErr == nil {
		if err := rep.goodbye(&remainder{unread: rc.unread, Reader: io.MultiReader(bytes.NewReader(rc.rest), rc.r)}, r.cfg.Slot); err != nil {
			r.opts.Logger.Warn("the slot could not be confirmed, the next start purges again what is not", "err", err)
		}
	}
	if errors.Is(cause, errTurned) {
		r.turnBegan = rep.left
	}
	return cause
}

// stuckGrace is how long the handler may go on once its context has ended.
const stuckGrace = 5 * time.Second

// errStuck ends a reader whose handler does not return.
var errStuck = errors.New("the reader does not stop: what it evaluates does not end")

// within waits until a session has ended, and returns its error; or until it has gone on for stuckGrace after the
// end of its context.
func within(work context.Context, ended <-chan error) (err error, stuck bool) {
	select {
	case err := <-ended:
		return err, false
	case <-work.Done():
	}
	select {
	case err := <-ended:
		return err, false
	case <-time.After(stuckGrace):
		return nil, true
	}
}

// settle waits until every transaction handed over whole is safe, or the
// context ends.
func (r *Reader) settle(ctx context.Context, committed cdc.Position) {
	for {
		changed := r.opts.Board.Watch()
		if !r.opts.Board.Safe(r.opts.Confirm).Before(committed) || r.opts.Confirm == watermark.ConfirmSettled {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
