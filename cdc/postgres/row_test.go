package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// odd has a column of every type whose text depends on settings, and some more.
const odd = `
CREATE TYPE mood AS ENUM ('so so');
CREATE TABLE odd (id int, "Order ID" text, b bool, n numeric(10,3), f4 real, f8 float8, d date, ts timestamp, tz timestamptz, iv interval,
  bin bytea, j json, jb jsonb, u uuid, a int[], ta text[], m mood, r int4range, mo money, c char(5), nothing text, empty text,
  twice int GENERATED ALWAYS AS (id * 2) STORED, PRIMARY KEY (id, "Order ID"));
ALTER TABLE odd DROP COLUMN c;
INSERT INTO odd VALUES (7, 'a "b"', true, 1.50, 0.1, 1e300, '2026-11-20', '2026-11-20 12:00:00.5', '2026-11-20 12:00:00.5+02', '1 year 2 days 03:00',
  '\x00ff', '{"a" : 1}', '{"b":2,  "a":1.0}', 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11', '{1,NULL}', '{"a,b",c}', 'so so', '[1,5)', 12.3, NULL, '');
CREATE TABLE heir () INHERITS (odd);
ALTER TABLE heir ADD PRIMARY KEY (id);
INSERT INTO heir (id, "Order ID") VALUES (7, 'heir');
CREATE TABLE whole (id int PRIMARY KEY, note text);
ALTER TABLE whole REPLICA IDENTITY FULL;
INSERT INTO whole VALUES (7, 'x');
CREATE TABLE part (id int, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
INSERT INTO part VALUES (7, '2026-05-05', 'x');
CREATE TABLE listed (id int PRIMARY KEY, shown text, hidden text);
INSERT INTO listed VALUES (7, 'x', 'y');
CREATE TABLE bare (id int);
INSERT INTO bare VALUES (7);
`

// What ReadChange says is what the log then carries, byte for byte.
func TestReadChangeIsWhatTheLogCarries(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("ALTER SYSTEM SET datestyle = 'German'")
	s.exec("SELECT pg_reload_conf()")
	s.exec("SET timezone = 'Asia/Tokyo'; SET intervalstyle = 'iso_8601'; SET bytea_output = 'escape'; SET extra_float_digits = 0; " + odd)
	list := " (id, shown)"
	if s.major() < columnListsSince {
		list = ""
	}
	s.exec("CREATE PUBLICATION " + s.cfg.Publication + " FOR TABLE ONLY odd, whole, part, listed" + list + " WITH (publish_via_partition_root = true)")
	s.exec("SELECT pg_create_logical_replication_slot('look', 'pgoutput')")
	before := map[string]*cdc.Change{}
	tables := []string{"odd", "whole", "part", "listed"}
	for _, table := range tables {
		for _, op := range []cdc.Op{cdc.Insert, cdc.Update, cdc.Delete} {
			c, err := s.cfg.ReadChange(t.Context(), s.conn, cdc.Table{Schema: "public", Name: table}, "id = 7 -- a comment", op)
			require.NoError(t, err)
			before[fmt.Sprint(table, op)] = c
		}
		s.exec("UPDATE " + table + " SET id = id WHERE id = 7")
		s.exec("DELETE FROM " + table + " WHERE id = 7")
	}
	log := s.changes("look")
	require.Len(t, log, 2*len(tables))
	for i, table := range tables {
		inserted, updated, deleted := before[fmt.Sprint(table, cdc.Insert)], before[fmt.Sprint(table, cdc.Update)], before[fmt.Sprint(table, cdc.Delete)]
		require.Equal(t, shown(log[2*i]), shown(updated), "%s updated", table)
		require.Equal(t, shown(log[2*i+1]), shown(deleted), "%s deleted", table)
		require.Nil(t, inserted.Old)
		require.Equal(t, shown(updated)["new"], shown(inserted)["new"])
	}
}

// shown is a change without what differs by chance.
func shown(c *cdc.Change) map[string]any {
	row := func(t cdc.Tuple) (out []string) {
		for i, v := range t {
			out = append(out, fmt.Sprintf("%s %d %q", c.Rel.Columns[i].Name, v.Kind, v.Data))
		}
		return out
	}
	columns := slices.Clone(c.Rel.Columns)
	for i := range columns {
		columns[i].Type = nil // the decoder does not know it
	}
	return map[string]any{"op": c.Op, "name": c.Rel.String(), "identity": c.Rel.Identity, "columns": columns, "old": row(c.Old), "new": row(c.New)}
}

