package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pglogrepl"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/pgoutput"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// Options are the reader's surroundings.
type Options struct {
	Board *watermark.Board
	// Confirm says which mark the server may be told.
	Confirm watermark.Policy
	// Watch returns the tables that must be published. It is asked at the start of
	// every session, and at every heartbeat.
	Watch func() Watch
	// Memory keeps what was seen of the publication; nil: each start begins anew.
	Memory Memory
	// BridgeGaps allows steps that make a gap: to drop a slot that the server has invalidated and
	// to create it again, which takes Config.Manage, too; and to advance the slot past a
	// transaction that the server cannot decode.
	BridgeGaps bool
	// StopGrace bounds how long a stop waits for the handler to take what was
	// received and for it to become safe.
	StopGrace time.Duration
	Logger    *slog.Logger
}

// Reader streams changes to a Handler.
type Reader struct {
	cfg  Config
	opts Options
	beat *heartbeat
	// conditions is the log of what repeats.
	conditions *condition.Log
	syncNames  *syncNames
	// confirm says how often the slot is confirmed where status updates must not do it.
	confirm confirmation
	// turnBegan is when the last session ended its stream for a turn, zero if it did not. turnTook
	// is how long that was before the next stream. Both belong to the session.
	turnBegan time.Time
	turnTook  time.Duration
	leaps     *leaps
	// leapt is why the slot was moved, until a session has begun on it. It belongs to
	// the session.
	leapt cdc.GapReason
	whole whole
	// reconnect is for servers of which staysUnpublished holds.
	reconnect        reconnect
	staysUnpublished func(version int) bool
	// failures belong to the session.
	failures failures
	// limits say which backlogs are read through SQL. streamUntil is how far the log must be streamed first,
	// because it could not be read so. declined reports that the newest large backlog was not read so. backend is the process that serves the newest replication connection. All
	// but the limits belong to the session.
	limits      catchup.Limits
	streamUntil cdc.LSN
	declined    bool
	backend     uint32
	progress    progress
	// unseen reports that the session before ended because the publication did not exist at its position.
	unseen bool
	// unconverted says for how long sessions go without conversion to UTF-8, text is
	// what the session knows of encodings.
	unconverted whole
	text        text
	// questions belongs to the session.
	questions questions
	ignored   ignoredMessages
	state     atomic.Pointer[State]
	// widening is held by whoever changes the publication.
	widening sync.Mutex
	watching watching
	// kin is which tables inherit from which, as last read.
	kin atomic.Pointer[kin]
	// notNull has the columns of published tables that cannot be NULL, by the table's OID.
	notNull atomic.Pointer[map[uint32][]string]
}

// Phase says what the reader is doing.
type Phase string

// The phases.
const (
	Connecting Phase = "connecting"
	// Standby: another process streams from the slot, this one waits for it.
	Standby Phase = "standby"
	// CatchingUp: this process reads a backlog through SQL, before it streams.
	CatchingUp Phase = "catching_up"
	Streaming  Phase = "streaming"
	Stopped    Phase = "stopped"
)

// Reads reports that changes arrive.
func (p Phase) Reads() bool { return p == Streaming || p == CatchingUp }

// State is the reader's condition for status pages.
type State struct {
	Phase Phase
	// Since is when the reader began, or ceased, to stream.
	Since time.Time
	// Err says why the reader is not streaming.
	Err string
}

// NewReader returns a reader that does nothing until Run.
func NewReader(cfg Config, opts Options) *Reader {
	r := &Reader{cfg: cfg, opts: opts, leaps: newLeaps(), staysUnpublished: staysUnpublished, conditions: condition.NewLog(opts.Logger)}
	r.limits = limits()
	r.syncNames, r.confirm = newSyncNames(r.conditions), usualConfirmation
	r.watching.passing, r.watching.renamed = make(map[uint32]uint32), make(map[uint32]bool)
	r.questions.connect, r.ignored.conditions = cfg.Connect, r.conditions
	r.beat = newHeartbeat(cfg, opts.Board, r.conditions, r.syncNames, r.look)
	r.enter(Connecting, nil)
	return r
}

// State returns what the reader is doing.
func (r *Reader) State() State { return *r.state.Load() }

// enter changes the phase. Since goes on where the reader read neither before nor
// now: an outage begins when the first connection is lost.
func (r *Reader) enter(p Phase, err error) {
	s := State{Phase: p, Since: time.Now()}
	if before := r.state.Load(); before != nil && !p.Reads() && !before.Phase.Reads() {
		s.Since = before.Since
	}
	if err != nil {
		s.Err = err.Error()
	}
	r.state.Store(&s)
}

