//go:build full

package postgres

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres/catchup"
	"github.com/walpurge/walpurge/integration/harness"
)

// TestLargeBacklogOfOtherDatabase is TestBacklogOfOtherDatabase with the limits of a daemon.
func TestLargeBacklogOfOtherDatabase(t *testing.T) {
	backlogOfOtherDatabase(t, &catchup.Usual, 5<<10, CatchingUp)
}

// TestLargeBacklogWithOpenWriter is TestBacklogWithOpenWriter with the limits of a daemon.
func TestLargeBacklogWithOpenWriter(t *testing.T) { backlogWithOpenWriter(t, &catchup.Usual, 2400) }

// TestStreamFullForMinutes: the handler takes nothing for five minutes in the middle of a chunk, as while the stream is full. No
// walsender keeps one snapshot for longer than the time in which a chunk is decoded and taken.
func TestStreamFullForMinutes(t *testing.T) {
	s := newServer(t)
	s.limits = &catchup.Usual
	s.away()
	s.exec("INSERT INTO items SELECT n, repeat('x', 1500) FROM generate_series(0, 99999) n")
	reached, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	r := s.run(&sinkhole{hold: func(c *cdc.Change) {
		if string(c.New[0].Data) == "500" {
			once.Do(func() {
				close(reached)
				<-release
			})
		}
	}}, CatchingUp)
	<-reached
	since, oldest, held := time.Now(), time.Duration(0), ""
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(time.Second) {
		var xmin string
		require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT coalesce(min(backend_xmin::text), '') FROM pg_stat_activity WHERE backend_type = 'walsender'").Scan(&xmin))
		if xmin != held || xmin == "" {
			held, since = xmin, time.Now()
		}
		oldest = max(oldest, time.Since(since))
	}
	close(release)
	t.Logf("the oldest snapshot was kept for %s", oldest)
	require.Less(t, oldest, 20*time.Second)
	require.Equal(t, CatchingUp, r.State().Phase)
	r.caughtUp(s)
	require.True(t, r.has(100000))
	require.Positive(t, r.Chunks()[chunkCancelled])
}

// counting is a handler that counts rows.
type counting struct {
	*sinkhole
	rows atomic.Int64
}

func (c *counting) Change(context.Context, *cdc.Txn, *cdc.Change) error {
	c.rows.Add(1)
	return nil
}

// TestTransactionOfTenMillionRows: it is larger than a chunk, so the stream brings it, and neither the rows before it nor those
// after it are lost. What this process keeps does not grow with it.
func TestTransactionOfTenMillionRows(t *testing.T) {
	s := newServerWith(t, harness.PostgresConfig{Settings: map[string]string{"logical_decoding_work_mem": "64MB"}})
	s.limits = &catchup.Usual
	s.away()
	const small, large = 400_000, 10_000_000
	s.fill(0, small, 1000)
	s.exec("INSERT INTO items SELECT n, 'large' FROM generate_series($1::int, $2) n", small, small+large-1)
	h := &counting{sinkhole: &sinkhole{}}
	r := s.runHandler(h.sinkhole, h, CatchingUp)
	var most uint64
	end := s.lsn("pg_current_wal_insert_lsn()")
	s.exec("SELECT pg_logical_emit_message(true, 'end', '')")
	eventually(t, 20*time.Minute, func() bool {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		most = max(most, m.HeapAlloc)
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.sinkhole.end >= end
	}, "the stream brings all")
	t.Logf("%d rows, chunks %v, heap at most %d MiB", h.rows.Load(), r.Chunks(), most>>20)
	require.GreaterOrEqual(t, h.rows.Load(), int64(small+large))
	require.Positive(t, r.Chunks()[chunkDone])
	require.Less(t, most, uint64(256<<20))
}

// TestBacklogBeyondStoppedStandby: a standby in synchronized_standby_slots is stopped, so its slot does not move. The backlog is
// read up to what it has, no call waits for it, and the rest comes once it has the log.
func TestBacklogBeyondStoppedStandby(t *testing.T) {
	for _, major := range []int{17, 18} {
		t.Run(strconv.Itoa(major), func(t *testing.T) {
			binaries, err := harness.FindMajor(major)
			require.NoError(t, err)
			s := newServerWith(t, harness.PostgresConfig{Binaries: binaries})
			s.limits = &small
			s.away()
			s.exec("ALTER SYSTEM SET synchronized_standby_slots = 'heir'")
			s.exec("SELECT pg_reload_conf()")
			s.fill(0, 3000, 10)
			s.exec("SELECT pg_create_physical_replication_slot('heir', true)")
			s.exec("SELECT pg_replication_slot_advance('heir', pg_current_wal_flush_lsn())")
			has := s.lsn("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'heir'")
			s.fill(3000, 9000, 10)
			r := s.run(&sinkhole{}, Streaming)
			confirmed := "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'walpurge_test'"
			require.LessOrEqual(t, s.lsn(confirmed), has)
			require.Positive(t, r.Chunks()[chunkDone])
			require.Zero(t, r.Chunks()[chunkRefused])
			require.False(t, r.has(9000))
			require.Contains(t, r.log.String(), heldUp.On)
			require.Contains(t, r.log.String(), "slots=heir")
			eventually(t, hang, func() bool {
				s.exec("SELECT pg_replication_slot_advance('heir', pg_current_wal_flush_lsn())")
				return r.has(9000)
			}, "the rest arrives once the standby has it")
		})
	}
}

// TestStreamFallsBehind: a session that streams is behind for long because the server sends no faster. It reads the rest of its
// backlog through SQL, and streams again. Nothing is lost.
func TestStreamFallsBehind(t *testing.T) {
	s := newServer(t)
	s.limits = &catchup.Limits{Begin: 1 << 20, End: 64 << 10, First: 8 << 20, Largest: 64 << 20, Reread: 256 << 20}
	release := make(chan struct{})
	h := &counting{sinkhole: &sinkhole{}}
	r := s.runHandler(h.sinkhole, &gated{counting: h, release: release}, Streaming)
	const rows = 1_000_000
	s.exec("DO $$ BEGIN FOR i IN 0..999999 LOOP INSERT INTO items VALUES (i, 'x'); COMMIT; END LOOP; END $$")
	s.exec("CHECKPOINT")
	t.Log("written")
	close(release)
	end := s.lsn("pg_current_wal_insert_lsn()")
	s.exec("SELECT pg_logical_emit_message(true, 'end', '')")
	eventually(t, 4*time.Minute, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.sinkhole.end >= end }, "all arrives")
	require.GreaterOrEqual(t, h.rows.Load(), int64(rows))
	require.Contains(t, r.log.String(), behind.On)
	require.Positive(t, r.Chunks()[chunkDone])
	eventually(t, hang, func() bool { return r.State().Phase == Streaming }, "the reader streams again")
}

// gated is a counting handler that takes no row before release is closed.
type gated struct {
	*counting
	release chan struct{}
}

func (g *gated) Change(ctx context.Context, tx *cdc.Txn, c *cdc.Change) error {
	<-g.release
	return g.counting.Change(ctx, tx, c)
}
