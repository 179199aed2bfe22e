package integration

import (
	"encoding/json"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/integration/harness"
)

func TestCheckFine(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	for range 2 {
		o := r.call("check")
		require.Equal(t, outcome{0, "fine: pipeline app, 2 sinks\n", "", o.took}, o)
		r.untouched()
	}
	o := r.call("check", "--json")
	require.Equal(t, outcome{0, "[]\n", "", o.took}, o)

	require.Zero(t, r.call("setup").code)
	d := r.start()
	o = r.call("check")
	require.Zero(t, o.code, "%s%s", o.stdout, o.stderr)
	require.Equal(t, "streaming", d.status().Reader.State, "check beside a daemon leaves it alone")
}

func TestCheckIdentityLosesPurges(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + `
		CREATE UNIQUE INDEX category_name ON categories (id) INCLUDE (name); ALTER TABLE categories REPLICA IDENTITY USING INDEX category_name`})
	r.config(freeAddr(t))
	r.edit("rules/catalog.yaml", `["category:{id}"]`, `["category:{id}", "category:{name}"]`)
	const advice = `rule "category" purges by the old name of public.categories, which replica identity USING INDEX does not carry, ` +
		"so a change of it leaves the old entry in the cache; one of, cheapest first: (a) CREATE UNIQUE INDEX CONCURRENTLY categories_identity ON public.categories (id, name); " +
		"ALTER TABLE public.categories REPLICA IDENTITY USING INDEX categories_identity; (an index holds no value over 2,700 bytes: no row may have one in name, now or later) " +
		"(b) ALTER TABLE public.categories REPLICA IDENTITY FULL; which adds the whole old row to the WAL of each UPDATE and DELETE (c) an unknown: in the rule, something coarser to purge instead"
	want := r.path("rules/catalog.yaml") + ":9: " + advice
	o := r.call("check")
	require.Equal(t, want+"\n", o.stdout)
	require.Equal(t, 1, o.code)
	o = r.call("check", "--json")
	require.Equal(t, 1, o.code)
	var findings []app.Finding
	require.NoError(t, json.Unmarshal([]byte(o.stdout), &findings))
	require.Equal(t, []app.Finding{{Text: want}}, findings)

	r.exec("ALTER TABLE categories REPLICA IDENTITY FULL")
	require.Zero(t, r.call("check").code)
}

func TestCheckSinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	for _, c := range []struct {
		name  string
		cause func()
		want  []string
	}{
		{"wrong token", func() { r.write("token", "wrong-"+secret) }, []string{"sink edge: ", "403", "api_token_file"}},
		{"unknown zone", func() { r.edit("walpurge.yaml", zoneID, "ffffffffffffffffffffffffffffffff") }, []string{"sink edge: ", "zone"}},
		{"edge fails", func() { r.edit("walpurge.yaml", r.edgeURL, "http://127.0.0.1:1") }, []string{"sink edge: ", "refused"}},
		{"Valkey is down", func() { require.NoError(t, r.vk.Kill()) }, []string{"sink cache: ", "refused"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.write("token", edgeToken)
			r.config(freeAddr(t))
			c.cause()
			o := r.call("check")
			t.Log(o.stdout)
			require.Equal(t, 1, o.code)
			for _, part := range c.want {
				require.Contains(t, o.stdout, part)
			}
			require.Len(t, lines(o.stdout), 1)
			require.NotContains(t, o.stdout+o.stderr, secret)
			require.Empty(t, o.stderr)
			r.untouched()
		})
	}
}

