package postgres

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/integration/harness"
)

// small are limits with which a backlog of a few MiB takes several chunks.
var small = catchup.Limits{Begin: 64 << 10, End: 16 << 10, First: 128 << 10, Largest: 512 << 10, Reread: 64 << 20}

// away makes the slot and leaves it, so that what is written next is a backlog.
func (s *server) away() {
	s.t.Helper()
	r := s.run(&sinkhole{}, Streaming)
	s.exec("INSERT INTO items VALUES (-1, 'first')")
	r.caughtUp(s)
	r.end(s.t)
	eventually(s.t, hang, func() bool { return s.walsender() == 0 }, "the slot is free")
}

// fill writes rows with the ids from to before in transactions of per rows.
func (s *server) fill(from, before, per int) {
	s.t.Helper()
	for ; from < before; from += per {
		s.exec("INSERT INTO items SELECT n, repeat('x', 300) FROM generate_series($1::int, $2) n", from, min(from+per, before)-1)
	}
}

func (r *running) once(t *testing.T, n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range n {
		require.Equal(t, 1, r.ids[fmt.Sprint(i)], "row %d", i)
	}
}

// TestBacklogThroughSQL reads a backlog of small transactions, one that is larger than a chunk, and the log of tables
// that are not published, and then streams.
func TestBacklogThroughSQL(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.limits = &small
	s.away()
	s.exec("CREATE TABLE other (id int, note text)")
	s.exec("CHECKPOINT")
	s.fill(0, 2000, 10)
	s.fill(2000, 6000, 4000)
	s.exec("INSERT INTO other SELECT n, repeat('x', 300) FROM generate_series(1, 4000) n")
	s.exec("CHECKPOINT")
	s.exec("BEGIN; INSERT INTO items VALUES (-2, 'rolled back'); ROLLBACK")
	s.fill(6000, 7000, 1)
	before := s.confirmed()
	r := s.run(&sinkhole{}, Streaming)
	r.caughtUp(s)
	r.once(t, 7000)
	require.Zero(t, r.ids["-2"])
	require.Contains(t, r.log.String(), "catching up")
	require.Greater(t, r.Chunks()[chunkDone], uint64(3), r.log.String())
	require.NotContains(t, r.log.String(), "WARN")
	require.Equal(t, before, r.starts[0].Start.LSN)
	eventually(t, hang, func() bool { return s.confirmed() > before }, "the slot is confirmed")
	s.fill(7000, 7001, 1)
	r.caughtUp(s)
	r.once(t, 7001)
	c, now := r.CatchUp()
	require.False(t, now)
	require.Positive(t, c.Drained)
	require.GreaterOrEqual(t, c.Read, c.Drained)
}

// TestBacklogIsNotConfirmedEarly: no chunk is confirmed before it is safe, and the next is not read before that.
func TestBacklogIsNotConfirmedEarly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.limits = &small
	s.away()
	s.fill(0, 4000, 10)
	before := s.confirmed()
	r := s.run(&sinkhole{frozen: true}, CatchingUp)
	eventually(t, hang, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.commits) > 0 && r.ids["200"] == 1 }, "the first chunk arrives")
	eventually(t, hang, func() bool { return r.board.Get(watermark.Mark{Stage: watermark.Received}).LSN > before }, "and is proven")
	require.Equal(t, before, s.confirmed())
	r.mu.Lock()
	held := len(r.ids)
	r.mu.Unlock()
	require.Less(t, held, 2000)
	require.LessOrEqual(t, r.board.Safe(watermark.ConfirmSynced).LSN, before)
	r.freeze(false)
	r.mu.Lock()
	at := r.starts[0].Start
	at.LSN = r.sinkhole.end
	r.mu.Unlock()
	r.board.Advance(watermark.Mark{Stage: watermark.Synced}, cdc.Position{SystemID: at.SystemID, Timeline: at.Timeline, LSN: at.LSN + 1<<20})
	r.caughtUp(s)
	r.once(t, 4000)
}

