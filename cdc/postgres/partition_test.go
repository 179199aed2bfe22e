package postgres

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/pgoutput"
)

// read decodes what a slot has as a walsender would send it, whole transactions or in blocks, and
// returns the row events in a short form: ? for a value that was not carried.
func (s *server) read(slot string, streaming bool) (events []string, last *cdc.Relation) {
	s.t.Helper()
	options := "'proto_version', '1'"
	if streaming {
		options = "'proto_version', '2', 'streaming', 'on'"
	}
	rows, err := s.conn.Query(s.t.Context(), "SELECT data FROM pg_logical_slot_get_binary_changes($1, NULL, NULL, 'publication_names', $2, "+options+")", slot, s.cfg.Publication)
	require.NoError(s.t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(s.t, err)
	d := pgoutput.NewDecoder()
	blocks := 0
	for _, m := range messages {
		typ, err := d.Decode(m)
		require.NoError(s.t, err)
		switch typ {
		case pgoutput.StreamStartType:
			blocks++
		case pgoutput.UpdateType, pgoutput.DeleteType:
			events, last = append(events, d.Change.Op.String()+" "+short(d.Change.Rel, d.Change.Old)), d.Change.Rel
		case pgoutput.InsertType:
			last = d.Change.Rel
		}
	}
	require.Equal(s.t, streaming, blocks > 0, "blocks")
	return events, last
}

func short(rel *cdc.Relation, row cdc.Tuple) string {
	if row == nil {
		return "no old row"
	}
	var out []string
	for i, v := range row {
		switch text := rel.Columns[i].Name + "="; v.Kind {
		case cdc.Text:
			out = append(out, text+string(v.Data))
		case cdc.Null:
			out = append(out, text+"NULL")
		default:
			out = append(out, text+"?")
		}
	}
	return strings.Join(out, " ")
}

// treeSchema is a partitioned table whose partition t_odd has its columns in another order,
// behind one that was dropped.
const treeSchema = `
DROP TABLE IF EXISTS t CASCADE;
CREATE TABLE t (id int NOT NULL, code int NOT NULL, note text) PARTITION BY RANGE (id);
CREATE TABLE t_1 PARTITION OF t FOR VALUES FROM (0) TO (100);
CREATE TABLE t_odd (gone int, note text, code int NOT NULL, more text, id int NOT NULL);
ALTER TABLE t_odd DROP COLUMN gone, DROP COLUMN more;
ALTER TABLE t ATTACH PARTITION t_odd FOR VALUES FROM (100) TO (200);
CREATE UNIQUE INDEX t_1_id ON t_1 (id);
CREATE UNIQUE INDEX t_1_code ON t_1 (code);
CREATE UNIQUE INDEX t_odd_id ON t_odd (id);
CREATE UNIQUE INDEX t_odd_code ON t_odd (code);
CREATE UNIQUE INDEX t_id ON t (id);
`

// No old row of a partition ever has a NULL where the partition's identity has no column,
// whatever the identity of its root is.
func TestOldRowsOfPartitions(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("SET logical_decoding_work_mem = '64kB'")
	for _, c := range []struct {
		name, identities string
		// columns are those that are known to be unchanged where an update has no old row.
		columns string
		want    []string
	}{
		{"root FULL, one leaf DEFAULT", "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t_1 REPLICA IDENTITY FULL; ALTER TABLE t_odd ADD PRIMARY KEY (id)", "id",
			[]string{"update id=1 code=10 note=a", "delete id=2 code=20 note=NULL", "update no old row", "update id=102 code=? note=?", "delete id=103 code=? note=?"}},
		{"root FULL, all leaves FULL", "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t_1 REPLICA IDENTITY FULL; ALTER TABLE t_odd REPLICA IDENTITY FULL", "id code note",
			[]string{"update id=1 code=10 note=a", "delete id=2 code=20 note=NULL", "update id=101 code=1010 note=b", "update id=102 code=1020 note=NULL", "delete id=103 code=1030 note=NULL"}},
		{"root DEFAULT without a key, leaves with keys of their own", "ALTER TABLE t_1 ADD PRIMARY KEY (id); ALTER TABLE t_odd ADD PRIMARY KEY (code)", "",
			[]string{"update no old row", "delete id=2 code=? note=?", "update no old row", "update no old row", "delete id=? code=1030 note=?"}},
		{"root DEFAULT, leaf FULL", "ALTER TABLE t ADD PRIMARY KEY (id); ALTER TABLE t_odd REPLICA IDENTITY FULL", "id",
			[]string{"update no old row", "delete id=2 code=? note=?", "update id=101 code=1010 note=b", "update id=102 code=1020 note=?", "delete id=103 code=1030 note=?"}},
		{"root DEFAULT, all leaves FULL", "ALTER TABLE t ADD PRIMARY KEY (id); ALTER TABLE t_1 REPLICA IDENTITY FULL; ALTER TABLE t_odd REPLICA IDENTITY FULL", "id code note",
			[]string{"update id=1 code=10 note=a", "delete id=2 code=20 note=NULL", "update id=101 code=1010 note=b", "update id=102 code=1020 note=NULL", "delete id=103 code=1030 note=NULL"}},
		{"root and leaves USING INDEX, one over another column", "ALTER TABLE t REPLICA IDENTITY USING INDEX t_id; ALTER TABLE t_1 REPLICA IDENTITY USING INDEX t_1_id; ALTER TABLE t_odd REPLICA IDENTITY USING INDEX t_odd_code", "",
			[]string{"update no old row", "delete id=2 code=? note=?", "update no old row", "update no old row", "delete id=? code=1030 note=?"}},
	} {
		for _, streaming := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, streaming %t", c.name, streaming), func(t *testing.T) {
				s := *s
				s.t = t
				s.exec("DROP PUBLICATION IF EXISTS " + s.cfg.Publication)
				s.exec(treeSchema + c.identities)
				s.exec("INSERT INTO t VALUES (1, 10, 'a'), (2, 20, NULL), (101, 1010, 'b'), (102, 1020, NULL), (103, 1030, NULL)")
				s.exec("CREATE PUBLICATION " + s.cfg.Publication + " FOR TABLE t WITH (publish_via_partition_root = true)")
				s.exec("SELECT pg_create_logical_replication_slot('look', 'pgoutput')")
				defer s.exec("SELECT pg_drop_replication_slot('look')")
				filler := ""
				if streaming {
					filler = "DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO t VALUES (50, 500, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 50))); DELETE FROM t WHERE id = 50; END LOOP; END $$;"
				}
				s.exec("BEGIN; UPDATE t SET note = 'c' WHERE id = 1; DELETE FROM t WHERE id = 2; UPDATE t SET note = 'c' WHERE id = 101; UPDATE t SET id = 150 WHERE id = 102; DELETE FROM t WHERE id = 103; " + filler + " COMMIT")
				events, rel := s.read("look", streaming)
				require.Equal(t, c.want, events[:len(c.want)])
				require.True(t, rel.Partitioned)
				require.Equal(t, "public.t", rel.String())
				var keys []string
				for _, column := range rel.Columns {
					if column.Key {
						keys = append(keys, column.Name)
					}
				}
				require.Equal(t, c.columns, strings.Join(keys, " "))
			})
		}
	}
}