// TestCheckNotesConditions: what a condition cannot decide loses no purge, and is a note.
func TestCheckNotesConditions(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	r.exec(`CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE COLLATION loose (provider = icu, locale = 'und', deterministic = false);
CREATE TABLE things (id int PRIMARY KEY, m mood, i interval, n text COLLATE "en-x-icu", l text COLLATE loose, c char(10) COLLATE "C", a mood[])`)
	check := func(when string) outcome {
		r.write("rules/catalog.yaml", "rules: [{name: things, table: public.things, when: '"+when+"', keys: ['thing:{id}'], sinks: [cache]}]")
		return r.call("check")
	}
	for when, want := range map[string][]string{
		`changed(n, c)`: {"its condition reads the old n, c of public.things, which replica identity DEFAULT does not carry, so it counts as true for each UPDATE where the new row does not decide it",
			"ALTER TABLE public.things REPLICA IDENTITY FULL, or read the new row only, like new.n"},
		`changed(id)`:                       nil,
		`new.c == "x" && new.m == "ok"`:     nil,
		`new.m < "ok"`:                      {"the text of m of public.things (mood) does not always tell the order as SQL does; where it does not, the comparison counts as true"},
		`new.a.exists(x, x > "ok")`:         {"the text of a of public.things (mood[]) does not always tell the order as SQL does"},
		`new.i == "1 day"`:                  {"the text of i of public.things (interval) does not always tell whether it is equal to another as SQL does"},
		`new.n < "m" && new.n == "a"`:       {"it orders n of public.things by code points, and SQL by the collation en-x-icu"},
		`new.c < "m" && new.c in ["a","b"]`: nil,
	} {
		o := check(when)
		require.Zero(t, o.code, "%s\n%s", when, o.stdout)
		for _, part := range want {
			require.Contains(t, o.stdout, part, when)
		}
		if want == nil {
			require.NotContains(t, o.stdout, "note: ", when)
		}
	}
	o := check(`new.l == "a"`)
	require.Equal(t, 1, o.code, o.stdout)
	require.Contains(t, o.stdout, "it compares l of public.things as texts, but its collation loose takes different texts for equal")
}

func TestCheckOffline(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	r.edit("walpurge.yaml", `"`+r.pg.URL("app")+`"`, "${NO_SUCH_DATABASE_URL}", r.valkeyURL, "${NO_SUCH_VALKEY_URL}")
	_, err := r.pg.Stop(t.Context(), "immediate")
	require.NoError(t, err)
	o := r.call("check", "--offline")
	require.Equal(t, outcome{0, "fine: pipeline app, 2 sinks\n", "", o.took}, o)
	r.write("rules/catalog.yaml", "rules: [{name: slug, table: public.products, keys: ['slug:{slug}'], unknown: {keys: [front]}}]")
	o = r.call("check", "--offline")
	require.Zero(t, o.code, o.stdout)
	require.Contains(t, o.stdout, "note: "+r.path("rules/catalog.yaml")+`:1: rule "slug": where key "slug:{slug}" cannot be built, `+"`unknown` purges key front at cache, which does not remove")
	r.write("rules/catalog.yaml", "rules: [{name: slug, table: public.products, keys: ['slug:{slug}'], unknown: {keys: [front], covers: true}}]")
	o = r.call("check", "--offline")
	require.Equal(t, outcome{0, "fine: pipeline app, 2 sinks\n", "", o.took}, o)
	r.write("rules/catalog.yaml", catalog)
	o = r.call("check")
	require.Equal(t, 2, o.code)
	require.Contains(t, o.stdout, "the environment variable NO_SUCH_DATABASE_URL is not set")
	require.Contains(t, o.stdout, "the environment variable NO_SUCH_VALKEY_URL is not set")

	r.edit("rules/catalog.yaml", `"product:{id}"`, `"product:{id"`)
	o = r.call("check", "--offline", "--json")
	require.Equal(t, 2, o.code)
	var findings []app.Finding
	require.NoError(t, json.Unmarshal([]byte(o.stdout), &findings))
	require.Len(t, findings, 1)
	require.True(t, findings[0].Input)
	require.Contains(t, findings[0].Text, r.path("rules/catalog.yaml")+":4:")

	r.config(freeAddr(t))
	r.write("rules/catalog.yaml", catalog)
	o = r.call("check")
	require.Equal(t, 1, o.code)
	require.Len(t, lines(o.stdout), 1, o.stdout)
	require.Contains(t, o.stdout, "database: cannot connect to PostgreSQL at ")
	o = r.call("setup")
	require.Equal(t, 1, o.code)
	require.Len(t, lines(o.stderr), 1, o.stderr)
}

