package integration

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/status"
)

// TestTreesOfTables purges by rows of children and partitions, as rules of the table that
// applications query say, and leaves the application alone.
func TestTreesOfTables(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + `
		CREATE TABLE payment (id int PRIMARY KEY, note text);
		CREATE TABLE payment_card (card text) INHERITS (payment);
		CREATE TABLE payment_bank (PRIMARY KEY (id)) INHERITS (payment);
		CREATE TABLE moves (id int, day int, note text, PRIMARY KEY (id, day)) PARTITION BY LIST (day);
		CREATE TABLE moves_1 PARTITION OF moves FOR VALUES IN (1);
		CREATE TABLE moves_2 PARTITION OF moves FOR VALUES IN (2);
		CREATE TABLE notes (id int, note text) PARTITION BY LIST (id);
		CREATE TABLE notes_1 PARTITION OF notes FOR VALUES IN (1);
		ALTER TABLE notes REPLICA IDENTITY FULL; ALTER TABLE notes_1 REPLICA IDENTITY FULL`,
		catalog: `rules:
  - {name: payment, table: public.payment, keys: ["payment:{id}"], sinks: [cache]}
  - {name: moved, table: public.moves, ops: [update], keys: ["moved:{id}"], sinks: [cache]}
  - {name: pair, table: public.moves, when: 'op == "update"', keys: ["pair:{old.day}-{new.day}"], sinks: [cache]}
  - {name: note, table: public.notes, keys: ["note:{note}"], unknown: {keys: ["note:all"]}, sinks: [cache]}
`})
	r.config(freeAddr(t))
	found := r.call("check")
	require.Equal(t, 1, found.code, found.stdout)
	require.Contains(t, found.stdout, "rows of payment_card have no replica identity")
	d := r.start()
	purges := func(sql string, keys ...string) {
		t.Helper()
		r.fill(keys)
		r.exec(sql)
		r.gone(sql, keys...)
	}
	purges("INSERT INTO payment_bank VALUES (7, 'a')", "payment:7")
	purges("INSERT INTO payment_card VALUES (8, 'a'); UPDATE payment SET note = 'b'", "payment:7")
	stale := func(text string) {
		t.Helper()
		eventually(t, 30*time.Second, func() bool {
			return slices.ContainsFunc(d.status().Problems, func(p status.Problem) bool { return strings.Contains(p.Text, text) && len(p.Rules) > 0 })
		}, text)
	}
	stale("ALTER TABLE payment_card ADD PRIMARY KEY")
	purges("ALTER TABLE payment_card ADD PRIMARY KEY (id)", "payment:8") // a gap of the parent's rules
	purges("DELETE FROM payment WHERE id = 8", "payment:8")

	r.exec("INSERT INTO moves VALUES (1, 1, 'a')")
	purges("UPDATE moves SET day = 2 WHERE id = 1", "moved:1", "pair:1-2")

	purges("INSERT INTO notes VALUES (1, 'a')", "note:a")
	r.exec("CREATE TABLE notes_2 PARTITION OF notes FOR VALUES IN (2); ALTER TABLE notes_2 ADD PRIMARY KEY (id)")
	r.exec("INSERT INTO notes VALUES (2, 'b')")
	purges("DELETE FROM notes WHERE id = 2", "note:all")
	stale("ALTER TABLE notes_2 REPLICA IDENTITY FULL")
	r.exec("ALTER TABLE notes_2 REPLICA IDENTITY FULL")
	d.fresh()
	r.exec("INSERT INTO notes VALUES (2, NULL)")
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"note:all"})
	purges("DELETE FROM notes; INSERT INTO payment VALUES (9, 'x')", "note:a", "payment:9")
	require.NotEmpty(t, r.held("note:all"), "every partition carries the column again")
	d.term()
}
