package integration

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// findings are the lines of check about one table.
func (r *rig) findings(table string, args ...string) []string {
	r.t.Helper()
	o := r.call("check", args...)
	var out []string
	for _, line := range lines(o.stdout) {
		if strings.Contains(line, "public."+table) && !strings.HasPrefix(line, "note: ") {
			out = append(out, strings.TrimPrefix(line, r.path("rules/catalog.yaml")))
			require.Equal(r.t, 1, o.code, o.stdout)
		}
	}
	return out
}

var statement = regexp.MustCompile(`(?:ALTER TABLE|CREATE UNIQUE INDEX)[^;]*;`)

// What check offers for an identity that is too small is SQL that can be run, and
// that it is content with afterwards.
func TestCheckOffersIdentities(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + `
		CREATE TABLE ready (id int PRIMARY KEY, slug varchar(80) NOT NULL, lang text NOT NULL, note text, UNIQUE (id, slug), UNIQUE (slug, lang));
		CREATE UNIQUE INDEX ready_a_part ON ready (id, slug) WHERE note IS NULL; CREATE UNIQUE INDEX ready_b_expression ON ready (id, slug, lower(lang));
		ALTER TABLE ready ADD CONSTRAINT ready_c_deferred UNIQUE (id, slug) DEFERRABLE;
		CREATE TABLE bare (id int PRIMARY KEY, "Order" varchar(20) NOT NULL, bare_identity int); CREATE INDEX bare_identity ON bare (bare_identity);
		CREATE TABLE holes (id int PRIMARY KEY, slug varchar(20), UNIQUE (id, slug));
		CREATE TABLE kept (id int PRIMARY KEY, slug varchar(20) NOT NULL, lang varchar(5) NOT NULL); CREATE UNIQUE INDEX kept_slug ON kept (id, slug); ALTER TABLE kept REPLICA IDENTITY USING INDEX kept_slug;
		CREATE TABLE documents (id int PRIMARY KEY, data jsonb NOT NULL);
		INSERT INTO documents SELECT n, '{"a": 1}' FROM generate_series(1, 500) n; ANALYZE documents;
		CREATE TABLE parts (id int, day date, slug varchar(20) NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');`,
		catalog: catalog + `  - {name: ready, table: public.ready, keys: ["r:{slug}", "r:{id}"], sinks: [cache]}
  - {name: other, table: public.ready, when: changed(note), keys: ["r:all"], sinks: [cache]}
  - {name: bare, table: public.bare, keys: ['b:{row["Order"]}'], sinks: [cache]}
  - {name: holes, table: public.holes, keys: ["h:{slug}"], sinks: [cache]}
  - {name: kept, table: public.kept, when: row.slug != "x", keys: ["k:{lang}"], sinks: [cache]}
  - {name: documents, table: public.documents, keys: ["d:{data.a}"], sinks: [cache]}
  - {name: parts, table: public.parts, keys: ["p:{slug}"], sinks: [cache]}
`})
	r.config(freeAddr(t))
	const loses = " does not carry, so a change of it leaves the old entry in the cache; one of, cheapest first: (a) "
	for table, want := range map[string]string{
		"ready": "ALTER TABLE public.ready REPLICA IDENTITY USING INDEX ready_id_slug_key; (b) ALTER TABLE public.ready REPLICA IDENTITY FULL; ",
		"bare": `CREATE UNIQUE INDEX CONCURRENTLY bare_identity_2 ON public.bare (id, "Order"); ` +
			`ALTER TABLE public.bare REPLICA IDENTITY USING INDEX bare_identity_2; (b) ALTER TABLE public.bare REPLICA IDENTITY FULL; `,
		"holes": "ALTER TABLE public.holes ALTER COLUMN slug SET NOT NULL; CREATE UNIQUE INDEX CONCURRENTLY holes_identity ON public.holes (id, slug); " +
			"ALTER TABLE public.holes REPLICA IDENTITY USING INDEX holes_identity; (an identity's columns are NOT NULL: no row may have a NULL in slug, now or later) (b) ",
		"kept":      "CREATE UNIQUE INDEX CONCURRENTLY kept_identity ON public.kept (id, slug, lang); ALTER TABLE public.kept REPLICA IDENTITY USING INDEX kept_identity; (b) ",
		"documents": "ALTER TABLE public.documents REPLICA IDENTITY FULL; which adds about 2",
		"parts":     "ALTER TABLE public.parts REPLICA IDENTITY FULL; and the same for each of its partitions (b) an unknown: ",
	} {
		found := r.findings(table)
		require.Len(t, found, 1, table)
		require.Contains(t, found[0], loses+want)
		require.NotContains(t, found[0], "or partial")
		first, _, _ := strings.Cut(found[0], " (b) ")
		for _, sql := range statement.FindAllString(first, -1) {
			r.exec(sql)
			if table == "parts" {
				r.exec(strings.Replace(sql, "public.parts", "public.parts_1", 1))
			}
		}
		require.Empty(t, r.findings(table), table)
	}
	require.Zero(t, r.call("check").code)
	// What was advised is not in the application's way.
	require.Zero(t, r.call("setup").code)
	r.exec(`INSERT INTO ready VALUES (1, 'a', 'en'); UPDATE ready SET slug = 'b'; DELETE FROM ready; INSERT INTO bare VALUES (1, 'x'); UPDATE bare SET "Order" = 'y'; DELETE FROM bare;
		UPDATE documents SET data = '{"a": 2}' WHERE id < 5; INSERT INTO parts VALUES (1, '2026-05-05', 'x'); UPDATE parts SET slug = 'y'; TRUNCATE holes`)
}

