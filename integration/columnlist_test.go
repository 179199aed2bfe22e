package integration

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

const wideSchema = `
CREATE TABLE wide (id bigint PRIMARY KEY, slug text, body text, price int, note text, "Odd ""one""" text);
CREATE TABLE whole (id bigint PRIMARY KEY, a text, b text);
CREATE TABLE parts (id bigint, day date, body text, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
`

const wideCatalog = `  - name: wide
    table: public.wide
    when: op == 'delete' || new.price > 5
    keys: ["wide:{id}"]
  - {name: whole, table: public.whole, when: "new.exists(c, new[c] == 'purge')", keys: ["whole:{id}"]}
  - {name: part, table: public.parts, keys: ["part:{id}"]}
`

const slugRule = `  - {name: slug, table: public.wide, keys: ["slug:{new.slug}", 'odd:{new["Odd \"one\""]}'], unknown: {keys: [odd]}, sinks: [cache]}
`

// lists are the columns that the pipeline's publication sends, of tables that it sends in part.
func (r *rig) lists() map[string]string {
	r.t.Helper()
	rows, err := r.db.Query(r.t.Context(), `SELECT c.relname::text, (SELECT string_agg(a.attname, ',' ORDER BY a.attnum) FROM pg_attribute a
		WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::int2[])) FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid WHERE r.prattrs IS NOT NULL`)
	require.NoError(r.t, err)
	out := make(map[string]string)
	var table, columns string
	_, err = pgx.ForEachRow(rows, []any{&table, &columns}, func() error { out[table] = columns; return nil })
	require.NoError(r.t, err)
	return out
}

// beats waits for so many heartbeats, at which the daemon looks at the publication: the
// age of the newest falls.
func (d *daemon) beats(n int) {
	d.t.Helper()
	age := func() float64 {
		v, err := strconv.ParseFloat(d.metric("walpurge_heartbeat_age_seconds"), 64)
		require.NoError(d.t, err)
		return v
	}
	for range n {
		before := age()
		eventually(d.t, 20*time.Second, func() bool { now := age(); fell := now < before; before = now; return fell }, "a heartbeat comes back")
	}
}

// TestColumnLists: only what rules read is published; more when they read more, with what
// is in doubt purged; and the application's own statements are put right soon.
func TestColumnLists(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + wideSchema, catalog: catalog + wideCatalog})
	r.pgExtra = "\n  column_lists: true\n  heartbeat: 500ms"
	d := r.start()
	require.Equal(t, map[string]string{"categories": "id", "wide": "id,price", "parts": "id,day"}, r.lists(),
		"identity FULL is sent whole, and so is what an expression looks through")
	purges := func(sql string, keys ...string) {
		t.Helper()
		r.fill(keys)
		r.exec(sql)
		d.wait(r.lsn(), 20*time.Second)
		require.Empty(t, r.held(keys...), sql)
	}
	purges(`INSERT INTO wide VALUES (1, 'a', 'body', 6, 'note', 'x'), (3, 'c', 'body', 5, 'note', 'y'); INSERT INTO whole VALUES (1, 'b', 'purge'); INSERT INTO parts VALUES (1, '2026-05-05')`, "wide:1", "whole:1", "part:1")
	r.fill([]string{"wide:3"})
	r.exec("UPDATE wide SET body = 'other' WHERE id = 3")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"wide:3"}, r.held("wide:3"), "the condition sees what it reads")
	purges("UPDATE wide SET price = 7 WHERE id = 3", "wide:3")
	purges("DELETE FROM parts", "part:1")

	// Rules that read more.
	r.fill([]string{"wide:2", "category:1"})
	r.write("rules/catalog.yaml", catalog+wideCatalog+slugRule)
	d.hangup("msg=reloaded")
	require.Equal(t, `id,slug,price,Odd "one"`, r.lists()["wide"])
	eventually(t, 20*time.Second, func() bool { return len(r.held("wide:2")) == 0 }, "what was written before came without the column: all of the table's is purged")
	require.Equal(t, []string{"category:1"}, r.held("category:1"), "another table's is not")
	purges("UPDATE wide SET slug = 'b' WHERE id = 1", "slug:b", "odd:x")
	require.NotEqual(t, "0", d.metric(`walpurge_gaps_total{reason="table"}`))

	// Rules that read less: nothing is taken away but by setup.
	r.write("rules/catalog.yaml", catalog+wideCatalog)
	d.hangup("msg=reloaded")
	d.beats(2)
	require.Equal(t, `id,slug,price,Odd "one"`, r.lists()["wide"])
	plan := r.call("setup", "--print")
	require.Contains(t, plan.stdout, `ALTER PUBLICATION "walpurge_app" DROP TABLE "public"."wide"; ALTER PUBLICATION "walpurge_app" ADD TABLE "public"."wide" ("id", "price")`)
	require.Zero(t, r.call("setup").code)
	require.Equal(t, "id,price", r.lists()["wide"])
	require.Empty(t, r.call("setup", "--print").stdout)
	purges("UPDATE wide SET price = 7 WHERE id = 1", "wide:1")

	// A list that does not cover the identity makes updates fail, until it is taken off.
	r.exec("ALTER TABLE wide REPLICA IDENTITY FULL")
	eventually(t, 20*time.Second, func() bool { return r.lists()["wide"] == "" }, "the list is taken off")
	purges("UPDATE wide SET price = 8 WHERE id = 1", "wide:1")
	r.exec("ALTER TABLE parts_1 REPLICA IDENTITY FULL")
	eventually(t, 20*time.Second, func() bool { return r.lists()["parts"] == "" }, "a partition counts, too")

	// A column that rules read is kept by its list; others go as ever.
	r.exec("ALTER TABLE wide REPLICA IDENTITY DEFAULT")
	require.Zero(t, r.call("setup").code)
	require.Equal(t, "id,price", r.lists()["wide"])
	r.exec("ALTER TABLE wide DROP COLUMN note")
	_, err := r.db.Exec(t.Context(), "ALTER TABLE wide DROP COLUMN price")
	var pgErr *pgconn.PgError
	require.ErrorAs(t, err, &pgErr)
	require.Equal(t, "2BP01", pgErr.Code, "dependent_objects_still_exist")
	purges("UPDATE wide SET price = 9 WHERE id = 1", "wide:1")
	d.fresh()
}

