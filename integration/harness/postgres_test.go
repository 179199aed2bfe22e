package harness

import (
	"bytes"
	"context"
	"encoding/binary"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

func TestPostgresServesAndStops(t *testing.T) {
	ctx := testContext(t)
	template, err := EnsureTemplate(ctx, mustFindPostgres(t), "")
	require.NoError(t, err)
	pg := startPostgres(t, PostgresConfig{Settings: map[string]string{"application_name": "it's"}})
	control, err := os.ReadFile(filepath.Join(template, "global", "pg_control"))
	require.NoError(t, err)
	var id uint64
	require.NoError(t, pg.QueryRow(ctx, "postgres", "SELECT system_identifier FROM pg_control_system()", &id))
	require.Equal(t, binary.NativeEndian.Uint64(control), id, "a copy of the template, which takes no initdb")

	require.NoError(t, pg.Exec(ctx, "postgres", "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)"))
	var n int
	require.NoError(t, pg.QueryRow(ctx, "postgres", "SELECT count(*) FROM t", &n))
	require.Equal(t, 2, n)
	var level, fsync, name string
	require.NoError(t, pg.QueryRow(ctx, "postgres",
		"SELECT current_setting('wal_level'), current_setting('fsync'), (SELECT reset_val FROM pg_settings WHERE name = 'application_name')", &level, &fsync, &name))
	require.Equal(t, []string{"logical", "off"}, []string{level, fsync})
	require.Error(t, pg.Exec(ctx, "postgres", "SELECT 1/0"))

	conn, err := pgx.Connect(ctx, pg.URL("postgres"))
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))

	pids := family(t, pg.PID())
	require.Greater(t, len(pids), 3)
	took, err := pg.Stop(ctx, Fast)
	require.NoError(t, err)
	require.Positive(t, took)
	requireGone(t, pids)
	took, err = pg.Stop(ctx, Fast)
	require.NoError(t, err, "a stop of a stopped server")
	require.Zero(t, took)

	require.NoError(t, pg.Restart(ctx))
	require.NoError(t, pg.QueryRow(ctx, "postgres", "SELECT count(*) FROM t", &n))
	require.Equal(t, 2, n)

	dir := pg.dir
	pids = family(t, pg.PID())
	require.NoError(t, pg.Close())
	requireGone(t, pids)
	require.NoDirExists(t, dir)
}

