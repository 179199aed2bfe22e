package postgres

import (
	"context"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

const hang = 2 * time.Minute

func (s *server) setNames(names string) {
	s.t.Helper()
	s.exec("ALTER SYSTEM SET synchronous_standby_names = '" + names + "'")
	s.exec("SELECT pg_reload_conf()")
}

// reports is what the server knows of the reader's connection, which there may be none of within a
// turn. 0 is no flush position.
func (s *server) reports() (flushed bool, state string) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), `SELECT coalesce(bool_or(flush_lsn IS NOT NULL OR replay_lsn IS NOT NULL), false), coalesce(max(sync_state), 'async')
		FROM pg_stat_replication WHERE application_name = 'walpurge'`).Scan(&flushed, &state))
	return flushed, state
}

// insert starts an INSERT on a connection of its own, and waits until its COMMIT waits for a
// standby. The channel has its end.
func (s *server) insert(id int, level string) <-chan error {
	s.t.Helper()
	conn, err := pgx.Connect(s.t.Context(), s.cfg.URL)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	_, err = conn.Exec(s.t.Context(), "SET synchronous_commit = "+level)
	require.NoError(s.t, err)
	done := make(chan error, 1)
	go func() {
		_, err := conn.Exec(context.Background(), "INSERT INTO items VALUES ($1)", id)
		done <- err
	}()
	eventually(s.t, hang, func() bool { return s.waits(conn.PgConn().PID()) }, "COMMIT waits under "+level)
	return done
}

func (s *server) waits(pid uint32) (yes bool) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT coalesce(max(wait_event), '') = 'SyncRep' FROM pg_stat_activity WHERE pid = $1", pid).Scan(&yes))
	return yes
}

// waiting counts the commits that wait for a standby.
func (s *server) waiting() (n int) {
	s.t.Helper()
	require.NoError(s.t, s.conn.QueryRow(s.t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'").Scan(&n))
	return n
}

// TestNoSynchronousStandby: whatever synchronous_standby_names says, no commit is acknowledged by
// the reader in the place of a standby, and the slot is confirmed all the same.
func TestNoSynchronousStandby(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("SET synchronous_commit = local")
	s.confirm = &confirmation{bytes: 1}
	r := s.run(&sinkhole{}, Streaming)
	id := 0
	for _, names := range []string{"*", "ANY 1 (*)", "FIRST 1 (standby, WalPurge)"} {
		eventually(t, hang, func() bool { flushed, _ := s.reports(); return flushed }, "a flush position is reported")
		// Patroni writes * while the reader streams, just when the last standby is gone.
		s.setNames(names)
		eventually(t, hang, func() bool { flushed, _ := s.reports(); return !flushed && r.SyncNames() == names }, "no flush position is reported")

		var ends []<-chan error
		for _, level := range []string{"remote_write", "on", "remote_apply"} {
			ends = append(ends, s.insert(id, level))
			id++
		}
		for range 3 {
			at := s.lsn("pg_current_wal_insert_lsn()")
			s.exec("INSERT INTO items VALUES ($1)", id)
			id++
			eventually(t, hang, func() bool { return s.confirmed() > at }, "the slot is confirmed")
		}
		require.True(t, r.has(id))
		require.Equal(t, 3, s.waiting(), "COMMIT still waits for a standby")
		flushed, state := s.reports()
		require.False(t, flushed)
		require.Equal(t, "async", state)
		s.setNames("")
		for _, end := range ends {
			require.NoError(t, <-end)
		}
	}
	eventually(t, hang, func() bool { flushed, _ := s.reports(); return flushed && r.SyncNames() == "" }, "a flush position is reported again")
	require.Greater(t, r.sessions(), 3)
	require.Equal(t, 1, strings.Count(r.log.String(), "msg=streaming"), "a turn is no interruption")
	require.NotContains(t, r.log.String(), "interrupted")
	require.Contains(t, r.log.String(), "synchronous_standby_names can name this connection")
	require.Contains(t, r.log.String(), "cannot name this connection any more")
}

// TestNoSynchronousStandbyFromTheStart: the first report of a session is as the setting wants it,
// nothing is confirmed that is not safe, the server stops, and the reader's stop confirms the rest.
func TestNoSynchronousStandbyFromTheStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("SET synchronous_commit = local")
	s.setNames("*")
	s.confirm = &confirmation{bytes: 1}
	h := &sinkhole{frozen: true}
	s.grace = 100 * time.Millisecond // nothing becomes safe in it
	r := s.run(h, Streaming)
	require.Equal(t, "*", r.SyncNames())
	pid, before := s.walsender(), s.confirmed()
	s.exec("INSERT INTO items VALUES (0)")
	eventually(t, hang, func() bool { return r.has(1) }, "the row is read")
	flushed, state := s.reports()
	require.False(t, flushed)
	require.Equal(t, "async", state)
	require.Equal(t, before, s.confirmed(), "nothing is safe")
	require.Equal(t, pid, s.walsender())

	// A fast stop waits for what was written only.
	ctx, cancel := context.WithTimeout(t.Context(), hang)
	defer cancel()
	_, err := s.pg.Stop(ctx, harness.Fast)
	require.NoError(t, err)
	s.confirm = nil
	require.NoError(t, s.pg.Restart(ctx))
	s.conn, err = pgx.Connect(ctx, s.cfg.URL)
	require.NoError(t, err)
	s.exec("SET synchronous_commit = local")
	eventually(t, hang, func() bool { return r.sessions() > 1 && r.State().Phase == Streaming }, "streaming again")
	r.end(t)

	s.grace, s.confirm = 0, &confirmation{bytes: math.MaxInt64, age: time.Hour}
	r = s.run(&sinkhole{}, Streaming)
	before = s.confirmed()
	// Behind the commit the server may write records of its own that nobody has to confirm.
	at := s.lsn("pg_current_wal_insert_lsn()")
	s.exec("INSERT INTO items VALUES (1)")
	eventually(t, hang, func() bool { return r.has(2) }, "rows are read, the first one again")
	require.Equal(t, before, s.confirmed())
	r.end(t)
	require.Zero(t, s.walsender())
	require.Greater(t, s.confirmed(), at, "the stop confirms")
}

// TestTurnWithinAStreamedTransaction: the slot must be confirmed, lest it be moved to the end of
// the log. The transaction is sent again in full.
func TestTurnWithinAStreamedTransaction(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("SET synchronous_commit = local")
	s.setNames("*")
	s.cfg.MaxRetained = 256 << 20
	r := s.run(&sinkhole{}, Streaming)
	large, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	defer large.Close(context.Background())
	_, err = large.Exec(t.Context(), "SET synchronous_commit = local; BEGIN; INSERT INTO items SELECT i, repeat('x', 1000) FROM generate_series(0, 999) i")
	require.NoError(t, err)
	eventually(t, hang, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.ids) > 0 }, "the transaction is streamed")
	before := s.confirmed()
	for i := range 10 {
		s.exec("INSERT INTO items VALUES ($1); ", 1000+i)
		s.exec("SELECT pg_switch_wal()")
	}
	eventually(t, hang, func() bool { return s.confirmed()-before > 100<<20 }, "the slot is confirmed")
	_, err = large.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	eventually(t, hang, func() bool { return r.has(1010) }, "all rows are read")
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, start := range r.starts {
		require.Empty(t, start.Leapt)
	}
	require.Greater(t, len(r.starts), 1)
}

