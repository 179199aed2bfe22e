package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// kept is a Memory that outlives a reader.
type kept struct {
	mu   sync.Mutex
	seen []byte
}

func (k *kept) Load(context.Context) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.seen, nil
}

func (k *kept) Save(_ context.Context, seen []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.seen = slices.Clone(seen)
	return nil
}

// compared returns the problems that a comparison finds which begins now.
func (r *running) compared(t *testing.T) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	_, err := r.Compare(ctx)
	require.NoError(t, err)
	return r.problems()
}

// noteNeeded is a rule that purges by the column note of every table.
func noteNeeded(tables map[cdc.Table]*TableInfo) (out []Problem) {
	for t, info := range tables {
		if c, found := info.Column("note"); !found || !c.Carried {
			out = append(out, Problem{Tables: []cdc.Table{t}, Column: "note", Rules: []string{"item"}, Unread: true, Text: t.String() + " lacks note"})
		} else if !c.Identity {
			out = append(out, Problem{Tables: []cdc.Table{t}, Column: "note", Rules: []string{"item"}, Unread: true, Text: t.String() + " has another identity"})
		}
	}
	slices.SortFunc(out, func(a, b Problem) int { return compareTables(a.Tables[0], b.Tables[0]) })
	return out
}

// TestUnfitTablesAreFound alters tables while the reader runs and while none does: a
// problem is known as soon as a comparison has ended, and what rules derive from the
// table is purged once they can read it again.
func TestUnfitTablesAreFound(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.memory = &kept{}
	s.tenants()
	s.watches.Unfit = noteNeeded
	s.watches.Sees = func(cdc.Table, string) bool { return false } // a change that is seen is a gap at once
	s.exec("ALTER TABLE items REPLICA IDENTITY FULL")
	r := s.run(&sinkhole{}, Streaming)
	compare := func() []string {
		t.Helper()
		return r.compared(t)
	}
	gaps := 0
	over := func(table cdc.Table) {
		t.Helper()
		require.Empty(t, compare())
		gap, _ := r.gap(t, gaps)
		require.Equal(t, []cdc.Table{table}, gap.Tables)
		gaps++
	}
	require.Empty(t, compare())

	for _, c := range []struct{ alter, repair, problem string }{
		{"ALTER TABLE items RENAME COLUMN note TO remark", "ALTER TABLE items RENAME COLUMN remark TO note", "public.items lacks note"},
		{"ALTER TABLE items DROP COLUMN note", "ALTER TABLE items ADD COLUMN note text", "public.items lacks note"},
		{"ALTER TABLE items REPLICA IDENTITY DEFAULT", "ALTER TABLE items REPLICA IDENTITY FULL", "public.items has another identity"},
		{"ALTER TABLE items DROP COLUMN note, ADD COLUMN note text GENERATED ALWAYS AS ('x') STORED",
			"ALTER TABLE items DROP COLUMN note, ADD COLUMN note text", "public.items lacks note"},
	} {
		s.exec(c.alter)
		// On PostgreSQL 18 a generated column in the identity makes the application's UPDATE fail, too.
		found := compare()
		require.Equal(t, c.problem, found[len(found)-1], c.alter)
		first, _ := r.Problems()
		require.Equal(t, found, compare(), "it stays")
		again, _ := r.Problems()
		require.Equal(t, first[0].Since, again[0].Since)
		s.exec(c.repair)
		over(items)
	}

	// An index that is the identity, and a table of a pattern.
	s.exec("ALTER TABLE items ALTER COLUMN note SET NOT NULL; CREATE UNIQUE INDEX by_note ON items (note); ALTER TABLE items REPLICA IDENTITY USING INDEX by_note")
	require.Empty(t, compare())
	s.exec("CREATE UNIQUE INDEX by_id ON items (id); ALTER TABLE items REPLICA IDENTITY USING INDEX by_id")
	require.Equal(t, []string{"public.items has another identity"}, compare())
	s.exec("ALTER TABLE items REPLICA IDENTITY USING INDEX by_note")
	over(items)
	s.exec("ALTER TABLE items REPLICA IDENTITY FULL")
	s.exec("CREATE SCHEMA tenant_a; CREATE TABLE tenant_a.orders (id int PRIMARY KEY)")
	require.Equal(t, []string{"tenant_a.orders lacks note"}, compare())
	gap, _ := r.gap(t, gaps)
	require.Equal(t, []cdc.Table{tenant("a")}, gap.Tables, "a new tenant")
	gaps++
	s.exec("ALTER TABLE tenant_a.orders ADD COLUMN note text; ALTER TABLE tenant_a.orders REPLICA IDENTITY FULL")
	over(tenant("a"))

	// The server describes a table otherwise than the catalog did: that is looked into
	// without a request, and long before the next heartbeat.
	r.end(t)
	s.cfg.Heartbeat = time.Hour
	r = s.run(&sinkhole{}, Streaming)
	gaps = 0
	require.Empty(t, compare())
	s.exec("ALTER TABLE items RENAME COLUMN note TO remark")
	s.exec("INSERT INTO items VALUES (0, 'x')")
	eventually(t, 20*time.Second, func() bool { return len(r.problems()) == 1 }, "a changed table is compared")

	// What is repaired while no daemon runs is purged at the next start.
	r.end(t)
	s.exec("ALTER TABLE items RENAME COLUMN remark TO note")
	r = s.run(&sinkhole{}, Streaming)
	over(items)
}