// TestSlotMovedDuringBacklog: the slot is advanced, and then replaced, while a session reads its
// backlog. Nothing is claimed of what may be incomplete, and the next session begins where the slot is.
func TestSlotMovedDuringBacklog(t *testing.T) {
	t.Parallel()
	for name, move := range map[string]string{
		"advanced": "SELECT pg_replication_slot_advance('walpurge_test', pg_current_wal_lsn())",
		"replaced": "SELECT pg_drop_replication_slot('walpurge_test'); SELECT pg_create_logical_replication_slot('walpurge_test', 'pgoutput')",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			s.limits = &small
			s.away()
			s.fill(0, 4000, 10)
			r := s.run(&sinkhole{frozen: true}, CatchingUp)
			before := s.confirmed()
			eventually(t, hang, func() bool { return r.board.Get(watermark.Mark{Stage: watermark.Received}).LSN > before }, "a chunk is proven")
			eventually(t, hang, func() bool { return s.walsender() == 0 }, "and read")
			other, err := pgx.Connect(t.Context(), s.cfg.URL)
			require.NoError(t, err)
			defer other.Close(context.Background())
			_, err = other.Exec(t.Context(), move, pgx.QueryExecModeSimpleProtocol)
			require.NoError(t, err)
			moved := s.confirmed()
			r.freeze(false)
			r.mu.Lock()
			at := r.starts[0].Start
			r.mu.Unlock()
			at.LSN = moved
			r.board.Advance(watermark.Mark{Stage: watermark.Synced}, at)
			eventually(t, hang, func() bool { return r.sessions() > 1 }, "another session begins")
			r.mu.Lock()
			defer r.mu.Unlock()
			require.GreaterOrEqual(t, r.starts[1].Start.LSN, moved)
			require.Equal(t, moved, r.starts[1].Start.LSN)
		})
	}
}

// chunkProven runs a reader on a backlog whose first chunk is read, proven and not safe. The slot is not active then.
func (s *server) chunkProven() *running {
	s.t.Helper()
	s.limits = &small
	s.away()
	s.fill(0, 4000, 10)
	before := s.confirmed()
	r := s.run(&sinkhole{frozen: true}, CatchingUp)
	eventually(s.t, hang, func() bool { return r.board.Get(watermark.Mark{Stage: watermark.Received}).LSN > before }, "a chunk is proven")
	eventually(s.t, hang, func() bool { return s.walsender() == 0 }, "and read")
	return r
}

// snapshots counts the walsenders that hold back vacuum.
func (s *server) snapshots() (n int) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walsender' AND backend_xmin IS NOT NULL").Scan(&n))
	return n
}

// thaw lets what has arrived, and what follows, be safe.
func (r *running) thaw() {
	r.freeze(false)
	r.mu.Lock()
	at := r.starts[len(r.starts)-1].Start
	r.mu.Unlock()
	at.LSN = r.board.Get(watermark.Mark{Stage: watermark.Received}).LSN
	r.board.Advance(watermark.Mark{Stage: watermark.Synced}, at)
}

// TestOwnerBetweenChunks: the slot is not active between two chunks, and has an owner all the same: another reader
// stands by, and the slot is neither skipped nor dropped.
func TestOwnerBetweenChunks(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.chunkProven()
	second := s.run(&sinkhole{}, Standby)
	require.Contains(t, second.State().Err, `slot "walpurge_test" is active for PostgreSQL process`)
	_, _, err := s.cfg.SkipUnread(t.Context())
	require.ErrorContains(t, err, "is active for PostgreSQL process")
	require.ErrorContains(t, s.cfg.Drop(t.Context(), s.conn), "is in use by PostgreSQL process")
	first.thaw()
	first.caughtUp(s)
	first.once(t, 4000)
	require.Zero(t, second.sessions())
	first.end(t)
	eventually(t, hang, func() bool { return second.State().Phase == Streaming }, "the second takes over")
}

