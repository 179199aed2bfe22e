package integration

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

var update = flag.Bool("update", false, "write the files that hold wanted output")

// golden compares with a file.
func golden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		require.NoError(t, os.WriteFile(name, []byte(got), 0o644))
	}
	want, err := os.ReadFile(name)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// The draft of a schema with everything that makes one hard is taken by the
// daemon as it is: check finds nothing, setup works, the application goes on,
// and what it changes is purged.
func TestDraftOfRules(t *testing.T) {
	t.Parallel()
	sql, err := os.ReadFile("testdata/rental.sql")
	require.NoError(t, err)
	r := newRig(t, rigOptions{schema: string(sql)})
	r.config(freeAddr(t))
	out := r.path("rules/draft.yaml")
	args := []string{"rules", "init", "--db", r.pg.URL("app"), "--schema", "public,Büro", "--kinds", "keys,tags"}
	o := call(t, nil, append(args, "--out", out)...)
	require.Zero(t, o.code, o.stderr)
	require.Equal(t, "wrote "+out+": 19 rules; left out: 13 tables, see the end of the file\n", o.stdout)
	golden(t, "testdata/rental_rules.yaml", r.read("rules/draft.yaml"))
	o = call(t, nil, args...)
	require.Equal(t, r.read("rules/draft.yaml"), o.stdout, "the same schema, the same draft")
	o = call(t, nil, append(args, "--out", out)...)
	require.Equal(t, outcome{2, "", "walpurge: " + out + " exists; remove it, or choose another --out\n", o.took}, o)

	require.NoError(t, os.Remove(r.path("rules/catalog.yaml")))
	require.NoError(t, os.Remove(out))
	o = call(t, nil, "rules", "init", "-c", r.path("walpurge.yaml"), "--schema", "public,Büro", "--out", out)
	require.Equal(t, outcome{0, "wrote " + out + ": 19 rules; left out: 13 tables, see the end of the file\n", "", o.took}, o)
	golden(t, "testdata/rental_rules.yaml", r.read("rules/draft.yaml"))
	o = r.call("check")
	require.Zero(t, o.code, o.stderr)
	lines := strings.Split(strings.TrimSuffix(o.stdout, "\n"), "\n")
	require.Equal(t, "fine: pipeline app, 2 sinks", lines[len(lines)-1])
	for _, line := range lines[:len(lines)-1] {
		require.Regexp(t, "^note: .* may be longer than edge takes", line)
	}

	o = call(t, nil, "rules", "test", "testdata/rental_rules_test.yaml")
	require.Equal(t, outcome{0, "20 passed, 0 failed\n", "", o.took}, o)
	set, err := rules.Load([]string{out}, rules.Options{Sinks: []rules.SinkSpec{{Name: "all", Takes: invalidation.Kinds(invalidation.Key, invalidation.Tag)}}})
	require.NoError(t, err)
	tests, err := os.ReadFile("testdata/rental_rules_test.yaml")
	require.NoError(t, err)
	for _, table := range set.Tables() {
		require.Contains(t, string(tests), "table: "+table.String()+"\n", "every table has a test")
	}

	require.Zero(t, r.call("setup").code)
	d := r.start()
	r.exec(`INSERT INTO countries VALUES (1, 'de', 'a'); INSERT INTO cities VALUES (1, 'a', 1); INSERT INTO addresses VALUES (1, 'a', 1, 'de');
		INSERT INTO stores VALUES (1, 1); INSERT INTO customers VALUES (7, 'a', 1, 1); INSERT INTO "Büro"."Kundenaufträge" VALUES ('x y', 7)`)
	d.wait(r.lsn(), 30*time.Second)
	r.fill([]string{"customer:7", "kundenauftrage:x y", "customer:7:kundenauftrage", "customer:8"}, "/customers", "/kundenauftrage-x%20y")
	r.exec(`UPDATE customers SET name = 'b'; DELETE FROM "Büro"."Kundenaufträge"`)
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"customer:8"}, r.held("customer:7", "kundenauftrage:x y", "customer:7:kundenauftrage", "customer:8"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/customers"))
}

