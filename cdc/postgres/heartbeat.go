package postgres

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/beat"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// heartbeatPrefix marks our messages in the log. They are transactional, so
// they arrive between a Begin and a Commit like a change does, and move every
// watermark through the whole pipeline even when the tables are quiet.
const heartbeatPrefix = "walpurge.heartbeat"

// maxMicros is the number of digits of the largest time in a heartbeat.
const maxMicros = 19

// lookPause is the time between two looks at the server's log position.
const lookPause = time.Second

// heartbeat watches the server from an ordinary connection: it writes messages
// into the log, notes the log's end on the board, and reads the slot's health.
// Its failure does not end a session but shows as lag that grows, with one
// exception: see run.
type heartbeat struct {
	cfg   Config
	board *watermark.Board
	// conditions is where a connection that fails is logged.
	conditions *condition.Log
	// names is read every second.
	names *syncNames
	// compare looks at the publication, on the heartbeat's connection.
	compare func(ctx context.Context, conn *pgx.Conn) error
	// poke holds one request for a message before its time, asked one for a comparison.
	poke, asked chan struct{}
	// nonce is in the heartbeats that this process writes.
	nonce string

	mu       sync.Mutex
	lastSeen time.Time
	slot     *slotInfo
	// inactive are those that others left, as of the newest message.
	inactive []InactiveSlot
}

// comparePause is the least time between two comparisons that were asked for, as a
// multiple of what one takes.
const comparePause = 4

// pokePause is the least time between a message and one that was asked for:
// however many ask, the log gets a few a second.
const pokePause = 200 * time.Millisecond

func newHeartbeat(cfg Config, board *watermark.Board, conditions *condition.Log, names *syncNames, compare func(context.Context, *pgx.Conn) error) *heartbeat {
	return &heartbeat{cfg: cfg, board: board, conditions: conditions, names: names, compare: compare, nonce: rand.Text(), poke: make(chan struct{}, 1), asked: make(chan struct{}, 1)}
}

// soon asks for a message now. It does not block; requests that come together
// are one.
func (h *heartbeat) soon() {
	select {
	case h.poke <- struct{}{}:
	default:
	}
}

// compareSoon asks for a comparison now. It does not block; requests that come together
// are one.
func (h *heartbeat) compareSoon() {
	select {
	case h.asked <- struct{}{}:
	default:
	}
}

// beatContent is the content of a heartbeat: when it was written, in Unix microseconds, and the nonce.
func (h *heartbeat) beatContent(at time.Time) string {
	return strconv.FormatInt(at.UnixMicro(), 10) + " " + h.nonce
}

// wrote reports whether a heartbeat is one that this process has written.
func (h *heartbeat) wrote(content []byte) bool {
	micros, nonce, _ := bytes.Cut(content, []byte(" "))
	return len(micros) <= maxMicros && string(nonce) == h.nonce
}

// returned notes that a heartbeat came back through the stream.
func (h *heartbeat) returned(content []byte) {
	text, _, _ := strings.Cut(string(content), " ")
	micros, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastSeen = time.UnixMicro(micros)
}

// errServerEnding: a server that shuts down waits for its walsenders, and those
// for a confirmation of all they sent. One that cannot be given now (a sink is
// dead, the stream is full) would hold the shutdown up for as long as the
// connection lives.
var errServerEnding = errors.New("the server is shutting down")

// run beats until the context ends, and returns nil then. It returns
// errServerEnding when the server, whose replication connection still lives,
// takes no new connection; whoever could confirm had a second by then. It returns
// errPublicationGone when there is no publication to read through any more, and
// errRetained when the slot holds back more than it may, and errReconnect when the walsender must be
// replaced.
func (h *heartbeat) run(ctx context.Context, start cdc.Position) error {
	for {
		err := h.serve(ctx, start)
		if ctx.Err() != nil {
			return nil
		}
		if sqlState(err) == codeCannotConnectNow {
			return errServerEnding
		}
		if errors.Is(err, errPublicationGone) || errors.Is(err, errRetained) || errors.Is(err, errReconnect) {
			return err
		}
		h.conditions.At(heartbeatLost).Observe("err", err, "attempts", condition.Sum(1))
		select {
		case <-time.After(lookPause):
		case <-ctx.Done():
			return nil
		}
	}
}

func (h *heartbeat) serve(ctx context.Context, start cdc.Position) error {
	conn, err := h.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	// A heartbeat says how far the log is, so it does not wait for standbys.
	if _, err := conn.Exec(ctx, "SET synchronous_commit = local"); err != nil {
		return err
	}
	look := beat.After(lookPause)
	due := time.NewTicker(h.cfg.Heartbeat)
	defer due.Stop()
	if err := h.beat(ctx, conn); err != nil {
		return err
	}
	latest, took := time.Now(), time.Duration(0)
	var asked, comparing <-chan time.Time
	for {
		if err := h.look(ctx, conn, start); err != nil {
			return err
		}
		h.conditions.At(heartbeatLost).End()
		select {
		case <-look:
			look = beat.After(lookPause)
		case <-due.C:
			if err := h.beat(ctx, conn); err != nil {
				return err
			}
			latest = time.Now()
		case <-h.poke:
			asked = time.After(max(0, pokePause-time.Since(latest)))
		case <-asked:
			if err := h.beat(ctx, conn); err != nil {
				return err
			}
			latest, asked = time.Now(), nil
		case <-h.asked:
			if comparing == nil {
				comparing = time.After(comparePause * took)
			}
		case <-comparing:
			began := time.Now()
			if err := h.compareNow(ctx, conn); err != nil {
				return err
			}
			took, comparing = time.Since(began), nil
		case <-ctx.Done():
			return nil
		}
	}
}

// beat writes a message into the log, and then compares the publication with what
// the rules watch.
func (h *heartbeat) beat(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	_, err := conn.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1::pg_catalog.text, $2::pg_catalog.text)",
		heartbeatPrefix, h.beatContent(time.Now()))
	if err != nil {
		return err
	}
	inactive, err := h.cfg.InactiveSlots(ctx, conn)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.inactive = inactive
	h.mu.Unlock()
	return h.compareNow(ctx, conn)
}

func (h *heartbeat) compareNow(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	return h.compare(ctx, conn)
}

// look notes where the log ends. The position is that of insertion, not of
// flushing: whatever lies beyond it was written after the query was sent.
func (h *heartbeat) look(ctx context.Context, conn *pgx.Conn, start cdc.Position) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := h.names.read(ctx, conn); err != nil {
		return err
	}
	sent := time.Now()
	var text string
	if err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text").Scan(&text); err != nil {
		return err
	}
	lsn, err := cdc.ParseLSN(text)
	if err != nil {
		return err
	}
	start.LSN = lsn
	h.board.NoteServer(start, sent)
	slot, err := h.cfg.slot(ctx, conn)
	if err != nil {
		return err
	}
	h.mu.Lock()
	h.slot = slot
	h.mu.Unlock()
	if h.cfg.retains(slot) {
		return errRetained
	}
	return nil
}

func (h *heartbeat) snapshot() (time.Time, *slotInfo) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastSeen, h.slot
}

// restartLag is how far the server would read its log before the confirmed position, in bytes, as
// last seen.
func (h *heartbeat) restartLag() int64 {
	_, slot := h.snapshot()
	if slot == nil {
		return 0
	}
	return slot.RestartLag
}