// TestTablesPublishedDuringBacklog: new rules watch another table while a backlog is read, as after a reload. What was
// written to it before is a gap that comes in the order of the log, and what is written later arrives.
func TestTablesPublishedDuringBacklog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("CREATE TABLE later (id int PRIMARY KEY, note text)")
	r := s.chunkProven()
	s.exec("INSERT INTO later VALUES (-10, 'before')")
	w := s.watch()
	later := cdc.Table{Schema: "public", Name: "later"}
	w.Tables = append(w.Tables, later)
	require.NoError(t, r.Widen(t.Context(), w))
	s.exec("INSERT INTO later VALUES (-11, 'after')")
	require.Equal(t, CatchingUp, r.State().Phase)
	r.thaw()
	r.caughtUp(s)
	r.once(t, 4000)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Zero(t, r.ids["-10"])
	require.Equal(t, 1, r.ids["-11"])
	require.Len(t, r.gaps, 1)
	require.Equal(t, []cdc.Table{later}, r.gaps[0].Tables)
}

// TestServerCrashesDuringBacklog: the server crashes after it has advanced the slot, which it may not have written, and
// the connection is cut in the middle of a chunk. What comes again is read again.
func TestServerCrashesDuringBacklog(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.limits = &small
	s.away()
	s.fill(0, 6000, 10)
	reached, release := make(chan struct{}), make(chan struct{})
	held := false
	r := s.run(&sinkhole{hold: func(c *cdc.Change) {
		if string(c.New[0].Data) == "3000" && !held {
			held = true
			close(reached)
			<-release
		}
	}}, CatchingUp)
	<-reached
	require.Positive(t, r.Chunks()[chunkDone])
	ctx, cancel := context.WithTimeout(context.Background(), hang)
	defer cancel()
	_, err := s.pg.Stop(ctx, harness.Immediate)
	require.NoError(t, err)
	close(release)
	require.NoError(t, s.pg.Restart(ctx))
	s.conn, err = pgx.Connect(ctx, s.cfg.URL)
	require.NoError(t, err)
	r.caughtUp(s)
	require.True(t, r.has(6000))
	require.Greater(t, r.sessions(), 1)
}

// TestChunkIsNotTaken: a handler that takes nothing for long does not keep the server's snapshot. The chunk is
// cancelled, and read again in smaller parts.
func TestChunkIsNotTaken(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.limits = &catchup.Limits{Begin: 64 << 10, End: 16 << 10, First: 64 << 20, Largest: 64 << 20, Reread: 64 << 20, Take: 2 * time.Second} // short: it expires on purpose
	s.away()
	// More than the buffers of the connection hold.
	s.exec("INSERT INTO items SELECT n, repeat('x', 1500) FROM generate_series(0, 29999) n")
	reached, release := make(chan struct{}), make(chan struct{})
	held := false
	r := s.run(&sinkhole{hold: func(c *cdc.Change) {
		if string(c.New[0].Data) == "500" && !held {
			held = true
			close(reached)
			<-release
		}
	}}, CatchingUp)
	<-reached
	require.Equal(t, 1, s.snapshots(), "the server keeps a snapshot for the rows that are left")
	eventually(t, hang, func() bool { return s.snapshots() == 0 }, "and drops it although the handler takes nothing")
	close(release)
	r.caughtUp(s)
	require.True(t, r.has(30000))
	require.Positive(t, r.Chunks()[chunkCancelled])
	require.NotContains(t, r.log.String(), "interrupted")
}

// TestFirstRowIsLate: the server does not return the first row of a chunk in the expected time. The statement is cancelled,
// and the stream brings the chunk.
func TestFirstRowIsLate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.limits = &catchup.Limits{Begin: 64 << 10, End: 16 << 10, First: 64 << 20, Largest: 64 << 20, Reread: 64 << 20, Wait: 20 * time.Millisecond} // short: it expires on purpose
	s.away()
	s.exec("INSERT INTO items SELECT n, repeat('x', 1500) FROM generate_series(0, 19999) n")
	r := s.run(&sinkhole{}, Streaming)
	r.caughtUp(s)
	r.once(t, 20000)
	require.Positive(t, r.Chunks()[chunkRefused])
	require.Zero(t, r.Chunks()[chunkDone])
	require.Contains(t, r.log.String(), chunkLate.On)
	require.NotContains(t, r.log.String(), "interrupted")
}