// What init leaves out or gets asked for by flags.
func TestDraftFlags(t *testing.T) {
	t.Parallel()
	sql, err := os.ReadFile("testdata/rental.sql")
	require.NoError(t, err)
	r := newRig(t, rigOptions{schema: string(sql)})
	url := r.pg.URL("app")
	one := func(args ...string) outcome {
		return call(t, nil, append([]string{"rules", "init", "--db"}, args...)...)
	}
	// Old rows of rentals name none of their parents, and no key can stand in for
	// the lists of all of them.
	o := one(url, "--tables", "rental*,public.film_actor", "--kinds", "keys")
	require.Zero(t, o.code, o.stderr)
	golden(t, "testdata/rental_keys.yaml", o.stdout)
	o = one(url, "--tables", "rental*,public.film_actor")
	require.Zero(t, o.code, o.stderr)
	golden(t, "testdata/rental_keys.yaml", o.stdout)
	require.Equal(t, "The draft has keys only, which Valkey and Redis take. For tags, which CDNs take, name your sinks with -c walpurge.yaml, or write --kinds keys,tags\n", o.stderr)
	o = one(url, "--tables", "visits", "--kinds", "tags")
	require.Zero(t, o.code, o.stderr)
	require.Contains(t, o.stdout, "\nrules: []\n")

	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{url, "--tables", "film,*stores"}, 2, `no table is called "film" in schema public; did you mean "films"?; fix: correct --tables, or name its schema by --schema`},
		{[]string{url, "--schema", "sales"}, 2, `schema "sales" does not exist in database "app"; fix: name one of Büro, public`},
		{[]string{r.pg.URL("none")}, 2, `database "none" does not exist`},
		{[]string{"postgres://127.0.0.1:1/x"}, 1, "cannot connect to PostgreSQL at 127.0.0.1:1: connection refused"},
		{[]string{url, "--out", r.path("no/such/dir.yaml")}, 2, "there is no directory "},
	} {
		o := one(c.args...)
		require.Equal(t, c.code, o.code, o.stderr)
		require.Contains(t, o.stderr, c.want)
		require.Empty(t, o.stdout)
		require.Len(t, lines(o.stderr), 1)
	}
}

// A live row is explained as the log would carry it under the table's identity.
func TestExplainALiveRow(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	r.exec(`INSERT INTO products (id, slug, name) VALUES (7, 'a', 'Besen  '), (8, 'b', ''); INSERT INTO categories VALUES (1, 'x')`)
	run := func(args ...string) outcome {
		return call(t, nil, append([]string{"rules", "explain", "-c", r.path("walpurge.yaml"), "--db"}, args...)...)
	}
	place := r.path("rules/catalog.yaml")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"update, full", []string{"--table", "public.products", "--where", "slug = 'a'"}, `update of a row of public.products, replica identity FULL: the whole old row is sent
  id = 7
  slug = a
  name = "Besen  "
  ver = 0

rule product (PLACE:2) matches: it has no condition
  key product:{id} from the new row: product:7
  key product:{id} from the old row: product:7
  key product:slug:{slug} from the new row: product:slug:a
  key product:slug:{slug} from the old row: product:slug:a
  tag product-{id} from the new row: product-7
  tag product-{id} from the old row: product-7
  -> cache: key product:7
  -> cache: key product:slug:a
  -> edge: tag product-7
`},
		{"delete, default", []string{"--table", "public.categories", "--where", "id = 1", "--op", "delete"}, `delete of a row of public.categories, replica identity DEFAULT: of the old row the identity is sent
  id = 1

rule category (PLACE:7) matches: it has no condition
  key category:{id} from the old row: category:1
  tag category-{id} from the old row: category-1
  -> cache: key category:1
  -> edge: tag category-1
`},
		{"insert", []string{"--table", "public.categories", "--where", "id = 1", "--op", "insert"}, `insert of a row of public.categories, replica identity DEFAULT: the new row is sent
  id = 1
  name = x

rule category (PLACE:7) matches: it has no condition
  key category:{id} from the new row: category:1
  tag category-{id} from the new row: category-1
  -> cache: key category:1
  -> edge: tag category-1
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := run(c.args...)
			require.Empty(t, o.stderr)
			require.Equal(t, strings.ReplaceAll(c.want, "PLACE", place), o.stdout)
			require.Zero(t, o.code)
		})
	}
	o := run("--table", "public.products", "--where", "id = 7", "--json")
	require.Zero(t, o.code, o.stderr)
	var explained []struct {
		Rule   string
		Purges []struct{ Sink, Kind, Value string }
	}
	require.NoError(t, json.Unmarshal([]byte(o.stdout), &explained))
	require.Len(t, explained, 1)
	require.Len(t, explained[0].Purges, 3)

	for where, want := range map[string]string{
		"id = 9":  "no row of public.products meets the condition; fix: ",
		"id > 0":  "several rows of public.products meet the condition; fix: ",
		"ids = 7": `column "ids" does not exist (SQLSTATE 42703); fix: correct --where`,
	} {
		o := run("--table", "public.products", "--where", where)
		require.Equal(t, 2, o.code)
		require.Contains(t, o.stderr, want)
		require.Empty(t, o.stdout)
	}
	o = run("--table", "public.product", "--where", "id = 7")
	require.Equal(t, 2, o.code)
	require.Equal(t, "walpurge: no rule watches the table \"public.product\"; did you mean \"public.products\"?\n", o.stderr)
	r.untouched()
	require.NoError(t, r.pg.Close())
	o = run("--table", "public.products", "--where", "id = 7")
	require.Equal(t, 1, o.code)
	require.Len(t, lines(o.stderr), 1)
}