// TestColumnListsOfOthers: where the daemon may not alter the publication, it says what is
// left out, and how to mend it.
func TestColumnListsOfOthers(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + wideSchema, catalog: catalog + `  - {name: note, table: public.wide, keys: ["slug:{new.slug}", "note:{new.note}"], sinks: [cache]}
`})
	r.pgExtra = "\n  column_lists: true\n  manage: false"
	r.config(freeAddr(t))
	require.Zero(t, r.call("setup").code)
	require.Equal(t, "id,slug,note", r.lists()["wide"])
	require.Empty(t, r.findings("wide"))
	r.exec(`ALTER PUBLICATION walpurge_app SET TABLE products, categories (id), wide (id, slug, "Odd ""one""")`)
	found := r.call("check").stdout
	require.Contains(t, found, `rule "note" purges by note of public.wide, which the column list of publication walpurge_app leaves out`)
	require.Contains(t, found, `ADD TABLE "public"."wide" ("id", "slug", "Odd ""one""", "note")`)
	refused := r.call("run")
	require.Equal(t, 1, refused.code)
	require.Contains(t, refused.stderr, `ADD TABLE "public"."wide" ("id", "slug", "Odd ""one""", "note")`)
}

// TestColumnListsOfAnotherOwner: the list of a table that is not ours stops nobody.
func TestColumnListsOfAnotherOwner(t *testing.T) {
	t.Parallel()
	const narrow = `  - {name: note, table: public.wide, keys: ["slug:{new.slug}"], sinks: [cache]}
`
	r := newRig(t, rigOptions{schema: schema + wideSchema + "CREATE ROLE helper LOGIN REPLICATION", catalog: catalog + narrow})
	r.pgExtra = "\n  column_lists: true\n  heartbeat: 500ms"
	r.config(freeAddr(t))
	require.Zero(t, r.call("setup").code)
	require.Equal(t, "id,slug", r.lists()["wide"])
	r.edit("rules/catalog.yaml", `"slug:{new.slug}"`, `"slug:{new.slug}", "note:{new.note}"`)
	r.pgURL = strings.Replace(r.pgURL, "postgres@", "helper@", 1)
	d := r.start()
	require.Contains(t, r.call("check").stdout, `rule "note" purges by note of public.wide, which the column list of publication walpurge_app leaves out`)
	d.logged("let their owner or a DBA run")
	r.fill([]string{"slug:a"})
	r.exec("INSERT INTO wide (id, slug) VALUES (1, 'a')")
	end := r.lsn()
	o := d.run("wait", end, "--sink", "edge", "--timeout", "20s")
	require.Equal(t, 0, o.code, o.stderr)
	o = d.run("wait", end, "--sink", "cache", "--timeout", "20s")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, "changes may not be purged at cache: ")
	r.gone("what the list has is purged", "slug:a")
	require.Equal(t, "id,slug", r.lists()["wide"])
}
