package postgres

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

const kinSchema = `
CREATE TABLE payment (id int PRIMARY KEY, note text);
CREATE TABLE payment_card (card text) INHERITS (payment);
CREATE TABLE payment_bank (bank text, PRIMARY KEY (id)) INHERITS (payment);
CREATE TABLE audited (at date);
CREATE TABLE payment_iban (PRIMARY KEY (id)) INHERITS (audited, payment_bank);
CREATE TABLE "Odd ""child""" (PRIMARY KEY (id)) INHERITS (payment);
`

// Rows of tables that inherit from a watched one are handed over as its rows, and the application
// goes on writing to all of them.
func TestRowsOfChildren(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(kinSchema + "INSERT INTO payment_card VALUES (1, 'a'); INSERT INTO payment_bank VALUES (2, 'b')")
	payment, items := cdc.Table{Schema: "public", Name: "payment"}, cdc.Table{Schema: "public", Name: "items"}
	s.watches = Watch{Tables: []cdc.Table{items, payment}}
	var mu sync.Mutex
	var seen []string
	run := s.run(&sinkhole{hold: func(c *cdc.Change) {
		mu.Lock()
		defer mu.Unlock()
		row := c.New
		if row == nil {
			row = c.Old
		}
		text := c.Op.String() + " " + c.Rel.Name
		if i := c.Rel.Index("id"); row != nil {
			text += " " + string(row[i].Data)
		}
		seen = append(seen, text)
	}}, Streaming)
	published := func() (out []string) {
		rows, err := s.conn.Query(t.Context(), "SELECT tablename::text FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1", s.cfg.Publication)
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var name string
			require.NoError(t, rows.Scan(&name))
			out = append(out, name)
		}
		return out
	}
	require.Equal(t, []string{`Odd "child"`, "items", "payment", "payment_bank", "payment_iban"}, published())
	after := func(sql string, want ...string) {
		t.Helper()
		mu.Lock()
		seen = nil
		mu.Unlock()
		s.exec(sql)
		run.caughtUp(s)
		mu.Lock()
		defer mu.Unlock()
		slices.Sort(seen)
		slices.Sort(want)
		require.Equal(t, want, seen, sql)
	}
	after("UPDATE payment SET note = 'c'", "update payment_bank 2", "update payment 2")
	after("INSERT INTO payment_iban (id) VALUES (3)", "insert payment_iban 3", "insert payment_bank 3", "insert payment 3", "insert audited 3")
	after(`INSERT INTO "Odd ""child""" (id) VALUES (4)`, `insert Odd "child" 4`, "insert payment 4")
	after("DELETE FROM payment WHERE id = 3", "delete payment_iban 3", "delete payment_bank 3", "delete payment 3", "delete audited 3")
	after("TRUNCATE payment_bank", "truncate payment_bank", "truncate payment_iban", "truncate payment", "truncate payment", "truncate payment_bank", "truncate audited")
	after("TRUNCATE ONLY payment", "truncate payment")

	// A child without an identity is a problem of the rules of its parent.
	problem := func() *Problem {
		all, _ := run.Problems()
		if i := slices.IndexFunc(all, func(p Problem) bool { return strings.Contains(p.Text, "payment_card") }); i >= 0 {
			return &all[i]
		}
		return nil
	}
	eventually(t, hang, func() bool { return problem() != nil }, "the child is a problem")
	require.Contains(t, problem().Text, "ALTER TABLE payment_card ADD PRIMARY KEY")
	require.Contains(t, problem().Tables, payment)

	gaps := func() (n int) {
		run.mu.Lock()
		defer run.mu.Unlock()
		for _, g := range run.gaps {
			if slices.Contains(g.Tables, payment) {
				n++
			}
		}
		return n
	}
	// gap waits for what is derived from the parent to be purged because of a statement.
	gap := func(sql string) {
		t.Helper()
		before := gaps()
		s.exec(sql)
		eventually(t, hang, func() bool { return gaps() > before }, sql)
	}
	gap("ALTER TABLE payment_card ADD PRIMARY KEY (id)")
	eventually(t, hang, func() bool { return problem() == nil }, "the problem is over")
	require.Contains(t, published(), "payment_card")
	after("UPDATE payment SET note = 'd'", "update payment_card 1", "update payment 1", `update Odd "child" 4`, "update payment 4")
	gap("CREATE TABLE payment_new (PRIMARY KEY (id)) INHERITS (payment); INSERT INTO payment_new VALUES (5, 'e')")
	eventually(t, hang, func() bool { return slices.Contains(published(), "payment_new") }, "a new child is published")
	after("UPDATE payment SET note = 'f' WHERE id = 5", "update payment_new 5", "update payment 5")
	gap("ALTER TABLE payment_new NO INHERIT payment")
	gap("ALTER TABLE payment_new INHERIT payment")
	after("DELETE FROM payment WHERE id = 5", "delete payment_new 5", "delete payment 5")
	gap("DROP TABLE payment_card")
}