// Values that the stream never has, or not always, are found where a rule purges by
// them and has nothing to fall back on.
func TestCheckFindsWhatIsNotCarried(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + `
		CREATE TABLE pages (id int PRIMARY KEY, body text, short varchar(100), digits numeric, span int4range, data jsonb, twice int GENERATED ALWAYS AS (id * 2) STORED)`,
		catalog: catalog + `  - {name: body, table: public.pages, keys: ["p:{md5(new.body)}"], sinks: [cache]}
  - {name: data, table: public.pages, keys: ["p:{new.data.id}"], unknown: {keys: [pages]}, sinks: [cache]}
  - {name: short, table: public.pages, keys: ["p:{md5(new.short)}:{md5(new.digits)}:{md5(new.span)}:{new.body}"], sinks: [cache]}
  - {name: once, table: public.pages, ops: [insert], keys: ["p:{md5(body)}"], sinks: [cache]}
  - {name: generated, table: public.pages, keys: ["p:{new.twice}"], sinks: [cache]}
`})
	r.config(freeAddr(t))
	const large = `: rule "body" computes with the new body of public.pages (text), of which PostgreSQL sends no value over about 2 kB with an UPDATE that leaves it as it was, ` +
		"unless the replica identity carries it, and DEFAULT does not; one of, cheapest first: (a) "
	const generated = `: rule "generated" purges by twice of public.pages, a generated column, which PostgreSQL does not send; compute it in the rule from the columns that it is made of, or give the rule an `
	found := r.findings("pages")
	require.Len(t, found, 2, found)
	require.Contains(t, found[0]+found[1], large)
	require.Contains(t, found[0]+found[1], generated)

	r.exec("ALTER TABLE pages REPLICA IDENTITY FULL")
	require.Zero(t, r.call("setup").code)
	require.Len(t, r.findings("pages"), 1)
	r.exec("ALTER TABLE pages REPLICA IDENTITY DEFAULT; ALTER PUBLICATION walpurge_app SET TABLE products, categories, pages (id, body, digits, span, data)")
	require.Contains(t, strings.Join(r.findings("pages"), "\n"),
		`rule "short" purges by short of public.pages, which the column list of publication walpurge_app leaves out; fix: BEGIN; ALTER PUBLICATION "walpurge_app" DROP TABLE "public"."pages"; ALTER PUBLICATION "walpurge_app" ADD TABLE "public"."pages"; `+
			`SELECT pg_logical_emit_message(true, 'walpurge.tables', '{"publication":"walpurge_app"}'); COMMIT; or give the rule an `)
}