// Beat asks for a heartbeat now, so that an idle line moves past what was
// committed before. It does not block; while nobody streams it is kept for the
// next session.
func (r *Reader) Beat() { r.beat.soon() }

// Slot is the health of the slot as last seen.
type Slot struct {
	Name   string
	Status string
	// Retained and Safe are in bytes: the log that the slot holds back, and how
	// much more may be written before it is lost; Safe is nil without a limit.
	Retained int64
	Safe     *int64
	// RestartLag is how much of what is retained is held by transactions that
	// were open at the confirmed position, in bytes.
	RestartLag int64
	// Heartbeat is when the newest heartbeat that came back was written.
	Heartbeat time.Time
}

// Slot returns the slot's health, false if it was never seen.
func (r *Reader) Slot() (Slot, bool) {
	beat, info := r.beat.snapshot()
	if info == nil {
		return Slot{Name: r.cfg.Slot, Heartbeat: beat}, false
	}
	return Slot{Name: r.cfg.Slot, Status: info.Status, Retained: info.Retained, Safe: info.Safe, RestartLag: info.RestartLag, Heartbeat: beat}, true
}

// InactiveSlots returns the slots that other pipelines left in the database, as of the newest heartbeat.
func (r *Reader) InactiveSlots() []InactiveSlot {
	r.beat.mu.Lock()
	defer r.beat.mu.Unlock()
	return r.beat.inactive
}

// Run streams to the handler until the context ends, then hands over what was
// received, confirms what is safe, and returns nil. It reconnects after every
// failure but two: a *cdc.Halt is returned, and so is a *Fault or *Missing of
// the first attempt, because a daemon that cannot have worked once should not
// pretend to start. Run may be called once.
func (r *Reader) Run(ctx context.Context, h Handler) error {
	defer r.enter(Stopped, nil)
	defer r.conditions.Close()
	backoff := minBackoff
	streamed := false
	for {
		began := time.Now()
		err := r.session(ctx, h, &streamed)
		if errors.Is(err, errStuck) {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, errTurned) || errors.Is(err, errBehind) {
			if errors.Is(err, errBehind) {
				r.conditions.At(behind).Observe("times", condition.Sum(1))
			}
			backoff = minBackoff
			continue
		}
		r.turnBegan = time.Time{}
		var halt *cdc.Halt
		if errors.As(err, &halt) {
			return err
		}
		if !streamed && isFault(err) {
			return err
		}
		if errors.Is(err, errRetained) {
			r.leaps.ask(cdc.GapRetained, 0)
		}
		if time.Since(began) > maxBackoff {
			backoff = minBackoff
		}
		var busy *busyError
		leaping := r.leaps.waiting()
		switch {
		case errors.As(err, &busy):
			r.waitForSlot(err)
			backoff, leaping = minBackoff*4, nil
		case errors.Is(err, errLeap) || errors.Is(err, errRetained) || errors.Is(err, errConvertible) || errors.Is(err, errSkipped) || errors.Is(err, errReconnect):
			r.enter(Connecting, err)
			backoff = minBackoff
		default:
			r.conditions.At(interrupted).Observe("err", err, "after", backoff, "attempts", condition.Sum(1))
			r.enter(Connecting, err)
			if errors.Is(err, errNotMoved) {
				leaping = nil
			}
		}
		select {
		case <-time.After(backoff + rand.N(backoff/2)):
		case <-leaping:
		case <-ctx.Done():
			return nil
		}
		backoff = min(backoff*2, maxBackoff)
	}
}

const (
	minBackoff = 250 * time.Millisecond
	maxBackoff = 10 * time.Second
)

func isFault(err error) bool {
	var f *Fault
	var m *Missing
	return errors.As(err, &f) || errors.As(err, &m)
}

