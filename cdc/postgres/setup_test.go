package postgres

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/integration/harness"
)

// psql gives statements to psql, as a DBA does.
func (s *server) psql(sql string) {
	s.t.Helper()
	binaries, err := harness.FindInstalled()
	require.NoError(s.t, err)
	cmd := exec.CommandContext(s.t.Context(), binaries.Path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", s.pg.URL("postgres"))
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	require.NoError(s.t, err, "%s", out)
}

func public(names ...string) (out []cdc.Table) {
	for _, n := range names {
		out = append(out, cdc.Table{Schema: "public", Name: n})
	}
	return out
}

// What a check proposes is what setup prints, and a daemon that starts after it was run finds
// nothing missing and no gap.
func TestProposedStatementsAreThoseOfSetup(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(`CREATE TABLE more (id int PRIMARY KEY, note text, rest text); CREATE TABLE "odd  name" (id int PRIMARY KEY);
		CREATE TABLE parts (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000);
		CREATE TABLE tenant_1 (id int PRIMARY KEY); CREATE TABLE tenant_2 (id int PRIMARY KEY); CREATE TABLE tenant_3 (id int);
		CREATE ROLE weak LOGIN REPLICATION`)
	items := Watch{Tables: public("items")}
	narrow := Watch{Tables: public("items", "more"), Reads: func(_ cdc.Table, _ []string) []string { return []string{"note"} }}
	for _, c := range []struct {
		name   string
		before string // after a setup for items, where it is not empty
		watch  Watch
		lists  bool
	}{
		{name: "nothing is there", watch: items},
		{name: "an odd name", watch: Watch{Tables: public("odd  name")}},
		{name: "a partitioned table", watch: Watch{Tables: public("parts")}},
		{name: "column lists", watch: narrow, lists: true},
		{name: "a pattern, with a table that must not be published",
			watch: Watch{Tables: public("items"), Matches: func(t cdc.Table) bool { return strings.HasPrefix(t.Name, "tenant_") }}},
		{name: "a table is added", before: "SELECT 1", watch: Watch{Tables: public("items", "more")}},
		{name: "a table is added and one is no longer named", before: "SELECT 1", watch: Watch{Tables: public("more")}},
		{name: "the slot was dropped", before: "SELECT pg_drop_replication_slot('walpurge_test')", watch: items},
		{name: "the publication was dropped", before: "DROP PUBLICATION walpurge_test", watch: items},
	} {
		if c.lists && s.major() < columnListsSince {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Cleanup(func() { require.NoError(t, s.cfg.Drop(context.Background(), s.conn)) })
			cfg := s.cfg
			cfg.Manage, cfg.ColumnLists = false, c.lists
			if c.before != "" {
				steps, _, err := cfg.Setup(t.Context(), s.conn, items)
				require.NoError(t, err)
				require.NoError(t, cfg.Apply(t.Context(), s.conn, steps))
				s.exec(c.before)
			}
			steps, left, err := cfg.Setup(t.Context(), s.conn, c.watch)
			require.NoError(t, err)
			printed := JoinSteps(steps)
			if c.watch.Matches != nil {
				require.Len(t, left, 1)
				require.ErrorContains(t, left[0], "tenant_3")
				require.Contains(t, printed, "tenant_2")
			}

			ready := func(conn *pgx.Conn, cfg Config) error {
				tables, _, err := cfg.Resolve(t.Context(), conn, c.watch)
				require.NoError(t, err)
				return cfg.Ready(t.Context(), conn, tables, c.watch)
			}
			proposed := func(err error) string {
				var incomplete *Incomplete
				require.ErrorAs(t, err, &incomplete)
				var fault *Fault
				require.True(t, errors.As(err, &fault))
				return fault.Fix
			}
			require.Equal(t, "run as their owner: "+printed, proposed(ready(s.conn, cfg)))
			weak, err := pgx.Connect(t.Context(), s.pg.URL("postgres", "weak"))
			require.NoError(t, err)
			defer weak.Close(context.Background())
			managed := cfg
			managed.Manage = true
			if len(steps) > 0 && c.before != "SELECT pg_drop_replication_slot('walpurge_test')" { // a role that may replicate may create the slot
				require.Equal(t, letOwner+": "+printed, proposed(ready(weak, managed)))
			}

			s.psql(printed)
			require.NoError(t, ready(s.conn, cfg))
			require.NoError(t, ready(weak, cfg), "a role without rights on tables finds it complete, too")
			slot, err := cfg.slot(t.Context(), s.conn)
			require.NoError(t, err)
			_, unread, err := cfg.unread(t.Context(), s.conn, slot)
			require.NoError(t, err)
			require.True(t, unread, "the first start is not a gap")
			if strings.HasPrefix(c.name, "a table is added") {
				require.Contains(t, printed, "pg_logical_emit_message(true, 'walpurge.tables'", "what was written before is purged as a gap of the table")
			}
			again, _, err := cfg.Setup(t.Context(), s.conn, c.watch)
			require.NoError(t, err)
			require.Empty(t, again)
		})
	}
}

