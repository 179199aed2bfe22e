package postgres

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// usableCase makes a table, written @, with the columns id and note.
type usableCase struct {
	name, sql string
	// with are options of the publication, since the first major version that knows the statement.
	with  string
	since int
	// want is a part of what is said where the table cannot be published; before18 holds on older
	// servers.
	want, before18 string
}

const (
	storedColumn  = "slug text GENERATED ALWAYS AS (lower(note)) STORED"
	virtualColumn = "slug text GENERATED ALWAYS AS (lower(note)) VIRTUAL"
	pgcStored     = ", publish_generated_columns = stored"
	noIdentity    = "no replica identity that can be used"
	hasStored     = "SET (publish_generated_columns = stored)"
)

var usableCases = []usableCase{
	{name: "primary key", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text)"},
	{name: "none", sql: "CREATE TABLE @ (id int, note text)", want: noIdentity, before18: noIdentity},
	{name: "NOTHING", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text); ALTER TABLE @ REPLICA IDENTITY NOTHING", want: noIdentity, before18: noIdentity},
	{name: "deferrable key", sql: "CREATE TABLE @ (id int PRIMARY KEY DEFERRABLE, note text)", want: noIdentity, before18: noIdentity},
	{name: "key dropped", sql: "CREATE TABLE @ (id int CONSTRAINT @_k PRIMARY KEY, note text); ALTER TABLE @ DROP CONSTRAINT @_k", want: noIdentity, before18: noIdentity},
	{name: "index dropped", sql: "CREATE TABLE @ (id int NOT NULL, note text); CREATE UNIQUE INDEX @_i ON @ (id); ALTER TABLE @ REPLICA IDENTITY USING INDEX @_i; DROP INDEX @_i", want: noIdentity, before18: noIdentity},
	{name: "invalid index", sql: "CREATE TABLE @ (id int NOT NULL, note text); CREATE UNIQUE INDEX @_i ON @ (id); ALTER TABLE @ REPLICA IDENTITY USING INDEX @_i; UPDATE pg_index SET indisvalid = false WHERE indexrelid = '@_i'::regclass", want: noIdentity, before18: noIdentity},
	{name: "index", sql: "CREATE TABLE @ (id int NOT NULL, note text); CREATE UNIQUE INDEX @_i ON @ (id) INCLUDE (note); ALTER TABLE @ REPLICA IDENTITY USING INDEX @_i"},

	{name: "stored, key", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + storedColumn + ")"},
	{name: "stored, FULL", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + storedColumn + "); ALTER TABLE @ REPLICA IDENTITY FULL", want: hasStored},
	{name: "stored, FULL, sent", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + storedColumn + "); ALTER TABLE @ REPLICA IDENTITY FULL", with: pgcStored, since: 18},
	{name: "stored, FULL, dropped", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + storedColumn + "); ALTER TABLE @ REPLICA IDENTITY FULL; ALTER TABLE @ DROP COLUMN slug"},
	{name: "stored in the key", sql: "CREATE TABLE @ (id int, note text, " + storedColumn + ", PRIMARY KEY (id, slug))", want: hasStored},
	{name: "stored in the key, sent", sql: "CREATE TABLE @ (id int, note text, " + storedColumn + ", PRIMARY KEY (id, slug))", with: pgcStored, since: 18},
	{name: "stored in an index", sql: "CREATE TABLE @ (id int, note text, slug text NOT NULL GENERATED ALWAYS AS (lower(note)) STORED); CREATE UNIQUE INDEX @_i ON @ (slug); ALTER TABLE @ REPLICA IDENTITY USING INDEX @_i", want: hasStored},
	{name: "virtual, key", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + virtualColumn + ")", since: 18},
	{name: "virtual, FULL", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + virtualColumn + "); ALTER TABLE @ REPLICA IDENTITY FULL", since: 18, want: "virtual generated column"},
	{name: "virtual, FULL, sent", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + virtualColumn + "); ALTER TABLE @ REPLICA IDENTITY FULL", with: pgcStored, since: 18, want: "virtual generated column"},
	{name: "stored, no key", sql: "CREATE TABLE @ (id int, note text, " + storedColumn + ")", want: noIdentity, before18: noIdentity},

	{name: "partitions with the root's key", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text) PARTITION BY RANGE (id); CREATE TABLE @_1 PARTITION OF @ DEFAULT"},
	{name: "a partition without", sql: "CREATE TABLE @ (id int, note text) PARTITION BY RANGE (id); CREATE TABLE @_1 PARTITION OF @ DEFAULT; ALTER TABLE @ REPLICA IDENTITY FULL", want: noIdentity, before18: noIdentity},
	{name: "partitions FULL, stored", sql: "CREATE TABLE @ (id int PRIMARY KEY, note text, " + storedColumn + ") PARTITION BY RANGE (id); CREATE TABLE @_1 PARTITION OF @ DEFAULT; ALTER TABLE @_1 REPLICA IDENTITY FULL", want: hasStored},
	{name: "a foreign partition", sql: "CREATE TABLE @ (id int, note text) PARTITION BY RANGE (id); CREATE TABLE @_1 PARTITION OF @ FOR VALUES FROM (0) TO (100); ALTER TABLE @_1 REPLICA IDENTITY FULL; CREATE FOREIGN TABLE @_2 PARTITION OF @ FOR VALUES FROM (100) TO (200) SERVER away"},
	{name: "an unlogged partition", sql: "CREATE TABLE @ (id int, note text) PARTITION BY RANGE (id); CREATE TABLE @_1 PARTITION OF @ FOR VALUES FROM (0) TO (100); ALTER TABLE @_1 REPLICA IDENTITY FULL; CREATE UNLOGGED TABLE @_2 (id int PRIMARY KEY, note text); ALTER TABLE @ ATTACH PARTITION @_2 FOR VALUES FROM (100) TO (200)"},
}

