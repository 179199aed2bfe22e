package postgres

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// inUse is how much memory is reachable, in bytes.
func inUse() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// marks is a handler that counts the changes of transactions which have not ended.
type marks struct {
	*sinkhole
	seen chan struct{}
}

func (m marks) Change(ctx context.Context, tx *cdc.Txn, c *cdc.Change) error {
	if tx.Streamed && strings.HasPrefix(string(c.New[1].Data), "mark") {
		select {
		case m.seen <- struct{}{}:
		default:
		}
	}
	return m.sinkhole.Change(ctx, tx, c)
}

// TestForeignMessagesCostNoMemory: every role that may log in may write messages with the prefixes that are
// walpurge's own. What a transaction has of them costs no memory, whether it ends, is rolled back, or
// holds savepoints that are. The control is a prefix that no one reads.
func TestForeignMessagesCostNoMemory(t *testing.T) { foreignMessages(t, 32) }

func foreignMessages(t *testing.T, count int) {
	s := newServer(t)
	s.exec("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
	s.exec("SELECT pg_reload_conf()")
	s.exec("CREATE ROLE lowly LOGIN")
	h := &sinkhole{}
	m := marks{h, make(chan struct{}, 1)}
	r := s.runHandler(h, m, Streaming)
	lowly, err := pgx.Connect(t.Context(), s.pg.URL("postgres", "lowly"))
	require.NoError(t, err)
	defer lowly.Close(context.Background())
	id := 0
	// growth is how much memory is in use for a transaction with messages before it has ended.
	growth := func(emit string, end string) int {
		before := inUse()
		require.NoError(t, write(t, lowly, "BEGIN"))
		require.NoError(t, write(t, lowly, emit))
		// A table of the application, and its change: the sign that all of it has been read.
		id++
		s.exec("GRANT INSERT ON items TO lowly")
		require.NoError(t, write(t, lowly, fmt.Sprintf("INSERT INTO items SELECT %d + n, 'mark' || repeat(md5(n::text), 10) FROM generate_series(1, 900) n", 1000*id)))
		select {
		case <-m.seen:
		case <-time.After(hang):
			t.Fatal("the transaction is not streamed")
		}
		grown := inUse() - before
		require.NoError(t, write(t, lowly, end))
		r.caughtUp(s)
		for len(m.seen) > 0 {
			<-m.seen
		}
		return grown
	}
	messages := func(prefix, content string) string {
		return fmt.Sprintf("SELECT count(pg_logical_emit_message(true, '%s', %s)) FROM generate_series(1, %d) g", prefix, content, count)
	}
	control := growth(messages("other", "g || repeat('x', 1000000)"), "COMMIT")
	t.Logf("control: %d MiB", control>>20)
	savepoint := func(sql string) string {
		return "SAVEPOINT s; " + sql + "; ROLLBACK TO s; SAVEPOINT s; " + sql + "; RELEASE s"
	}
	large := messages("walpurge.heartbeat", "g || repeat('x', 1000000)")
	for _, c := range []struct{ name, emit, end string }{
		{"heartbeats", large, "COMMIT"},
		{"rolled back", large, "ROLLBACK"},
		{"announcements in savepoints", savepoint(messages("walpurge.tables", `'{"publication": "walpurge_test", "nonce": "' || g || repeat('x', 1000000) || '"}'`)), "COMMIT"},
		{"small ones", fmt.Sprintf("SELECT count(pg_logical_emit_message(true, 'walpurge.heartbeat', g || repeat('9', 1000))) FROM generate_series(1, %d) g", 500*count), "COMMIT"},
	} {
		grown := growth(c.emit, c.end)
		t.Logf("%s: %d MiB", c.name, grown>>20)
		require.Less(t, grown, max(control, 0)+8<<20, c.name)
	}
	require.Equal(t, 1, r.sessions())
}

func write(t *testing.T, conn *pgx.Conn, sql string) error {
	_, err := conn.Exec(t.Context(), sql)
	return err
}