// The lock file stands in for the database, and check says when it no longer can.
func TestRulesLock(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + "CREATE UNIQUE INDEX category_identity ON categories (id, name); ALTER TABLE categories REPLICA IDENTITY USING INDEX category_identity"})
	yaml := r.config(freeAddr(t))
	lock := filepath.Join(filepath.Dir(yaml), "catalog.lock.yaml")
	const want = `# The tables that the rules name, as the database has them: columns, types, replica
# identities. Written by ` + "`walpurge rules lock`" + `; commit it, and do not edit it.
version: 1
tables:
  public.categories:
    identity: index
    index: category_identity
    key: [id, name]
    columns:
      id: {type: bigint, oid: 20, not_null: true}
      name: {type: text, oid: 25, not_null: true, toastable: true}
  public.products:
    identity: full
    columns:
      id: {type: bigint, oid: 20, not_null: true}
      slug: {type: text, oid: 25, not_null: true, toastable: true}
      name: {type: text, oid: 25, not_null: true, toastable: true}
      ver: {type: bigint, oid: 20, not_null: true}
`
	o := call(t, nil, "rules", "lock", "-c", yaml, "--print")
	require.Equal(t, outcome{0, want, "", o.took}, o)
	require.NoFileExists(t, lock)
	for range 2 {
		o = call(t, nil, "rules", "lock", "-c", yaml)
		require.Equal(t, outcome{0, "wrote " + lock + ": 2 tables\n", "", o.took}, o)
		require.Equal(t, want, r.read("catalog.lock.yaml"))
	}
	o = call(t, nil, "rules", "lock", "-c", yaml, "--out", r.path("other.yaml"))
	require.Zero(t, o.code, o.stderr)
	require.Equal(t, want, r.read("other.yaml"))
	require.Zero(t, r.call("check").code)
	require.Zero(t, r.call("check", "--offline").code)
	r.untouched()

	// Types and identities without a database.
	o = call(t, nil, "rules", "explain", "-c", yaml, "--change", `{"table": "public.categories", "update": {"old": {"id": 1, "name": "a"}, "new": {"id": 1, "name": "a"}}}`)
	require.Zero(t, o.code, o.stderr)
	require.Contains(t, o.stdout, "category:1")
	o = call(t, nil, "rules", "explain", "-c", yaml, "--change", `{"table": "public.categories", "delete": {"id": "one"}}`)
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stderr, `"one" cannot be a value of column id, which is bigint`)
	r.write("rules_test.yaml", "rules: [rules/*.yaml]\ncatalog: catalog.lock.yaml\ntests:\n  - {name: a, table: public.categories, delete: {id: 1}, expect: {keys: [\"category:1\"], tags: [category-1]}}\n")
	o = call(t, nil, "rules", "test", r.path("rules_test.yaml"))
	require.Equal(t, outcome{0, "1 passed, 0 failed\n", "", o.took}, o)
	r.edit("rules/catalog.yaml", `keys: ["category:{id}"]`, `keys: ["category:{id + name}"]`)
	for _, args := range [][]string{{"check", "-c", yaml, "--offline"}, {"rules", "test", r.path("rules_test.yaml")}, {"rules", "explain", "-c", yaml, "--change", "{}"}} {
		o = call(t, nil, args...)
		require.Equal(t, 2, o.code)
		require.Contains(t, o.stdout+o.stderr, r.path("rules/catalog.yaml")+`:9:`)
		require.Contains(t, o.stdout+o.stderr, "found no matching overload for '_+_' applied to '(int, string)'; id is bigint, here int; name is text, here string (by ")
	}
	r.edit("rules/catalog.yaml", `{id + name}`, `{id}:{name}`)
	r.edit("catalog.lock.yaml", "key: [id, name]", "key: [id]")
	o = r.call("check", "--offline")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stdout, "ALTER TABLE public.categories REPLICA IDENTITY USING INDEX (a unique index over NOT NULL columns with id, name and the primary key), or REPLICA IDENTITY FULL, or give the rule an unknown:")

	r.edit("catalog.lock.yaml", "key: [id]", "key: [id, name]")
	r.exec("ALTER TABLE products REPLICA IDENTITY DEFAULT; ALTER TABLE products ALTER COLUMN ver TYPE int; ALTER TABLE products DROP COLUMN name")
	r.edit("rules/catalog.yaml", `"product:slug:{slug}"`, `"product:{id}"`)
	o = r.call("check")
	require.Equal(t, 1, o.code)
	tail := "; rule tests are not about this database any more: walpurge rules lock -c " + yaml
	require.Equal(t, []string{
		lock + ": table public.products: the replica identity is DEFAULT (id) now, was FULL" + tail,
		lock + ": table public.products: column name is gone" + tail,
		lock + ": table public.products: column ver is integer NOT NULL now, was bigint NOT NULL" + tail,
	}, lines(o.stdout))
	require.Zero(t, call(t, nil, "rules", "lock", "-c", yaml).code)
	require.Zero(t, r.call("check").code)

	r.write("catalog.lock.yaml", "version: 3\n")
	o = r.call("check")
	require.Equal(t, 2, o.code)
	require.Equal(t, lock+":1:10: version: want 1; write the file again with `walpurge rules lock`\n", o.stdout)
	require.NoError(t, os.Remove(lock))
	r.edit("rules/catalog.yaml", "public.categories", "public.category")
	o = call(t, nil, "rules", "lock", "-c", yaml)
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stderr, "table public.category does not exist")
	require.NoFileExists(t, lock)
	o = call(t, nil, "rules", "lock", "-c", yaml, "--print", "--out", "x")
	require.Equal(t, outcome{2, "", "walpurge: --print and --out do not go together\n", o.took}, o)
}