func (r *Reader) waitForSlot(err error) {
	r.conditions.At(interruptedStandby).End()
	r.conditions.At(standby).Observe("slot", r.cfg.Slot, "err", err)
	// Another process may have the slot than before.
	r.enter(Standby, err)
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
	if err := r.own(ctx, conn); err != nil {
		return err
	}
	id, err := pglogrepl.IdentifySystem(ctx, conn)
	if err != nil {
		return fmt.Errorf("identify the server: %w", err)
	}
	prepared.Start.SystemID, prepared.Start.Timeline = id.SystemID, uint32(id.Timeline)
	prepared.End = cdc.LSN(id.XLogPos)
	if prepared.History, err = r.history(ctx, conn, id.Timeline); err != nil {
		return err
	}
	raw := r.unconverted.until(prepared)
	r.text = text{server: conn.ParameterStatus("server_encoding"), raw: raw, until: r.unconverted.end, convert: r.toUTF8, named: make(map[*cdc.Relation]bool)}
	if r.text.raw {
		if _, err := conn.Exec(ctx, "SET client_encoding = '"+encodingASCII+"'").ReadAll(); err != nil {
			return fmt.Errorf("read without conversion: %w", err)
		}
	}
	cfg := r.cfg
	cfg.Streaming = cfg.Streaming && !r.whole.until(prepared)
	b, err := r.backlog(ctx, cfg, conn, hr, prepared)
	if err != nil {
		return err
	}
	if b != nil {
		*streamed = true
		r.reconnect.began(prepared.Start.LSN)
		r.turnBegan = time.Time{}
		r.catchesUp(prepared)
		err = r.follow(ctx, b.conn, b.conn.in, prepared, newestXID, h, b)
	} else {
		stream, startErr := cfg.startStreaming(ctx, conn, hr)
		if startErr != nil {
			return r.explainStart(startErr)
		}
		*streamed = true
		r.reconnect.began(prepared.Start.LSN)
		if r.turnBegan.IsZero() {
			r.streams(prepared.Start, cfg.Streaming)
		} else {
			r.turnBegan, r.turnTook = time.Time{}, time.Since(r.turnBegan)
		}
		err = r.Follow(ctx, stream, hr, prepared, newestXID, h)
	}
	switch {
	case untranslatable(err) && !r.text.raw:
		r.unconverted.next = true
		r.conditions.At(unconvertible).Observe("err", err, "times", condition.Sum(1))
	case cfg.Streaming && patienceWith(err) > 0:
		r.whole.next = true
		r.conditions.At(undecoded).Observe("err", err, "times", condition.Sum(1))
	case sqlState(err) == codeUndefinedObject && strings.Contains(err.Error(), r.cfg.Publication):
		r.unseen = true
	default:
		skip := r.failures.failed(err, prepared)
		switch {
		case !skip.due:
		case !r.opts.BridgeGaps:
			return waitsForOperator(err)
		default:
			r.failures.skipped(prepared.End)
			r.conditions.At(passedOver).Observe("err", err, "times", condition.Sum(1))
			r.leaps.ask(cdc.GapUndecodable, skip.to)
			return fmt.Errorf("%w: %w", errSkipped, err)
		}
	}
	return err
}

// Follow streams one session to the handler, over a connection on which
// START_REPLICATION has succeeded; in is where what it brings is read from, and newestXID
// a transaction id near those to come. It closes the connection, and returns why the
// session ended: nil, once the context has and what was received is handed over and
// confirmed. Run makes sessions of the real thing, tests of a simulated server.
func (r *Reader) Follow(ctx context.Context, conn net.Conn, in io.Reader, start cdc.Session, newestXID uint64, h Handler) error {
	return r.follow(ctx, conn, in, start, newestXID, h, nil)
}

// follow is Follow; what b has, which may be nil, is read before START_REPLICATION is sent.
func (r *Reader) follow(ctx context.Context, conn net.Conn, in io.Reader, start cdc.Session, newestXID uint64, h Handler, b *backlog) error {
	defer conn.Close()
	defer r.questions.close(ctx)
	r.opts.Board.Advance(watermark.Mark{Stage: watermark.Received}, start.Start)
	return r.stream(ctx, r.newSession(conn, start, widener{newest: newestXID}, h), newReceiver(conn, in), b)
}

func (r *Reader) newSession(conn net.Conn, start cdc.Session, xids widener, h Handler) *session {
	return &session{
		start: start, conn: conn, board: r.opts.Board, handler: h, beat: r.beat,
		urgent: make(chan struct{}, 1), decoder: pgoutput.NewDecoder(), xids: xids, gap: r.tableGap, publication: r.cfg.Publication, nonce: r.watching.ownNonce, ignored: &r.ignored, questions: &r.questions, described: r.described, foreign: r.watching.hasForeign, nameOf: r.watching.nameOf, text: &r.text, types: newSessionTypes(r.cfg.Connect),
		aliases: aliases{now: r.kin.Load}, notNulls: notNulls{now: r.notNull.Load},
		streams: make(map[uint64]*streamed), renamed: make(map[uint32]cdc.Table), former: make(map[formerly]*cdc.Relation),
	}
}

// renewed returns a session on the same connection that begins where the slot is now. The one before has
// opened an epoch, so the slot is neither new nor was it moved before that.
func (r *Reader) renewed(s *session) *session {
	start := s.start
	start.SlotCreated, start.SlotUnread, start.Inactive, start.Leapt = false, false, nil, ""
	return r.newSession(s.conn, start, s.xids, s.handler)
}
