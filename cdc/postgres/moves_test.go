package postgres

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// An UPDATE that moves a row to another partition is handed over as an UPDATE, too, with both rows.
func TestMovedRowsAreUpdatesToo(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
	s.exec("SELECT pg_reload_conf()")
	s.exec(`CREATE TABLE m (id int, day int, note text, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
		CREATE TABLE m_1 PARTITION OF m FOR VALUES IN (1);
		CREATE TABLE m_2 PARTITION OF m FOR VALUES IN (2, 3) PARTITION BY LIST (day);
		CREATE TABLE m_22 PARTITION OF m_2 FOR VALUES IN (2);
		CREATE TABLE m_23 (note text, day int, id int, PRIMARY KEY (id, day));
		ALTER TABLE m_2 ATTACH PARTITION m_23 FOR VALUES IN (3);
		CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO items VALUES (NEW.id, 'audit'); RETURN NEW; END $$;
		CREATE TRIGGER audit BEFORE INSERT ON m_23 FOR EACH ROW EXECUTE FUNCTION audit();
		INSERT INTO m SELECT g, 1, 'a' FROM generate_series(1, 4) g`)
	s.watches = Watch{Tables: []cdc.Table{{Schema: "public", Name: "items"}, {Schema: "public", Name: "m"}}}
	var mu sync.Mutex
	var seen []string
	run := s.run(&sinkhole{hold: func(c *cdc.Change) {
		mu.Lock()
		defer mu.Unlock()
		text := c.Op.String() + " " + c.Rel.Name
		if c.Old != nil {
			text += " old " + short(c.Rel, c.Old)
		}
		if c.New != nil {
			text += " new " + short(c.Rel, c.New)
		}
		seen = append(seen, text)
	}}, Streaming)
	after := func(sql string, want ...string) {
		t.Helper()
		mu.Lock()
		seen = nil
		mu.Unlock()
		s.exec(sql)
		run.caughtUp(s)
		mu.Lock()
		defer mu.Unlock()
		require.Equal(t, want, seen)
	}
	after("UPDATE m SET day = 2, note = 'b' WHERE id = 1", "delete m old id=1 day=1 note=?",
		"update m old id=1 day=1 note=? new id=1 day=2 note=b", "insert m new id=1 day=2 note=b")
	after("UPDATE m SET day = 2 WHERE id IN (2, 3)", "delete m old id=2 day=1 note=?",
		"update m old id=2 day=1 note=? new id=2 day=2 note=a", "insert m new id=2 day=2 note=a", "delete m old id=3 day=1 note=?",
		"update m old id=3 day=1 note=? new id=3 day=2 note=a", "insert m new id=3 day=2 note=a")
	// A trigger of the other partition writes before the row is there.
	after("UPDATE m SET day = 3 WHERE id = 1", "delete m old id=1 day=2 note=?", "insert items new id=1 note=audit",
		"update m old id=1 day=2 note=? new id=1 day=3 note=b", "insert m new id=1 day=3 note=b")
	after("UPDATE m SET note = 'c' WHERE id = 1", "update m new id=1 day=3 note=c")
	after("DELETE FROM m WHERE id = 1; INSERT INTO items VALUES (10, 'x')", "delete m old id=1 day=3 note=?", "insert items new id=10 note=x")
	after("INSERT INTO m VALUES (5, 1)", "insert m new id=5 day=1 note=NULL")

	// A row that moves to a foreign partition is only deleted in the log.
	s.exec(`CREATE EXTENSION postgres_fdw; CREATE TABLE far (id int, day int, note text);
		CREATE TABLE f (id int, day int, note text) PARTITION BY LIST (day); CREATE TABLE f_1 PARTITION OF f FOR VALUES IN (1); ALTER TABLE f_1 ADD PRIMARY KEY (id);
		DO $$ BEGIN EXECUTE format('CREATE SERVER loopback FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host ''127.0.0.1'', port %L, dbname ''postgres'')', current_setting('port')); END $$;
		CREATE USER MAPPING FOR CURRENT_USER SERVER loopback OPTIONS (user 'postgres', password_required 'false');
		CREATE FOREIGN TABLE f_2 PARTITION OF f FOR VALUES IN (2) SERVER loopback OPTIONS (table_name 'far');
		INSERT INTO f VALUES (1, 1, 'a'), (2, 1, 'b')`)
	run.end(t)
	s.watches.Tables = append(s.watches.Tables, cdc.Table{Schema: "public", Name: "f"})
	run = s.run(run.sinkhole, Streaming)
	run.compared(t)
	after("UPDATE f SET day = 2, note = 'c' WHERE day = 1 AND id = 1", "delete f old id=1 day=? note=?", "update f old id=1 day=? note=?")
	after("DELETE FROM f WHERE id = 2", "delete f old id=2 day=? note=?", "update f old id=2 day=? note=?")
	after("UPDATE f SET note = 'd'; DELETE FROM f")

	// In blocks, the halves of some moves in different ones.
	var want []string
	mu.Lock()
	seen = nil
	mu.Unlock()
	s.exec("INSERT INTO m SELECT g, 1, repeat('x', 1000) FROM generate_series(1000, 1199) g")
	s.exec("UPDATE m SET day = 2 WHERE id >= 1000")
	run.caughtUp(s)
	for i := range 200 {
		want = append(want, fmt.Sprintf("update m old id=%d day=1 note=?", 1000+i))
	}
	mu.Lock()
	defer mu.Unlock()
	var updates []string
	for _, text := range seen {
		if len(text) > 6 && text[:6] == "update" {
			updates = append(updates, text[:len("update m old id=1000 day=1 note=?")])
		}
	}
	require.Equal(t, want, updates)
}

// idle takes changes and keeps nothing.
type idle struct{ Handler }

func (idle) Change(context.Context, *cdc.Txn, *cdc.Change) error { return nil }

// A row costs no memory unless it is handed over as a row of another table too.
func TestRowsAreHandedOverInPlace(t *testing.T) {
	s := session{handler: idle{}, nameOf: new(watching).nameOf, aliases: aliases{now: func() *kin { return nil }}, notNulls: notNulls{now: func() *map[uint32][]string { return nil }}}
	row := cdc.Tuple{{Kind: cdc.Text, Data: []byte("1")}}
	for _, partitioned := range []bool{false, true} {
		rel := &cdc.Relation{OID: 7, Schema: "public", Name: "t", Partitioned: partitioned, Columns: []cdc.Column{{Name: "id"}}}
		inserted := &cdc.Change{Op: cdc.Insert, Rel: rel, New: row}
		updated := &cdc.Change{Op: cdc.Update, Rel: rel, New: row}
		require.Zero(t, testing.AllocsPerRun(100, func() {
			for _, c := range []*cdc.Change{inserted, updated} {
				if err := s.change(t.Context(), c); err != nil {
					t.Error(err)
				}
			}
		}), "partitioned: %v", partitioned)
	}
}