// psql gives statements to psql, as a DBA does.
func (r *rig) psql(sql string) {
	r.t.Helper()
	binaries, err := harness.FindInstalled()
	require.NoError(r.t, err)
	cmd := exec.CommandContext(r.t.Context(), binaries.Path("psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", r.pg.URL("app"))
	cmd.Stdin = strings.NewReader(sql)
	out, err := cmd.CombinedOutput()
	require.NoError(r.t, err, "%s", out)
}

// TestSetupByHand has a DBA run what check proposes, and a daemon that may do
// nothing but replicate.
func TestSetupByHand(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.guard("walp", secret)
	r.config(freeAddr(t))
	as("walp")(r)
	yaml("postgres:", "postgres:\n  manage: false")(r)
	o := r.call("setup", "--print")
	require.Zero(t, o.code, o.stderr)
	printed := strings.ReplaceAll(strings.TrimSpace(o.stdout), "\n", " ")
	require.Equal(t, setupSQL, masked(printed))
	r.untouched()
	// What check proposes is the same, and is what is followed here.
	o = r.call("check")
	require.Equal(t, 1, o.code)
	_, sql, found := strings.Cut(strings.TrimSpace(o.stdout), "run as their owner: ")
	require.True(t, found, o.stdout)
	require.Equal(t, printed, sql)
	r.psql(sql)
	require.Equal(t, []string{"public.categories", "public.products"}, r.published())
	require.Zero(t, r.call("check").code)

	text := r.read("walpurge.yaml")
	r.fill([]string{"category:1", "product:9"}, "/category-1")
	d := r.launchFile(text + "log: {level: debug}\n")
	d.untilStreaming()
	require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="stream_behind"}`), "the slot was never read, so a first start is no gap")
	r.exec("INSERT INTO categories (id) VALUES (1)")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"product:9"}, r.held("category:1", "product:9"), "nothing was flushed")
	require.False(t, r.edge.Stored(r.edge.URL()+"/category-1"))
	eventually(t, 30*time.Second, func() bool { return d.metric("walpurge_slot_retained_bytes") != "" }, "the least of privileges is enough to see the slot")
	// What a connection error would print has the URL at hand.
	_, err := r.db.Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'walp'")
	require.NoError(t, err)
	d.untilStreaming()
	d.term()
	require.NotContains(t, d.logs.String(), secret)
	require.NotContains(t, d.logs.String(), edgeToken)
}

func TestSetupTwiceNarrowAndDrop(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	o := r.call("setup")
	require.Zero(t, o.code, o.stderr)
	require.Len(t, lines(o.stdout), 3)
	require.Equal(t, []string{"public.categories", "public.products"}, r.published())
	o = r.call("setup")
	require.Equal(t, outcome{0, "nothing to do: publication and slot are as the rules need them\n", "", o.took}, o)

	r.edit("rules/catalog.yaml", "public.categories", "public.versions")
	o = r.call("setup", "--print")
	require.Equal(t, "ALTER PUBLICATION \"walpurge_app\" DROP TABLE \"public\".\"categories\";\n"+
		"BEGIN; ALTER PUBLICATION \"walpurge_app\" ADD TABLE \"public\".\"versions\"; "+
		"SELECT pg_logical_emit_message(true, 'walpurge.tables', '{\"publication\":\"walpurge_app\"}'); COMMIT;\n", o.stdout)
	require.Equal(t, []string{"public.categories", "public.products"}, r.published())
	require.Zero(t, r.call("setup").code)
	require.Equal(t, []string{"public.products", "public.versions"}, r.published())

	d := r.start()
	o = r.call("setup", "--drop")
	require.Equal(t, 1, o.code)
	require.Contains(t, o.stderr, "fix: stop the daemon first")
	publications, slots := r.made()
	require.Equal(t, []int{1, 1}, []int{publications, slots}, "a slot in use keeps its publication")
	d.term()
	for range 2 {
		o = r.call("setup", "--drop")
		require.Zero(t, o.code, o.stderr)
	}
	publications, slots = r.made()
	require.Zero(t, publications+slots)
}

func TestSetupRefuses(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.config(freeAddr(t))
	r.exec("ALTER TABLE categories DROP CONSTRAINT categories_pkey")
	o := r.call("setup")
	require.Equal(t, 1, o.code)
	require.Equal(t, "walpurge: "+identity("categories", "categories")+"\n", o.stderr)
	r.untouched()
	o = r.call("setup", "--print", "--drop")
	require.Equal(t, outcome{2, "", "walpurge: --print and --drop do not go together\n", o.took}, o)

	r.exec("ALTER TABLE categories ADD PRIMARY KEY (id)")
	require.Zero(t, r.call("setup").code)
}