func TestPostgresSurvivesKill(t *testing.T) {
	ctx := testContext(t)
	pg := startPostgres(t, PostgresConfig{})
	require.NoError(t, pg.Exec(ctx, "postgres", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)"))
	conn, err := pg.Connect(ctx, "postgres")
	require.NoError(t, err)
	defer conn.Close(ctx)
	for range 3 {
		port, pids := pg.Port(), family(t, pg.PID())
		require.NoError(t, pg.Kill())
		for _, pid := range pids {
			require.False(t, alive(pid), "pid %d outlived Kill", pid)
		}
		select {
		case <-pg.Done():
		default:
			t.Fatal("Done is open after Kill")
		}
		require.Error(t, pg.Exec(ctx, "postgres", "SELECT 1"))
		require.NoError(t, pg.Restart(ctx))
		require.Equal(t, port, pg.Port())
	}
	var n int
	require.NoError(t, pg.QueryRow(ctx, "postgres", "SELECT count(*) FROM t", &n))
	require.Equal(t, 1, n, "a committed row after kill -9")

	// Killed and not started again: the lock segment must not stay behind.
	require.NoError(t, pg.Kill())
	raw, err := os.ReadFile(filepath.Join(pg.DataDir(), "postmaster.pid"))
	require.NoError(t, err)
	require.NoError(t, pg.Close())
	id := strings.Fields(strings.Split(string(raw), "\n")[6])[1]
	segments, err := os.ReadFile("/proc/sysvipc/shm")
	require.NoError(t, err)
	for line := range strings.Lines(string(segments)) {
		require.NotEqual(t, id, strings.Fields(line)[1], "shared memory segment left behind")
	}
}

func TestPostgresStopModes(t *testing.T) {
	ctx := testContext(t)
	pg := startPostgres(t, PostgresConfig{})
	conn, err := pg.Connect(ctx, "postgres")
	require.NoError(t, err)

	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // short: expires on purpose
	defer cancel()
	took, err := pg.Stop(short, Smart)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a smart stop waits for clients")
	require.GreaterOrEqual(t, took, 90*time.Millisecond)
	require.NoError(t, conn.Close(ctx))
	<-pg.Done()

	require.NoError(t, pg.Restart(ctx))
	_, err = pg.Stop(ctx, Immediate)
	require.NoError(t, err)
	_, err = pg.Stop(ctx, "gentle")
	require.ErrorContains(t, err, "gentle")
}

func TestPostgresAccounts(t *testing.T) {
	ctx := testContext(t)
	pg := startPostgres(t, PostgresConfig{HBA: []string{
		"local all postgres trust",
		"host all all 127.0.0.1/32 scram-sha-256",
	}})
	require.NoError(t, pg.Exec(ctx, "postgres", "CREATE ROLE app LOGIN PASSWORD 's@cret/1'"))
	conn, err := pgx.Connect(ctx, pg.URL("postgres", "app", "s@cret/1"))
	require.NoError(t, err)
	require.NoError(t, conn.Close(ctx))
	_, err = pgx.Connect(ctx, pg.URL("postgres", "app", "wrong"))
	require.Error(t, err)
}

// A template may be a backup of another harness server.
func TestPostgresFromBackup(t *testing.T) {
	ctx := testContext(t)
	first := startPostgres(t, PostgresConfig{})
	require.NoError(t, first.Exec(ctx, "postgres", "CREATE TABLE t AS SELECT 7 AS id"))
	_, err := first.Stop(ctx, Fast)
	require.NoError(t, err)

	// A long path, closed to others: the socket and the account need care.
	dir := filepath.Join(t.TempDir(), strings.Repeat("d", 90))
	var log syncBuffer
	second := startPostgres(t, PostgresConfig{Dir: dir, Template: first.DataDir(), Log: &log})
	var id int
	require.NoError(t, second.QueryRow(ctx, "postgres", "SELECT id FROM t", &id))
	require.Equal(t, 7, id)
	require.NoError(t, second.Close())
	require.DirExists(t, second.DataDir(), "a directory of the caller is the caller's")
	require.Contains(t, log.String(), "ready to accept connections")
	onDisk, err := os.ReadFile(second.LogFile())
	require.NoError(t, err)
	require.Contains(t, string(onDisk), "ready to accept connections")
}

func TestPostgresStartFails(t *testing.T) {
	ctx := testContext(t)
	dir := t.TempDir()
	_, err := StartPostgres(ctx, PostgresConfig{Dir: dir, Settings: map[string]string{"wal_level": "nonsense"}})
	require.ErrorContains(t, err, "invalid value for parameter", "the server's own words")

	ended, cancel := context.WithCancel(ctx)
	cancel()
	_, err = StartPostgres(ended, PostgresConfig{})
	require.ErrorIs(t, err, context.Canceled)
}

func TestPostgresPortTaken(t *testing.T) {
	ctx := testContext(t)
	pg := startPostgres(t, PostgresConfig{})
	_, err := pg.Stop(ctx, Fast)
	require.NoError(t, err)
	taken := startValkey(t, ValkeyConfig{})
	port, err := portOf(taken.Addr())
	require.NoError(t, err)
	pg.port = port
	require.ErrorIs(t, pg.launch(ctx), errPortTaken)
	waiting, cancel := context.WithTimeout(ctx, time.Second) // short: expires on purpose
	defer cancel()
	err = pg.Restart(waiting)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.ErrorIs(t, err, errPortTaken)
	require.NoError(t, taken.Kill())
	require.NoError(t, pg.Restart(ctx))
}

func TestEnsureTemplateConcurrently(t *testing.T) {
	ctx, dir, binaries := testContext(t), t.TempDir(), mustFindPostgres(t)
	var wg sync.WaitGroup
	paths, errs := make([]string, 2), make([]error, 2)
	for i := range paths {
		wg.Go(func() { paths[i], errs[i] = EnsureTemplate(ctx, binaries, dir) })
	}
	wg.Wait()
	for i := range paths {
		require.NoError(t, errs[i])
		require.Equal(t, paths[0], paths[i])
	}
	require.FileExists(t, filepath.Join(paths[0], "PG_VERSION"))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no half-built template stays")
}

func mustFindPostgres(t *testing.T) Binaries {
	b, err := FindPostgres()
	require.NoError(t, err)
	return b
}

// syncBuffer is a bytes.Buffer for a writer in another goroutine.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// A server that is killed while it starts can leave its lock file empty, and no server
// starts on that by itself.
func TestPostgresKilledAsItLocked(t *testing.T) {
	ctx := testContext(t)
	pg := startPostgres(t, PostgresConfig{})
	require.NoError(t, pg.Kill())
	require.NoError(t, os.Truncate(filepath.Join(pg.dataDir(), "postmaster.pid"), 0))
	require.NoError(t, pg.Restart(ctx))
}