// What setup runs publishes parents and children each for itself, and takes them out so.
func TestSetupOfChildren(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.exec(kinSchema)
	tables := func(names ...string) (out []cdc.Table) {
		for _, name := range names {
			out = append(out, cdc.Table{Schema: "public", Name: name})
		}
		return out
	}
	steps, left, err := s.cfg.Setup(t.Context(), s.conn, Watch{Tables: tables("payment", "items")})
	require.NoError(t, err)
	require.Len(t, left, 1)
	require.ErrorContains(t, left[0], "rows of payment_card have no replica identity")
	sql := JoinSteps(steps)
	require.Contains(t, sql, `ONLY "public"."payment", "public"."items"`)
	require.Contains(t, sql, `ONLY "public"."payment_bank"`)
	require.NotContains(t, sql, "payment_card")
	require.NoError(t, s.cfg.Apply(t.Context(), s.conn, steps))
	s.exec("UPDATE payment SET note = 'a'; DELETE FROM payment")

	// A live row of a child is explained as one of the parent, as the log carries it.
	s.exec("INSERT INTO payment_bank VALUES (7, 'x', 'y')")
	c, err := s.cfg.ReadChange(t.Context(), s.conn, tables("payment")[0], "id = 7", cdc.Delete)
	require.NoError(t, err)
	require.Equal(t, "public.payment id=7 note=? bank=?", c.Rel.String()+" "+short(c.Rel, c.Old))
	_, err = s.cfg.ReadChange(t.Context(), s.conn, tables("payment")[0], "id = 8", cdc.Delete)
	require.ErrorContains(t, err, "no row of public.payment meets the condition")

	steps, _, err = s.cfg.Setup(t.Context(), s.conn, Watch{Tables: tables("payment", "items")})
	require.NoError(t, err)
	require.Empty(t, steps)
	steps, _, err = s.cfg.Setup(t.Context(), s.conn, Watch{Tables: tables("items")})
	require.NoError(t, err)
	require.NoError(t, s.cfg.Apply(t.Context(), s.conn, steps))
	var n int
	require.NoError(t, s.conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_publication_rel").Scan(&n))
	require.Equal(t, 1, n)

	if s.major() >= columnListsSince {
		s.cfg.ColumnLists = true
		reads := func(t cdc.Table, _ []string) []string {
			if t.Name == "payment" {
				return []string{"note"}
			}
			return nil
		}
		steps, _, err = s.cfg.Setup(t.Context(), s.conn, Watch{Tables: tables("payment"), Reads: reads})
		require.NoError(t, err)
		require.Contains(t, JoinSteps(steps), `ONLY "public"."payment_bank" ("id", "note")`)
		require.NoError(t, s.cfg.Apply(t.Context(), s.conn, steps))
		s.exec("UPDATE payment SET note = 'a'; DELETE FROM payment")
	}
}