// changes reads a slot as a walsender of ours would send it.
func (s *server) changes(slot string) []*cdc.Change {
	s.t.Helper()
	tx, err := s.conn.Begin(s.t.Context())
	require.NoError(s.t, err)
	defer func() { _ = tx.Rollback(s.t.Context()) }()
	_, err = tx.Exec(s.t.Context(), applySettings(true))
	require.NoError(s.t, err)
	rows, err := tx.Query(s.t.Context(), "SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', $2)", slot, s.cfg.Publication)
	require.NoError(s.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(s.t, err)
	d := pgoutput.NewDecoder()
	var out []*cdc.Change
	for _, m := range messages {
		typ, err := d.Decode(m)
		require.NoError(s.t, err)
		if typ == pgoutput.UpdateType || typ == pgoutput.DeleteType {
			c := d.Change
			c.Old, c.New = append(cdc.Tuple(nil), c.Old...), append(cdc.Tuple(nil), c.New...)
			out = append(out, &c)
		}
	}
	return out
}

func TestReadChangeRefuses(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(odd)
	s.exec("INSERT INTO items SELECT g, 'x' FROM generate_series(1, 3) g; CREATE SEQUENCE numbers; CREATE ROLE stranger LOGIN; CREATE TABLE secret (id int PRIMARY KEY); ALTER TABLE secret ENABLE ROW LEVEL SECURITY; GRANT SELECT ON secret TO stranger")
	stranger := s.cfg
	stranger.URL = s.pg.URL("postgres", "stranger", "")
	for _, c := range []struct {
		name, table, where string
		op                 cdc.Op
		cfg                Config
		missing            bool
		want               string
	}{
		{"none", "items", "id = 9", cdc.Update, s.cfg, true, "no row of public.items meets the condition; fix: correct --where"},
		{"several", "items", "id > 1", cdc.Update, s.cfg, true, "several rows of public.items meet the condition; fix: name one of them"},
		{"no table", "itms", "id = 1", cdc.Update, s.cfg, true, "table public.itms does not exist"},
		{"a partition", "part_1", "id = 7", cdc.Update, s.cfg, true, "name its root public.part, as rules do"},
		{"no column", "items", "ident = 7", cdc.Update, s.cfg, true, `column "ident" does not exist (SQLSTATE 42703); fix: correct --where`},
		{"syntax", "items", "id = = 7", cdc.Update, s.cfg, true, "syntax error"},
		{"data", "items", "1 / (id - id) = 7", cdc.Update, s.cfg, true, "division by zero"},
		{"two statements", "items", "true); SELECT (1", cdc.Update, s.cfg, true, "cannot insert multiple commands"},
		{"it writes", "items", "nextval('numbers') > 0", cdc.Update, s.cfg, false, "read-only transaction"},
		{"no identity", "bare", "id = 7", cdc.Delete, s.cfg, false, "no replica identity that can be used"},
		{"no right", "items", "id = 1", cdc.Update, stranger, false, `GRANT SELECT ON "public"."items"`},
		{"row security", "secret", "id = 1", cdc.Update, stranger, false, "row security does not bind"},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := s.conn
			if c.cfg.URL != s.cfg.URL {
				var err error
				conn, err = c.cfg.Connect(t.Context())
				require.NoError(t, err)
				defer conn.Close(t.Context())
			}
			_, err := c.cfg.ReadChange(t.Context(), conn, cdc.Table{Schema: "public", Name: c.table}, c.where, c.op)
			require.ErrorContains(t, err, c.want)
			var missing *Missing
			require.Equal(t, c.missing, errors.As(err, &missing), "%v", err)
			require.NotContains(t, strings.TrimSpace(err.Error()), "\n")
		})
	}
	// The connection serves on, with the settings that it had.
	var style string
	require.NoError(t, s.conn.QueryRow(t.Context(), "SHOW statement_timeout").Scan(&style))
	require.Equal(t, "0", style)
	_, err := s.cfg.ReadChange(t.Context(), s.conn, cdc.Table{Schema: "public", Name: "bare"}, "true", cdc.Insert)
	require.NoError(t, err)
}
