package postgres

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/integration/harness"
)

// server is a PostgreSQL with a table, and an application's connection to it.
type server struct {
	t    *testing.T
	pg   *harness.Postgres
	conn *pgx.Conn
	cfg  Config
	// watches is what the rules watch; the table items if it is empty.
	watches Watch
	memory  Memory
	// staysUnpublished replaces that of the reader, unless it is nil.
	staysUnpublished func(version int) bool
	// bridge is Options.BridgeGaps.
	bridge bool
	// grace is Options.StopGrace; 5 seconds if it is 0.
	grace time.Duration
	// confirm is how often the slot is confirmed in turns; the usual if it is nil.
	confirm *confirmation
	// limits say which backlogs are read through SQL; those of the process if it is nil.
	limits *catchup.Limits
}

func (s *server) watch() Watch {
	w := s.watches
	if w.Matches == nil && w.Tables == nil {
		w.Tables = []cdc.Table{{Schema: "public", Name: "items"}}
	}
	return w
}

func newServer(t *testing.T) *server {
	t.Helper()
	return newServerWith(t, harness.PostgresConfig{})
}

// newServerWith is newServer with settings or binaries of the test's own.
func newServerWith(t *testing.T, cfg harness.PostgresConfig) *server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := harness.StartPostgres(ctx, cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	require.NoError(t, pg.Exec(ctx, "postgres", "CREATE TABLE items (id int PRIMARY KEY, note text)"))
	s := &server{t: t, pg: pg, cfg: DefaultConfig("test")}
	s.cfg.URL, s.cfg.Heartbeat = pg.URL("postgres"), 200*time.Millisecond
	s.conn, err = pgx.Connect(ctx, s.cfg.URL)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.conn.Close(context.Background()) })
	return s
}

func (s *server) exec(sql string, args ...any) {
	s.t.Helper()
	_, err := s.conn.Exec(s.t.Context(), sql, args...)
	require.NoError(s.t, err)
}

// major is the server's major version.
func (s *server) major() int {
	s.t.Helper()
	version, err := serverVersion(s.t.Context(), s.conn)
	require.NoError(s.t, err)
	return version / 10000
}

// lsn reads a position, such as pg_current_wal_insert_lsn().
func (s *server) lsn(expr string) cdc.LSN {
	s.t.Helper()
	var text string
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT ("+expr+")::text").Scan(&text))
	l, err := cdc.ParseLSN(text)
	require.NoError(s.t, err)
	return l
}

func (s *server) confirmed() cdc.LSN {
	return s.lsn("SELECT confirmed_flush_lsn FROM pg_replication_slots")
}

// walsender is the process that serves the slot, 0 if none does.
func (s *server) walsender() (pid int) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT coalesce(max(active_pid), 0) FROM pg_replication_slots").Scan(&pid))
	return pid
}

// sinkhole is a handler that keeps what it is given and, as long as it is not
// frozen, calls it safe at once.
type sinkhole struct {
	board *watermark.Board
	// hold, if set, is called with every change before it counts.
	hold func(c *cdc.Change)
	// reads, if set, says which columns are looked at; else it is all of them.
	reads func(rel *cdc.Relation) []bool

	mu      sync.Mutex
	starts  []cdc.Session
	ids     map[string]int
	notes   map[string]int // length of each note, by id
	commits []cdc.Txn
	gaps    []cdc.TableGap
	gapXIDs []uint64
	end     cdc.LSN
	frozen  bool
}

func (h *sinkhole) Start(_ context.Context, s cdc.Session) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.starts = append(h.starts, s)
	return nil
}

func (h *sinkhole) Reads(_ *cdc.Txn, rel *cdc.Relation) []bool {
	if h.reads == nil {
		return nil
	}
	return h.reads(rel)
}

func (h *sinkhole) Hears(*cdc.Txn, string) int { return 1 << 30 }

func (h *sinkhole) Change(_ context.Context, _ *cdc.Txn, c *cdc.Change) error {
	if h.hold != nil {
		h.hold(c)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	row := c.New
	if row == nil {
		row = c.Old
	}
	if c.Op == cdc.Truncate {
		return nil
	}
	h.ids[string(row[0].Data)]++
	h.notes[string(row[0].Data)] = len(row[1].Data)
	return nil
}

func (h *sinkhole) TableGap(_ context.Context, tx *cdc.Txn, gap cdc.TableGap) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.gaps = append(h.gaps, gap)
	h.gapXIDs = append(h.gapXIDs, tx.XID)
	return nil
}