// The identity that counts is the one that the partition had at the row's place in the log, also
// where a transaction changes it and takes that back.
func TestOldRowsWhileIdentitiesChange(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("SET logical_decoding_work_mem = '64kB'")
	filler := "DO $$ BEGIN FOR i IN 1..100 LOOP INSERT INTO t VALUES (50, 500, (SELECT string_agg(md5(random()::text), '') FROM generate_series(1, 50))); DELETE FROM t WHERE id = 50; END LOOP; END $$;"
	s.exec(treeSchema + `ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t_1 REPLICA IDENTITY FULL; ALTER TABLE t_odd REPLICA IDENTITY FULL;
		ALTER TABLE t_odd ADD PRIMARY KEY (id); INSERT INTO t SELECT id, id, NULL FROM generate_series(101, 120) id`)
	s.exec("CREATE PUBLICATION " + s.cfg.Publication + " FOR TABLE t WITH (publish_via_partition_root = true)")
	for _, c := range []struct {
		name, sql string
		streaming bool
		want      []string
		// before15 is what PostgreSQL 14 sends, where that differs: a table that the session has met
		// stays as it was when it is attached or detached.
		before15 []string
	}{
		{"in transactions of their own", "DELETE FROM t WHERE id = 101; ALTER TABLE t_odd REPLICA IDENTITY DEFAULT; DELETE FROM t WHERE id = 102; ALTER TABLE t_odd REPLICA IDENTITY FULL; DELETE FROM t WHERE id = 103", false,
			[]string{"delete id=101 code=101 note=NULL", "delete id=102 code=? note=?", "delete id=103 code=103 note=NULL"}, nil},
		{"in one transaction", "BEGIN; DELETE FROM t WHERE id = 104; ALTER TABLE t_odd REPLICA IDENTITY DEFAULT; DELETE FROM t WHERE id = 105; ALTER TABLE t_odd REPLICA IDENTITY FULL; DELETE FROM t WHERE id = 106; COMMIT", false,
			[]string{"delete id=104 code=104 note=NULL", "delete id=105 code=? note=?", "delete id=106 code=106 note=NULL"}, nil},
		{"in one transaction, in blocks", "BEGIN; FILL; DELETE FROM t WHERE id = 107; ALTER TABLE t_odd REPLICA IDENTITY DEFAULT; DELETE FROM t WHERE id = 108; FILL; ALTER TABLE t_odd REPLICA IDENTITY FULL; DELETE FROM t WHERE id = 109; COMMIT", true,
			[]string{"delete id=107 code=107 note=NULL", "delete id=108 code=? note=?", "delete id=109 code=109 note=NULL"}, nil},
		{"in a savepoint that is rolled back", "ALTER TABLE t_odd REPLICA IDENTITY DEFAULT; BEGIN; SAVEPOINT a; ALTER TABLE t_odd REPLICA IDENTITY FULL; DELETE FROM t WHERE id = 110; ROLLBACK TO a; DELETE FROM t WHERE id = 111; COMMIT; DELETE FROM t WHERE id = 112", false,
			[]string{"delete id=111 code=? note=?", "delete id=112 code=? note=?"}, nil},
		{"in a savepoint that is rolled back, in blocks", "BEGIN; FILL; SAVEPOINT a; ALTER TABLE t_odd REPLICA IDENTITY FULL; DELETE FROM t WHERE id = 113; FILL; ROLLBACK TO a; DELETE FROM t WHERE id = 114; FILL; COMMIT; DELETE FROM t WHERE id = 115", true,
			[]string{"delete id=114 code=? note=?", "delete id=115 code=? note=?"}, nil},
		{"of the root only", "ALTER TABLE t_odd REPLICA IDENTITY DEFAULT; ALTER TABLE t REPLICA IDENTITY DEFAULT; DELETE FROM t WHERE id = 116; ALTER TABLE t REPLICA IDENTITY FULL; DELETE FROM t WHERE id = 117", false,
			[]string{"delete id=116 code=? note=?", "delete id=117 code=? note=?"}, nil},
		{"by ATTACH, below another partition", `CREATE TABLE t_3 (note text, id int PRIMARY KEY, code int NOT NULL); INSERT INTO t_3 VALUES (NULL, 301, 301), (NULL, 302, 302); ALTER TABLE t_odd REPLICA IDENTITY FULL;
			CREATE TABLE t_2 PARTITION OF t FOR VALUES FROM (200) TO (400) PARTITION BY RANGE (id);
			DELETE FROM t WHERE id = 118; ALTER TABLE t_2 ATTACH PARTITION t_3 FOR VALUES FROM (300) TO (400); DELETE FROM t WHERE id = 301; DELETE FROM t WHERE id = 119`, false,
			[]string{"delete id=118 code=118 note=NULL", "delete id=301 code=? note=?", "delete id=119 code=119 note=?"},
			[]string{"delete id=118 code=118 note=NULL", "delete id=119 code=119 note=NULL"}},
		{"by DETACH", "DELETE FROM t WHERE id = 302; ALTER TABLE t_2 DETACH PARTITION t_3; DELETE FROM t WHERE id = 120", false,
			[]string{"delete id=302 code=? note=?", "delete id=120 code=120 note=?"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := *s
			s.t = t
			s.exec("SELECT pg_create_logical_replication_slot('look', 'pgoutput')")
			defer s.exec("SELECT pg_drop_replication_slot('look')")
			for statement := range strings.SplitSeq(c.sql, "; ") {
				s.exec(strings.Replace(statement, "FILL", filler, 1))
			}
			events, _ := s.read("look", c.streaming)
			events = slices.DeleteFunc(events, func(e string) bool { return strings.Contains(e, "id=50 ") })
			if s.major() < 15 && c.before15 != nil {
				c.want = c.before15
			}
			require.Equal(t, c.want, events)
		})
	}
}

