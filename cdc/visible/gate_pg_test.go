package visible

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/integration/harness"
)

// rig is a server, an application's connection to it, and a gate at work.
type rig struct {
	t     *testing.T
	pg    *harness.Postgres
	conn  *pgx.Conn
	gate  *Gate
	down  atomic.Bool
	opens atomic.Int64
	at    cdc.Position
}

func newRig(t *testing.T) *rig {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	r := &rig{t: t, pg: pg}
	r.conn = r.open()
	var system string
	require.NoError(t, r.conn.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&system))
	r.at = cdc.Position{SystemID: system, Timeline: 1, LSN: 1}
	r.gate = New(Config{Logger: slog.New(slog.DiscardHandler), Connect: func(ctx context.Context) (*pgx.Conn, error) {
		r.opens.Add(1)
		if r.down.Load() {
			return nil, errors.New("no route")
		}
		return pgx.Connect(ctx, pg.URL("postgres"))
	}})
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- r.gate.Run(running) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	return r
}

func (r *rig) open() *pgx.Conn {
	r.t.Helper()
	conn, err := pgx.Connect(context.Background(), r.pg.URL("postgres"))
	require.NoError(r.t, err)
	r.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// begin opens a transaction that has an id.
func (r *rig) begin() (pgx.Tx, cdc.Stamp) {
	r.t.Helper()
	tx, err := r.open().Begin(context.Background())
	require.NoError(r.t, err)
	var text string
	require.NoError(r.t, tx.QueryRow(context.Background(), "SELECT pg_current_xact_id()::text").Scan(&text))
	xid, err := strconv.ParseUint(text, 10, 64)
	require.NoError(r.t, err)
	return tx, cdc.Stamp{Position: r.at, XIDs: []uint64{xid}}
}

// wait runs Wait beside the test.
func (r *rig) wait(stamp cdc.Stamp) <-chan error {
	out := make(chan error, 1)
	go func() { out <- r.gate.Wait(r.t.Context(), stamp) }()
	return out
}

func closed(t *testing.T, waits ...<-chan error) {
	t.Helper()
	for _, w := range waits {
		select {
		case err := <-w:
			require.FailNow(t, "the gate opened too soon", "%v", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func opened(t *testing.T, w <-chan error) {
	t.Helper()
	select {
	case err := <-w:
		require.NoError(t, err)
	case <-time.After(30 * time.Second):
		require.FailNow(t, "the gate stays closed")
	}
}

// TestGateOpensWithTheCommit takes transactions out of the order of their ids.
func TestGateOpensWithTheCommit(t *testing.T) {
	r := newRig(t)
	first, one := r.begin()
	second, two := r.begin()
	both := cdc.Stamp{Position: r.at, XIDs: append(append([]uint64(nil), one.XIDs...), two.XIDs...)}
	waitOne, waitTwo, waitBoth := r.wait(one), r.wait(two), r.wait(both)
	closed(t, waitOne, waitTwo, waitBoth)
	require.NoError(t, second.Commit(t.Context()))
	opened(t, waitTwo)
	closed(t, waitOne, waitBoth)
	require.NoError(t, first.Rollback(t.Context()))
	opened(t, waitOne)
	opened(t, waitBoth)
	require.NoError(t, r.gate.Wait(t.Context(), both), "by the last snapshot")
	require.NoError(t, r.gate.Wait(t.Context(), cdc.Stamp{Position: r.at}), "nothing to wait for")
}

func TestGateSeesWhatAReaderSees(t *testing.T) {
	r := newRig(t)
	_, err := r.conn.Exec(t.Context(), "CREATE TABLE items (id int)")
	require.NoError(t, err)
	for n := range 50 {
		tx, stamp := r.begin()
		_, err := tx.Exec(t.Context(), "INSERT INTO items VALUES ($1)", n)
		require.NoError(t, err)
		w := r.wait(stamp)
		require.NoError(t, tx.Commit(t.Context()))
		opened(t, w)
		var count int
		require.NoError(t, r.conn.QueryRow(t.Context(), "SELECT count(*) FROM items").Scan(&count))
		require.Equal(t, n+1, count)
		require.NoError(t, tx.Conn().Close(t.Context()))
	}
}

// TestGateWaitsForItsServer loses the connection, and the server, under a waiter.
func TestGateWaitsForItsServer(t *testing.T) {
	r := newRig(t)
	tx, stamp := r.begin()
	w := r.wait(stamp)
	closed(t, w)
	before := r.opens.Load()
	r.down.Store(true)
	_, err := r.conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid NOT IN (pg_backend_pid(), $1) AND backend_type = 'client backend'", tx.Conn().PgConn().PID())
	require.NoError(t, err)
	require.Eventually(t, func() bool { return r.opens.Load() > before }, 30*time.Second, time.Millisecond)
	require.NoError(t, tx.Commit(t.Context()))
	closed(t, w)
	r.down.Store(false)
	opened(t, w)

	_, err = r.pg.Stop(t.Context(), harness.Fast)
	require.NoError(t, err)
	future := cdc.Stamp{Position: r.at, XIDs: []uint64{stamp.XIDs[0] + 1_000_000}}
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("enough")) // short: expires on purpose
	defer cancel()
	require.ErrorContains(t, r.gate.Wait(ctx, future), "enough")
	require.Zero(t, r.gate.count(), "who gave up is forgotten")
	require.NoError(t, r.pg.Restart(t.Context()))
	next := cdc.Stamp{Position: r.at, XIDs: []uint64{stamp.XIDs[0] - 1}}
	opened(t, r.wait(next))
}

func TestGateOfOtherClustersAndTimelines(t *testing.T) {
	r := newRig(t)
	_, stamp := r.begin()
	opened(t, r.wait(cdc.Stamp{Position: r.at, XIDs: []uint64{1}}))
	for name, c := range map[string]struct {
		at   cdc.Position
		open bool
	}{
		"here":           {r.at, false},
		"other cluster":  {cdc.Position{SystemID: "1", Timeline: 9}, true},
		"older timeline": {cdc.Position{SystemID: r.at.SystemID, Timeline: 0}, true},
		"newer timeline": {cdc.Position{SystemID: r.at.SystemID, Timeline: 2}, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			go func() { w <- r.gate.Wait(ctx, cdc.Stamp{Position: c.at, XIDs: stamp.XIDs}) }()
			if c.open {
				opened(t, w)
				return
			}
			closed(t, w)
		})
	}
}

// TestAConnectionThatAnsweredIsReplacedAtOnce: where idle connections are cut, each is lost after
// it has been of use, so that the pause before the next one does not grow.
func TestAConnectionThatAnsweredIsReplacedAtOnce(t *testing.T) {
	r := newRig(t)
	hang := time.After(30 * time.Second) // pauses that grow to 5 s would take 46 s
	for range 13 {
		tx, stamp := r.begin()
		require.NoError(t, tx.Commit(t.Context()))
		select {
		case err := <-r.wait(stamp):
			require.NoError(t, err)
		case <-hang:
			require.FailNow(t, "the gate stays closed")
		}
		_, err := r.conn.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_current_snapshot%'")
		require.NoError(t, err)
	}
}
