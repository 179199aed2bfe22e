package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/integration/harness"
)

func TestWalsenderTerminated(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.run(&sinkhole{}, Streaming)
	kill, err := pgx.Connect(t.Context(), s.cfg.URL)
	require.NoError(t, err)
	defer kill.Close(context.Background())
	n := 0
	for range 3 {
		before := r.sessions()
		for range 100 {
			s.exec("INSERT INTO items VALUES ($1, 'x')", n)
			n++
			if n%100 == 50 {
				_, err := kill.Exec(t.Context(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active")
				require.NoError(t, err)
			}
		}
		eventually(t, 30*time.Second, func() bool { return r.sessions() > before }, "a new session")
	}
	eventually(t, 30*time.Second, func() bool { return r.has(n) }, "nothing is lost")
	require.Contains(t, r.log.String(), "replication interrupted, reconnecting")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.True(t, r.starts[0].SlotCreated)
	for i, st := range r.starts[1:] {
		require.False(t, st.SlotCreated)
		require.GreaterOrEqual(t, st.Start.LSN, r.starts[i].Start.LSN, "never backwards")
	}
}

func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first := s.run(&sinkhole{}, Streaming)
	second := s.run(&sinkhole{}, Standby)
	require.Contains(t, second.State().Err, `slot "walpurge_test" is active for PostgreSQL process`)
	s.exec("INSERT INTO items VALUES (0)")
	eventually(t, 30*time.Second, func() bool { return first.has(1) }, "the first reads")
	require.Zero(t, second.sessions())
	third := s.run(&sinkhole{}, Standby)
	first.end(t)
	require.Equal(t, Stopped, first.State().Phase)
	eventually(t, 30*time.Second, func() bool {
		pid := s.walsender()
		return pid == 0 || second.State().Phase == Streaming || third.State().Phase == Streaming
	}, "a clean stop frees the slot")
	eventually(t, 30*time.Second, func() bool { return second.State().Phase == Streaming || third.State().Phase == Streaming }, "one of the others takes over")
	if third.State().Phase == Streaming {
		second, third = third, second
	}
	eventually(t, 30*time.Second, func() bool {
		return strings.Contains(third.State().Err, fmt.Sprintf("active for PostgreSQL process %d, which serves a client", s.walsender()))
	}, "the one that still waits names the process that has the slot now")
	s.exec("INSERT INTO items VALUES (1)")
	eventually(t, 30*time.Second, func() bool { second.mu.Lock(); defer second.mu.Unlock(); return second.ids["1"] == 1 }, "the second reads")
	second.mu.Lock()
	defer second.mu.Unlock()
	require.Zero(t, second.ids["0"], "what the first had confirmed is not sent again")
}

// TestIdleDatabaseIsConfirmed: heartbeats move the slot, so that a quiet table
// does not hold the log back.
func TestIdleDatabaseIsConfirmed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	began := time.Now().Truncate(time.Microsecond)
	r := s.run(&sinkhole{}, Streaming)
	for range 2 {
		s.exec("CREATE TABLE IF NOT EXISTS other (id int); INSERT INTO other VALUES (1)")
		end := s.lsn("pg_current_wal_insert_lsn()")
		eventually(t, 30*time.Second, func() bool { return s.confirmed() >= end }, "the slot passes what no rule watches")
	}
	eventually(t, 30*time.Second, func() bool { slot, seen := r.Slot(); return seen && !slot.Heartbeat.IsZero() }, "a heartbeat came back")
	slot, _ := r.Slot()
	require.Equal(t, "reserved", slot.Status)
	require.False(t, slot.Heartbeat.Before(began), "it says when it was sent")
}