// Rows of a table that is attached come from then on, also where the walsender has met the table
// before, which PostgreSQL 14 goes on leaving out.
func TestRowsOfAttachedTables(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(`CREATE TABLE a (id int PRIMARY KEY, note text) PARTITION BY RANGE (id);
		CREATE TABLE a_1 PARTITION OF a FOR VALUES FROM (0) TO (100);
		CREATE TABLE a_2 (id int PRIMARY KEY, note text)`)
	s.watches = Watch{Tables: []cdc.Table{{Schema: "public", Name: "a"}}}
	run := s.run(&sinkhole{}, Streaming)
	_, err := run.Compare(t.Context())
	require.NoError(t, err)
	s.exec("INSERT INTO a_2 VALUES (100, 'x')")
	s.exec("INSERT INTO a VALUES (0, 'x')")
	eventually(t, hang, func() bool { return run.has(1) }, "the walsender is behind both")
	s.exec("ALTER TABLE a ATTACH PARTITION a_2 FOR VALUES FROM (100) TO (1000000)")
	id := 100
	eventually(t, hang, func() bool {
		id++
		s.exec(fmt.Sprintf("INSERT INTO a VALUES (%d, 'y')", id))
		run.mu.Lock()
		defer run.mu.Unlock()
		for i := 101; i <= id; i++ {
			if run.ids[fmt.Sprint(i)] > 0 {
				return len(run.gaps) > 0
			}
		}
		return false
	}, "rows of the attached table come")
}

