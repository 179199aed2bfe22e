package postgres

import (
	"context"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/postgres/catchup"
)

// chunks are the limits of a daemon with KiB in place of MiB, times 16.
var chunks = catchup.Limits{Begin: 1 << 20, End: 128 << 10, First: 1 << 20, Largest: 2 << 20, Sparse: 8 << 20, Reread: 2 << 20}

// TestBacklogOfOtherDatabase: what lies between two changes of a published table is the log of another database.
func TestBacklogOfOtherDatabase(t *testing.T) {
	t.Parallel()
	backlogOfOtherDatabase(t, &chunks, 16, Streaming)
}

// TestBacklogWithOpenWriter: a transaction is open as long as there is a backlog, so restart_lsn stands still.
func TestBacklogWithOpenWriter(t *testing.T) {
	t.Parallel()
	backlogWithOpenWriter(t, &chunks, 16)
}

// backlogOfOtherDatabase reads a backlog of so many MiB. The slot must move although no part of it has a commit, and what the
// server reads must not grow faster than the backlog. The reader is in the phase until soon after its start.
func backlogOfOtherDatabase(t *testing.T, limits *catchup.Limits, mib int, until Phase) {
	s := newServer(t)
	s.limits = limits
	s.exec("CREATE DATABASE other")
	s.away()
	require.NoError(t, s.pg.Exec(t.Context(), "other", "CREATE TABLE load (id int, note text)"))
	before := s.confirmed()
	for range 32 {
		require.NoError(t, s.pg.Exec(t.Context(), "other", filler(mib<<20/32)))
		s.exec("CHECKPOINT") // which logs what transactions run, as the background writer does every 15 seconds
	}
	backlog := uint64(s.lsn("pg_current_wal_insert_lsn()") - before)
	r := s.run(&sinkhole{}, until)
	eventually(t, 10*time.Minute, func() bool { return r.State().Phase == Streaming }, "the reader streams")
	r.caughtUp(s)
	c, _ := r.CatchUp()
	t.Logf("backlog %d MiB, drained through SQL %d, read for that %d", backlog>>20, c.Drained>>20, c.Read>>20)
	require.Greater(t, r.Chunks()[chunkDone], uint64(2), r.log.String())
	require.LessOrEqual(t, c.Read, 4*c.Drained)
	require.NotContains(t, r.log.String(), "WARN")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, before, r.starts[0].Start.LSN)
}

// backlogWithOpenWriter reads a backlog of so many MiB. Of the backlog as a whole the server reads at most three times its size.
func backlogWithOpenWriter(t *testing.T, limits *catchup.Limits, mib int) {
	s := newServer(t)
	s.limits = limits
	s.away()
	writer, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	defer func() { _ = writer.Close(context.Background()) }()
	_, err = writer.Exec(t.Context(), "BEGIN; INSERT INTO items VALUES (-2, 'open')", pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	s.exec("CHECKPOINT")
	before := s.confirmed()
	s.exec("CREATE TABLE load (id int, note text)")
	for range mib * 16 {
		s.exec(filler(1 << 16))
	}
	s.fill(0, 100, 1)
	backlog := uint64(s.lsn("pg_current_wal_insert_lsn()") - before)
	r := s.run(&sinkhole{}, Streaming)
	r.caughtUp(s)
	r.once(t, 100)
	c, _ := r.CatchUp()
	t.Logf("backlog %d MiB, drained through SQL %d, read for that %d", backlog>>20, c.Drained>>20, c.Read>>20)
	require.Positive(t, c.Drained)
	require.LessOrEqual(t, c.Read+backlog-min(c.Drained, backlog), 3*backlog)
	require.Contains(t, r.log.String(), string(catchup.Rereading))
	_, err = writer.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	r.caughtUp(s)
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Equal(t, 1, r.ids["-2"])
}

// filler writes about so many bytes of log into the table load.
func filler(bytes int) string {
	return "INSERT INTO load SELECT n, repeat('x', 960) FROM generate_series(1, " + strconv.Itoa(bytes>>10) + ") n"
}

// TestBacklogThatTheServerRefuses: the role has REPLICATION and nothing else, which suffices, and later the server may not write
// the rows of a large transaction to a file. That part comes through the stream, and the log says why.
func TestBacklogThatTheServerRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.limits = &small
	s.away()
	s.exec("CREATE ROLE plain LOGIN REPLICATION")
	s.fill(0, 4000, 10)
	address, err := url.Parse(s.cfg.URL)
	require.NoError(t, err)
	address.User = url.User("plain")
	s.cfg.URL = address.String()
	r := s.run(&sinkhole{}, Streaming)
	r.caughtUp(s)
	r.once(t, 4000)
	require.Greater(t, r.Chunks()[chunkDone], uint64(1))
	require.Zero(t, r.Chunks()[chunkRefused])
	r.end(t)
	eventually(t, hang, func() bool { return s.walsender() == 0 }, "the slot is free")

	s.exec("ALTER ROLE plain SET temp_file_limit = 0")
	// One chunk has it all, and needs more memory than work_mem.
	s.limits = &catchup.Limits{Begin: 64 << 10, End: 16 << 10, First: 8 << 20, Largest: 8 << 20, Reread: 64 << 20}
	s.exec("INSERT INTO items SELECT n, repeat('x', 1100) FROM generate_series(4000, 11999) n")
	r = s.run(&sinkhole{}, Streaming)
	r.caughtUp(s)
	require.Contains(t, r.log.String(), "temporary file size exceeds")
	require.Contains(t, r.log.String(), chunkFailed.On)
	require.Positive(t, r.Chunks()[chunkRefused])
	r.mu.Lock()
	defer r.mu.Unlock()
	for n := 4000; n < 12000; n++ {
		require.Positive(t, r.ids[strconv.Itoa(n)], "row %d", n)
	}
}