// TestTableComesBackWhileNoDaemonRuns: a table that was away when a daemon looked last is changed
// under another name, and is back when the next one starts.
func TestTableComesBackWhileNoDaemonRuns(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.memory = &kept{}
	r := s.run(&sinkhole{}, Streaming)
	require.Empty(t, r.compared(t))
	s.exec("ALTER TABLE items RENAME TO away")
	require.Len(t, r.compared(t), 1)
	r.end(t)
	s.exec("INSERT INTO away VALUES (0)")
	s.exec("ALTER TABLE away RENAME TO items")
	r = s.run(&sinkhole{}, Streaming)
	require.Empty(t, r.compared(t))
	gap, _ := r.gap(t, 0)
	require.Equal(t, []cdc.Table{items}, gap.Tables)
	// What the stream brings of the table under its other name is a reason for another gap.
	r.causes(s, 0)
	r.causes(s, 0)
	r.end(t)
	r = s.run(&sinkhole{}, Streaming)
	require.Empty(t, r.compared(t))
	s.exec("INSERT INTO items VALUES (1)")
	eventually(t, 20*time.Second, func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.ids["1"] == 1 }, "changes come")
	r.mu.Lock()
	defer r.mu.Unlock()
	require.Empty(t, r.gaps, "that is announced once")
}

// TestPublicationProblemsNameTheirTables: what is wrong with one table is no problem of
// another.
func TestPublicationProblemsNameTheirTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.cfg.Manage = false
	s.exec("CREATE TABLE others (id int PRIMARY KEY, note text)")
	s.exec("CREATE PUBLICATION walpurge_test FOR TABLE items, others WITH (publish_via_partition_root = true)")
	s.exec("SELECT pg_create_logical_replication_slot('walpurge_test', 'pgoutput')")
	others := cdc.Table{Schema: "public", Name: "others"}
	s.watches = Watch{Tables: []cdc.Table{items, others}}
	r := s.run(&sinkhole{}, Streaming)
	for _, c := range []struct {
		alter, repair string
		tables        []cdc.Table
	}{
		{"ALTER PUBLICATION walpurge_test DROP TABLE items", "ALTER PUBLICATION walpurge_test ADD TABLE items", []cdc.Table{items}},
		{"ALTER PUBLICATION walpurge_test SET TABLE items, others WHERE (id > 5)", "ALTER PUBLICATION walpurge_test SET TABLE items, others", []cdc.Table{others}},
		{"ALTER TABLE others RENAME TO elsewhere", "ALTER TABLE elsewhere RENAME TO others", []cdc.Table{others}},
		{"ALTER PUBLICATION walpurge_test SET (publish = 'insert, update, delete')", "ALTER PUBLICATION walpurge_test SET (publish = 'insert, update, delete, truncate')", nil},
		{"ALTER PUBLICATION walpurge_test SET (publish = 'insert, delete, truncate')", "ALTER PUBLICATION walpurge_test SET (publish = 'insert, update, delete, truncate')", nil},
		{"ALTER PUBLICATION walpurge_test SET (publish_via_partition_root = false)", "ALTER PUBLICATION walpurge_test SET (publish_via_partition_root = true)", nil},
		{"DROP TABLE others", "CREATE TABLE others (id int PRIMARY KEY); ALTER PUBLICATION walpurge_test ADD TABLE others", []cdc.Table{others}},
	} {
		if strings.Contains(c.alter, " WHERE ") && s.major() < columnListsSince {
			continue // row filters are as old as column lists
		}
		s.exec(c.alter)
		r.compared(t)
		problems, _ := r.Problems()
		require.Len(t, problems, 1, c.alter)
		require.Equal(t, c.tables, problems[0].Tables, c.alter)
		s.exec(c.repair)
		require.Empty(t, r.compared(t), c.repair)
	}
}

// TestOutageKeepsItsBeginning: every attempt to connect again fails within one outage.
func TestOutageKeepsItsBeginning(t *testing.T) {
	r := NewReader(DefaultConfig("test"), Options{Board: watermark.NewBoard(), Logger: slog.New(slog.DiscardHandler)})
	born := r.State().Since
	r.enter(Streaming, nil)
	require.False(t, r.State().Since.Before(born))
	r.enter(Connecting, errors.New("gone"))
	began := r.State().Since
	for _, p := range []Phase{Connecting, Standby, Connecting, Stopped} {
		time.Sleep(time.Millisecond)
		r.enter(p, errors.New("still gone"))
		require.Equal(t, State{Phase: p, Since: began, Err: "still gone"}, r.State())
	}
	r.enter(Streaming, nil)
	require.True(t, r.State().Since.After(began))
	require.Empty(t, r.State().Err)
}

// TestErrorsNameTheirCauseOnce: no attempt is told twice, and nothing stands before the
// cause.
func TestErrorsNameTheirCauseOnce(t *testing.T) {
	t.Parallel()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := free.Addr().String()
	require.NoError(t, free.Close())
	cfg := DefaultConfig("test")
	cfg.URL = "postgres://u@" + addr + "/d"
	_, err = cfg.Connect(t.Context())
	require.EqualError(t, err, "cannot connect to PostgreSQL at "+addr+": connection refused")
	_, _, err = cfg.connectReplication(t.Context())
	require.EqualError(t, err, "cannot connect to PostgreSQL at "+addr+": connection refused")

	s := newServer(t)
	r := s.run(&sinkhole{}, Streaming)
	s.exec("SELECT pg_terminate_backend($1)", s.walsender())
	eventually(t, 20*time.Second, func() bool { return r.sessions() == 2 }, "it connects again")
	log := r.log.String()
	require.Contains(t, log, "replication interrupted")
	require.NotContains(t, log, "context canceled")
	// The server's last message is lost when it closes the connection with bytes of the reader unread.
	require.Equal(t, 1, strings.Count(log, "terminating connection due to administrator command")+
		strings.Count(log, "the server closed the replication connection")+strings.Count(log, "connection reset by peer"), log)
	require.NotContains(t, fmt.Sprint(r.State().Err), "canceled")
}