// TestNothingConfirmedEarly holds the safe mark, then a transaction, and looks
// where the server believes to be.
func TestNothingConfirmedEarly(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	reached, release := make(chan struct{}), make(chan struct{})
	r := s.run(&sinkhole{hold: func(c *cdc.Change) {
		if string(c.New[0].Data) == "500" {
			close(reached)
			<-release
		}
	}}, Streaming)
	s.exec("INSERT INTO items VALUES (0)")
	eventually(t, 30*time.Second, func() bool { return r.has(1) }, "the row arrives")
	r.freeze(true)
	held := r.board.Get(watermark.Mark{Stage: watermark.Synced}).LSN
	s.exec("INSERT INTO items VALUES (1)")
	eventually(t, 30*time.Second, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.ids["1"] == 1 && len(r.commits) > 5 }, "the reader goes on")
	eventually(t, 30*time.Second, func() bool { return s.confirmed() == held }, "confirmed up to the safe mark")
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; { // more than one status update
		require.LessOrEqual(t, s.confirmed(), held, "and never beyond")
		time.Sleep(20 * time.Millisecond)
	}
	r.freeze(false)

	s.exec("INSERT INTO items SELECT n, repeat('x', 5000) FROM generate_series(2, 999) n")
	end := s.lsn("pg_current_wal_insert_lsn()")
	<-reached
	for began := time.Now(); time.Since(began) < 1500*time.Millisecond; {
		require.Less(t, s.confirmed(), end, "a transaction that is being handed over is not confirmed")
		time.Sleep(20 * time.Millisecond)
	}
	r.mu.Lock()
	last := r.commits[len(r.commits)-1].End
	r.mu.Unlock()
	require.LessOrEqual(t, r.board.Get(watermark.Mark{Stage: watermark.Confirmed}).LSN, max(last, held, s.confirmed()))
	close(release)
	eventually(t, 30*time.Second, func() bool { return s.confirmed() >= end }, "then it is")
	require.True(t, r.has(1000))
}

func TestHugeRow(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.run(&sinkhole{}, Streaming)
	const size = 30 << 20
	s.exec(fmt.Sprintf("INSERT INTO items VALUES (0, repeat('0123456789abcdef', %d))", size/16))
	s.exec("INSERT INTO items VALUES (1, 'small')")
	eventually(t, 30*time.Second, func() bool { return r.has(2) }, "both arrive")
	require.Equal(t, size, r.notes["0"])
	require.Equal(t, 5, r.notes["1"])
	require.Equal(t, 1, r.sessions())
}

func TestLogicalMessagesOfOthers(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.cfg.Heartbeat = time.Hour
	r := s.run(&sinkhole{}, Streaming)
	eventually(t, 30*time.Second, func() bool { slot, _ := r.Slot(); return !slot.Heartbeat.IsZero() }, "the first heartbeat is back")
	slot, _ := r.Slot()
	s.exec("SELECT pg_logical_emit_message(false, 'walpurge.heartbeat', '1'), pg_logical_emit_message(false, 'cache.purge', repeat('x', 100000)), pg_logical_emit_message(true, 'other', '')")
	s.exec("INSERT INTO items VALUES (0)")
	eventually(t, 30*time.Second, func() bool { return r.has(1) }, "the row arrives")
	now, _ := r.Slot()
	require.Equal(t, slot.Heartbeat, now.Heartbeat)
	require.Equal(t, 1, r.sessions())
}

func TestServerStopsAndComesBack(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	r := s.run(&sinkhole{}, Streaming)
	r.freeze(true) // nothing can be confirmed, so the server would wait for ever
	s.exec("INSERT INTO items VALUES (0)")
	eventually(t, 30*time.Second, func() bool { return r.has(1) }, "the row arrives")
	// A reader that kept the connection would hold the server up for as long as it lives.
	ending, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	_, err := s.pg.Stop(ending, harness.Fast)
	require.NoError(t, err)
	r.freeze(false)
	require.NoError(t, s.pg.Restart(t.Context()))
	eventually(t, 20*time.Second, func() bool { return r.State().Phase == Streaming && r.sessions() > 1 }, "it streams again")
	require.True(t, strings.Contains(r.log.String(), "the server is shutting down"), r.log.String())
}

func TestHaltEndsTheReader(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	halt := &cdc.Halt{Err: errors.New("cannot go on")}
	r := s.run(&sinkhole{}, Streaming)
	r.stop()
	require.NoError(t, <-r.done)
	r.done <- nil
	reader := NewReader(s.cfg, Options{Board: r.board, Confirm: watermark.ConfirmSynced, StopGrace: 5 * time.Second, Logger: r.opts.Logger, Watch: r.opts.Watch})
	err := reader.Run(t.Context(), halting{r.sinkhole, halt})
	require.ErrorIs(t, err, halt)
}

type halting struct {
	*sinkhole
	err error
}

func (h halting) Commit(context.Context, *cdc.Txn) error { return h.err }