func TestTurnIsDue(t *testing.T) {
	t.Parallel()
	c := usualConfirmation
	for _, x := range []struct {
		name string
		u    unconfirmed
		due  bool
	}{
		{"nothing", unconfirmed{age: time.Hour}, false},
		{"little", unconfirmed{bytes: 1, age: 59 * time.Second}, false},
		{"a minute", unconfirmed{bytes: 1, age: time.Minute}, true},
		{"much", unconfirmed{bytes: 64 << 20}, true},
		{"less than the server reads for it", unconfirmed{bytes: 64 << 20, restartLag: 65 << 20}, false},
		{"after a minute that does not count", unconfirmed{bytes: 1, restartLag: 1 << 40, age: time.Minute}, true},
		{"soon after a slow one", unconfirmed{bytes: 1 << 40, age: time.Minute, took: 7 * time.Second}, false},
		{"long after a slow one", unconfirmed{bytes: 1, age: 70 * time.Second, took: 7 * time.Second}, true},
		{"within a streamed transaction", unconfirmed{bytes: 1 << 40, age: 9 * time.Minute, streams: true}, false},
		{"always in one", unconfirmed{bytes: 1, age: 10 * time.Minute, streams: true, oldest: 4 * time.Minute}, true},
		{"in the same one", unconfirmed{bytes: 1, age: 10 * time.Minute, streams: true, oldest: 6 * time.Minute}, false},
		{"near the limit", unconfirmed{bytes: 1 << 29, limit: 1 << 30, streams: true, oldest: time.Hour, took: time.Hour}, true},
		{"not near the limit", unconfirmed{bytes: 1<<29 - 1, limit: 1 << 30, streams: true}, false},
	} {
		require.Equal(t, x.due, c.due(x.u), x.name)
	}
}