// An old row with a NULL in a column that is NOT NULL is not whole, whatever the message says.
func TestOldRowsThatCannotBeWhole(t *testing.T) {
	now := &map[uint32][]string{7: {"id", "gone", "code"}}
	n := notNulls{now: func() *map[uint32][]string { return now }}
	rel := &cdc.Relation{OID: 7, Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "id"}, {Name: "note"}, {Name: "code"}}}
	one := cdc.Value{Kind: cdc.Text, Data: []byte("1")}
	null, absent := cdc.Value{Kind: cdc.Null}, cdc.Value{}
	check := func(rel *cdc.Relation, old, want cdc.Tuple) {
		t.Helper()
		n.check(&cdc.Change{Op: cdc.Delete, Rel: rel, Old: old})
		require.Equal(t, want, old)
	}
	check(rel, cdc.Tuple{one, null, null}, cdc.Tuple{one, absent, absent})
	check(rel, cdc.Tuple{one, null, one}, cdc.Tuple{one, null, one})
	check(rel, nil, nil)
	keyed := *rel
	keyed.Identity = cdc.IdentityDefault
	check(&keyed, cdc.Tuple{one, null, null}, cdc.Tuple{one, null, null})
	now = &map[uint32][]string{7: {"id"}}
	check(rel, cdc.Tuple{one, null, null}, cdc.Tuple{one, null, null})
	now = nil
	check(rel, cdc.Tuple{null, null, null}, cdc.Tuple{null, null, null})

	// What the reader knows of a table of the server.
	s := newServer(t)
	s.exec("ALTER TABLE items ALTER note SET NOT NULL; ALTER TABLE items REPLICA IDENTITY FULL")
	s.watches = Watch{Tables: []cdc.Table{items}, Unfit: noteNeeded}
	r := s.run(&sinkhole{}, Streaming)
	r.compared(t)
	var oid uint32
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT 'items'::regclass::oid").Scan(&oid))
	require.Equal(t, map[uint32][]string{oid: {"id", "note"}}, *r.notNull.Load())
}