// TestDDLBetweenSetupAndFirstStart: what happens to tables after setup, and before a daemon streams for
// the first time, has its outcome at that start, and the start is no gap.
func TestDDLBetweenSetupAndFirstStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.memory, s.cfg.Heartbeat, s.cfg.Manage = &kept{}, time.Hour, false
	s.exec("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE DOMAIN sort AS text; CREATE TYPE place AS (x int, y int); " + tree)
	s.exec(`CREATE TABLE feelings (id int PRIMARY KEY, note text, mood mood[]);
		CREATE TABLE left_out (id int PRIMARY KEY, note text);
		CREATE TABLE parts (id int PRIMARY KEY, note text) PARTITION BY RANGE (id); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (1000)`)
	s.watches = Watch{Tables: public("items", "t", "feelings", "left_out", "parts")}
	steps, _, err := s.cfg.Setup(t.Context(), s.conn, s.watches)
	require.NoError(t, err)
	s.psql(JoinSteps(steps))

	s.exec("TRUNCATE t1; DROP TABLE t2; ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
	s.exec("ALTER PUBLICATION walpurge_test DROP TABLE left_out; INSERT INTO left_out VALUES (1); ALTER PUBLICATION walpurge_test ADD TABLE left_out")
	s.exec("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (1000) TO (2000); ALTER TABLE items ADD COLUMN more int")
	r := s.run(&sinkhole{}, Streaming)
	require.ElementsMatch(t, because(cdc.LeafRewritten, cdc.LeafGone, cdc.TypeChanged, cdc.TablePublished), r.causes(s, 0))
	gap, _ := r.gap(t, 0)
	require.Equal(t, public("feelings", "left_out", "t"), gap.Tables)
	r.mu.Lock()
	require.True(t, r.starts[0].SlotUnread, "the start is no gap")
	r.mu.Unlock()
	r.end(t)
	r = s.run(&sinkhole{}, Streaming)
	require.Empty(t, r.causes(s, 0), "once")
	r.end(t)

	// Notes that say where the slot begins, and not what the tables contain.
	for name, note := range map[string]string{"of an older version": "", "of another database": `{"tables":[{"Relation":1}],"described":""}`, "cut off": `{"tables":[{"Relation"`} {
		eventually(t, hang, func() bool { return s.walsender() == 0 }, "the walsender ends")
		require.NoError(t, s.cfg.Drop(t.Context(), s.conn))
		steps, _, err := s.cfg.Setup(t.Context(), s.conn, s.watches)
		require.NoError(t, err)
		s.psql(JoinSteps(steps))
		if note != "" {
			note = "\n" + note
		}
		s.exec("DO $$ BEGIN EXECUTE format('COMMENT ON PUBLICATION walpurge_test IS %L', '" + s.cfg.birthPrefix() + s.confirmed().String() + note + "'); END $$")
		slot, err := s.cfg.slot(t.Context(), s.conn)
		require.NoError(t, err)
		_, unread, err := s.cfg.unread(t.Context(), s.conn, slot)
		require.NoError(t, err)
		require.False(t, unread, name)
	}
}

// TestUnreadColumnsNotes: large values that no rule reads are worth a note.
func TestUnreadColumnsNotes(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(`CREATE TABLE docs (id int PRIMARY KEY, title text, body text, scan bytea, size int) PARTITION BY RANGE (id);
		CREATE TABLE docs_1 PARTITION OF docs FOR VALUES FROM (0) TO (1000); ALTER TABLE docs_1 ALTER body SET STORAGE EXTERNAL; ALTER TABLE items ALTER note SET STORAGE EXTERNAL`)
	for _, table := range []string{"docs (id, body)", "items (id, note)"} {
		s.exec("INSERT INTO " + table + " SELECT g, repeat('x', 1 << 20) FROM generate_series(1, 20) g")
	}
	notes := func(read ...string) []string {
		infos, err := Inspect(t.Context(), s.conn, s.cfg.Publication, public("docs", "items"))
		require.NoError(t, err)
		out, err := s.cfg.UnreadColumnsNotes(t.Context(), s.conn, infos, func(_ cdc.Table, columns []string) []string { return read })
		require.NoError(t, err)
		return out
	}
	require.Empty(t, notes("note", "title"), "nothing is known of the sizes")
	s.statements("VACUUM docs_1; VACUUM items")
	want := []string{"PostgreSQL sends body, scan of public.docs with each INSERT and with each UPDATE that changes it, and no rule reads it; 20 MiB of the table are stored out of line: postgres.column_lists: true leaves such columns out"}
	if s.major() < columnListsSince {
		want = nil
	}
	require.Equal(t, want, notes("note", "title"))
	require.Empty(t, notes("note", "title", "body", "scan"))
	s.cfg.ColumnLists = true
	require.Empty(t, notes("id"))
}