// What Inspect calls usable is what PostgreSQL lets the application update once it is published.
func TestUsableIsWhatTheApplicationCanUpdate(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("CREATE FOREIGN DATA WRAPPER away; CREATE SERVER away FOREIGN DATA WRAPPER away")
	for i, c := range usableCases {
		if s.major() < c.since {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			s := *s
			s.t = t
			name := fmt.Sprintf("u%d", i)
			s.exec(strings.ReplaceAll(c.sql, "@", name))
			s.exec("INSERT INTO " + name + " (id, note) VALUES (1, 'A')")
			s.exec("CREATE PUBLICATION " + s.cfg.Publication + " WITH (publish_via_partition_root = true" + c.with + ")")
			defer s.exec("DROP PUBLICATION " + s.cfg.Publication)
			table := cdc.Table{Schema: "public", Name: name}
			infos, err := Inspect(t.Context(), s.conn, s.cfg.Publication, []cdc.Table{table})
			require.NoError(t, err)
			want := c.want
			if s.major() < 18 {
				want = c.before18
			}
			require.Equal(t, want == "", infos[table].Usable)
			tables, left, err := s.cfg.Resolve(t.Context(), s.conn, Watch{Matches: func(t cdc.Table) bool { return t == table }})
			require.NoError(t, err)
			if want != "" {
				require.Len(t, left, 1)
				require.ErrorContains(t, left[0], want)
				if s.major() >= 18 && strings.Contains(c.sql, "GENERATED") {
					require.NotContains(t, left[0].Error(), "IDENTITY FULL")
				}
			} else {
				require.Equal(t, []cdc.Table{table}, tables)
			}
			// Invalid indexes and the like stay as they are once the table is published.
			s.exec("ALTER PUBLICATION " + s.cfg.Publication + " ADD TABLE " + name)
			for _, sql := range []string{"UPDATE %s SET note = 'B' WHERE id = 1", "DELETE FROM %s WHERE id = 1"} {
				err := pgx.BeginFunc(t.Context(), s.conn, func(tx pgx.Tx) error {
					_, err := tx.Exec(t.Context(), fmt.Sprintf(sql, name))
					return err
				})
				require.Equal(t, want == "", err == nil, "%s: %v", sql, err)
			}
		})
	}
}

// A column list never leaves out what old rows need.
func TestColumnListsWithGeneratedIdentities(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("CREATE TABLE g (id int, note text, spare text, " + storedColumn + ", PRIMARY KEY (id, slug)); INSERT INTO g VALUES (1, 'A', 'x')")
	table := cdc.Table{Schema: "public", Name: "g"}
	s.cfg.ColumnLists = s.major() >= columnListsSince
	reads := func(cdc.Table, []string) []string { return []string{"id"} }
	steps, err := s.cfg.Plan(t.Context(), s.conn, []cdc.Table{table}, Watch{Reads: reads})
	if s.major() >= 18 {
		require.ErrorContains(t, err, hasStored)
		s.exec("CREATE PUBLICATION " + s.cfg.Publication + " WITH (publish_via_partition_root = true" + pgcStored + ")")
		steps, err = s.cfg.Plan(t.Context(), s.conn, []cdc.Table{table}, Watch{Reads: reads})
	}
	require.NoError(t, err)
	require.NoError(t, s.cfg.Apply(t.Context(), s.conn, steps))
	if s.major() >= 18 {
		// The list has the column.
		s.exec("ALTER PUBLICATION " + s.cfg.Publication + " SET (publish_generated_columns = none)")
		infos, err := Inspect(t.Context(), s.conn, s.cfg.Publication, []cdc.Table{table})
		require.NoError(t, err)
		require.True(t, infos[table].Usable)
	}
	s.exec("UPDATE g SET note = 'B'")
	s.exec("DELETE FROM g")
}