func (h *sinkhole) Message(context.Context, *cdc.Txn, string, []byte) error { return nil }

func (h *sinkhole) Abort(context.Context, *cdc.Txn) error { return nil }

func (h *sinkhole) Commit(_ context.Context, tx *cdc.Txn) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.commits = append(h.commits, *tx)
	h.end = tx.End
	return nil
}

func (h *sinkhole) Rest(_ context.Context, r cdc.Rest) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.starts[len(h.starts)-1].Start
	at.LSN = max(at.LSN, h.end, r.Idle)
	if !h.frozen {
		h.board.Advance(watermark.Mark{Stage: watermark.Synced}, at)
	}
	return nil
}

func (h *sinkhole) freeze(frozen bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.frozen = frozen
}

// has reports whether ids 0 to n-1 all arrived.
func (h *sinkhole) has(n int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range n {
		if h.ids[fmt.Sprint(i)] == 0 {
			return false
		}
	}
	return true
}

func (h *sinkhole) sessions() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.starts)
}

// running is a reader at work.
type running struct {
	*Reader
	*sinkhole
	log  *lines
	stop context.CancelFunc
	done chan error
}

// run starts a reader and waits until it is in the phase.
func (s *server) run(h *sinkhole, until Phase) *running {
	s.t.Helper()
	return s.runHandler(h, h, until)
}

// runHandler is run with a handler that is more than its sinkhole.
func (s *server) runHandler(h *sinkhole, handler Handler, until Phase) *running {
	s.t.Helper()
	h.board = watermark.NewBoard(watermark.Mark{Stage: watermark.Received}, watermark.Mark{Stage: watermark.Synced}, watermark.Mark{Stage: watermark.Confirmed})
	h.ids, h.notes = make(map[string]int), make(map[string]int)
	out := &lines{}
	r := NewReader(s.cfg, Options{
		StopGrace: cmp.Or(s.grace, 5*time.Second),
		Board:     h.board, Confirm: watermark.ConfirmSynced, Logger: slog.New(slog.NewTextHandler(out, nil)),
		Watch: s.watch, Memory: s.memory, BridgeGaps: s.bridge,
	})
	if s.staysUnpublished != nil {
		r.staysUnpublished = s.staysUnpublished
	}
	if s.confirm != nil {
		r.confirm = *s.confirm
	}
	if s.limits != nil {
		r.limits = *s.limits
	}
	ctx, cancel := context.WithCancel(context.Background())
	run := &running{Reader: r, sinkhole: h, log: out, stop: cancel, done: make(chan error, 1)}
	go func() { run.done <- r.Run(ctx, handler) }()
	s.t.Cleanup(func() {
		cancel()
		select {
		case <-run.done:
		case <-time.After(20 * time.Second):
			s.t.Error("the reader does not stop")
		}
		if s.t.Failed() {
			s.t.Log(out.String())
		}
	})
	eventually(s.t, 30*time.Second, func() bool { return r.State().Phase == until }, "the reader is "+string(until))
	return run
}

// end stops the reader.
func (r *running) end(t *testing.T) {
	t.Helper()
	r.stop()
	err := <-r.done
	r.done <- nil
	require.NoError(t, err)
}

// caughtUp waits until the stream has brought all that was written before.
func (r *running) caughtUp(s *server) {
	s.t.Helper()
	end := s.lsn("pg_current_wal_insert_lsn()")
	s.exec("SELECT pg_logical_emit_message(true, 'end', '')")
	eventually(s.t, hang, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.sinkhole.end >= end }, "the stream brings all")
}

// lines keeps what is logged.
type lines struct {
	mu sync.Mutex
	b  strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func eventually(t *testing.T, within time.Duration, cond func() bool, msg string) {
	t.Helper()
	require.Eventually(t, cond, within, 20*time.Millisecond, msg)
}

// problems are the texts of the reader's problems.
func (r *running) problems() []string {
	var out []string
	all, _ := r.Problems()
	for _, p := range all {
		out = append(out, p.Text)
	}
	return out
}
