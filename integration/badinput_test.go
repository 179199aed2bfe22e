package integration

import (
	"net"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// secret is a password that must turn up nowhere.
const secret = "p4ss-never-shown"

// fault is one thing that is wrong, and what is to be said about it.
type fault struct {
	name string
	// cause makes it wrong, after reset.
	cause func(r *rig)
	// code and lines are what run ends with and prints, each after "walpurge: ".
	code  int
	lines []string
	// check is what check prints: nil for the same as run, "fine" for nothing wrong.
	check []string
	// leaves marks a fault that consists of something in the database.
	leaves bool
}

func yaml(oldnew ...string) func(r *rig) { return func(r *rig) { r.edit("walpurge.yaml", oldnew...) } }

func rule(oldnew ...string) func(r *rig) {
	return func(r *rig) { r.edit("rules/catalog.yaml", oldnew...) }
}

func as(role string) func(r *rig) {
	return yaml("postgres://postgres@", "postgres://"+role+":"+secret+"@")
}

func sql(text string) func(r *rig) { return func(r *rig) { r.exec(text) } }

// identity is what is said of a table whose rows cannot be identified.
func identity(table, lacking string) string {
	return "table public." + table + ": rows of " + lacking + " have no replica identity that can be used: once published, the application's UPDATE and DELETE on it would fail; " +
		"fix: ALTER TABLE " + lacking + " ADD PRIMARY KEY (...), or ALTER TABLE " + lacking + " REPLICA IDENTITY USING INDEX ..., or ALTER TABLE " + lacking + " REPLICA IDENTITY FULL"
}

var faults = []fault{
	{name: "unknown key", cause: yaml("data_dir:", "data_dri:"), code: 2,
		lines: []string{`{yaml}:3:1: unknown key "data_dri"; did you mean "data_dir"?`}},
	{name: "repeated key", cause: yaml("pipeline: app", "pipeline: app\npipeline: app"), code: 2,
		lines: []string{`{yaml}:2:1: key "pipeline" is repeated; it was first given in line 1`}},
	{name: "missing variable", cause: func(r *rig) { r.edit("walpurge.yaml", r.path("data"), "${NO_SUCH_VARIABLE}") }, code: 2,
		lines: []string{`{yaml}:3:11: the environment variable NO_SUCH_VARIABLE is not set (used as ${NO_SUCH_VARIABLE})`}},
	{name: "missing rules", cause: yaml("rules/*.yaml", "rulez/*.yaml"), code: 2,
		lines: []string{`{yaml}:2:9: rules: "rulez/*.yaml" matches no file; patterns are relative to {dir}`}},
	{name: "broken URL", cause: yaml("postgres://postgres@", "postgres://postgres:"+secret+"/%zz#@"), code: 2,
		lines: []string{"{yaml}:5:8: postgres.url cannot be parsed (not shown, it may hold a password): write postgres://USER@HOST:PORT/DATABASE, " +
			"percent-encode special characters of a password or put it into postgres.password_file, and check the options after `?`"}},
	{name: "sink that cannot be flushed", cause: yaml("    flush: {everything: true}\n", ""), code: 2,
		lines: []string{`{yaml}:10:3: sink edge cannot be flushed after a gap: add flush: {everything: true}, or flush: {tags: [...]} with a tag that every object carries`}},

	{name: "missing table", cause: rule("public.categories", "public.category"), code: 2,
		lines: []string{`table public.category does not exist in database "app"; fix: correct the rule's table; there is public.categories`}},
	{name: "missing column", cause: rule("{slug}", "{slgu}"), code: 2,
		lines: []string{`{dir}/rules/catalog.yaml:4:43: rule "product": key "product:slug:{slgu}": table public.products has no column "slgu"; it has id, slug, name, ver; did you mean "slug"?`}},
	{name: "type error", cause: rule("    keys: [\"category:{id}\"]", "    when: row.id > \"7\"\n    keys: [\"category:{id}\"]"), code: 2,
		lines: []string{`{dir}/rules/catalog.yaml:9:18: rule "category": when: found no matching overload for '_>_' applied to '(int, string)'; id is bigint, here int`}},
	{name: "view", cause: rule("public.categories", "public.shelf"), code: 2,
		lines: []string{`public.shelf is a view, and only tables have changes; fix: write rules for the tables behind it: public.products`}},
	{name: "partition", cause: rule("public.categories", "public.orders_1"), code: 2,
		lines: []string{`table public.orders_1 is a partition; fix: watch its root public.orders in the rule`}},
	{name: "unlogged table", cause: rule("public.categories", "public.scratch"), code: 2,
		lines: []string{`table public.scratch is unlogged or temporary; fix: take its rules out, or ALTER TABLE "public"."scratch" SET LOGGED: the log has changes of ordinary tables only`}},
	{name: "two faults", cause: rule("public.categories", "public.nokey", "public.products", "public.product"), code: 2,
		lines: []string{`table public.product does not exist in database "app"; fix: correct the rule's table; there is public.products`, identity("nokey", "nokey")}},

	{name: "no primary key", cause: rule("public.categories", "public.nokey"), code: 1, lines: []string{identity("nokey", "nokey")}},
	{name: "identity NOTHING", cause: rule("public.categories", "public.hidden"), code: 1, lines: []string{identity("hidden", "hidden")}},
	{name: "deferrable primary key", cause: rule("public.categories", "public.deferred"), code: 1, lines: []string{identity("deferred", "deferred")}},
	{name: "partition without identity", cause: rule("public.categories", "public.parts"), code: 1, lines: []string{identity("parts", "parts_1")},
		check: []string{identity("parts", "parts_1"),
			"partition parts_1 of public.parts has another replica identity than the root (FULL), so old rows of it are misread; ALTER TABLE parts_1 REPLICA IDENTITY FULL"}},

	{name: "role without REPLICATION", cause: as("weak"), code: 1,
		lines: []string{`role "weak" has no REPLICATION privilege; fix: ALTER ROLE "weak" REPLICATION;`}},
	{name: "role that owns nothing", cause: as("helper"), code: 1,
		lines: []string{`user "helper" may not create or alter publication "walpurge_app" for these tables: that takes CREATE on the database, and the owner of publication and tables; ` +
			"fix: set postgres.manage: false, and let their owner or a DBA run what `walpurge setup --print` shows: " + setupSQL}},
	{name: "wrong password", cause: as("guarded"), code: 1,
		lines: []string{`PostgreSQL at {pg} refuses user "guarded": password authentication failed for user "guarded" (SQLSTATE 28P01); ` +
			`fix: set the right password in postgres.url, postgres.password_file, PGPASSWORD or ~/.pgpass`},
		check: []string{`database: PostgreSQL at {pg} refuses user "guarded": password authentication failed for user "guarded" (SQLSTATE 28P01); ` +
			`fix: set the right password in postgres.url, postgres.password_file, PGPASSWORD or ~/.pgpass`}},
	{name: "unknown database", cause: yaml("/app?", "/ap?"), code: 2,
		lines: []string{`PostgreSQL at {pg} refuses user "postgres": database "ap" does not exist (SQLSTATE 3D000); fix: name an existing database in postgres.url`},
		check: []string{`database: PostgreSQL at {pg} refuses user "postgres": database "ap" does not exist (SQLSTATE 3D000); fix: name an existing database in postgres.url`}},
	{name: "nothing set up, not managed", cause: yaml("postgres:", "postgres:\n  manage: false"), code: 1,
		lines: []string{`publication or slot is incomplete, and postgres.manage is false; fix: run as their owner: ` +
			setupSQL}},
	{name: "slot of another plugin", cause: sql("SELECT pg_create_logical_replication_slot('walpurge_app', 'test_decoding')"), code: 1, leaves: true,
		lines: []string{`slot "walpurge_app" exists with plugin "test_decoding" in database "app", want pgoutput in "app"; ` +
			`fix: choose another postgres.slot, or drop it: SELECT pg_drop_replication_slot('walpurge_app');`}},
	{name: "publication by leaf and of inserts", cause: sql("CREATE PUBLICATION walpurge_app FOR TABLE products WITH (publish = 'insert')"), code: 1, leaves: true,
		lines: []string{`publication "walpurge_app" does not publish partitions by their root; fix: ALTER PUBLICATION "walpurge_app" SET (publish_via_partition_root = true);`,
			`publication "walpurge_app" does not publish every operation; fix: ALTER PUBLICATION "walpurge_app" SET (publish = 'insert, update, delete, truncate');`}},
	{name: "publication with a row filter", cause: sql("CREATE PUBLICATION walpurge_app FOR TABLE products WHERE (id > 3) WITH (publish_via_partition_root = true)"), code: 1, leaves: true,
		lines: []string{`publication "walpurge_app" has a row filter on products, so changes would be missed; ` +
			`fix: BEGIN; ALTER PUBLICATION "walpurge_app" DROP TABLE products; ALTER PUBLICATION "walpurge_app" ADD TABLE products; ` +
			`SELECT pg_logical_emit_message(true, 'walpurge.tables', '{"publication":"walpurge_app"}'); COMMIT;`}},

	{name: "data_dir below a file", cause: yaml("/data\n", "/token/data\n"), code: 1,
		lines: []string{`data_dir: mkdir {dir}/token: not a directory; create it and give it to the user of the daemon`},
		check: []string{`data_dir: {dir}/token is not a directory`}},
	{name: "address in use", cause: func(r *rig) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(r.t, err)
		r.t.Cleanup(func() { l.Close() })
		r.config(l.Addr().String())
	}, code: 1,
		// A daemon that runs has it, which is as it should be for check.
		lines: []string{`http.listen: listen tcp {listen}: bind: address already in use; stop what uses the address, or choose another`},
		check: []string{"fine: pipeline app, 2 sinks"}},
}

// setupSQL is what setup prints, in one line, as masked returns it.
const setupSQL = `CREATE PUBLICATION "walpurge_app" FOR TABLE "public"."categories", "public"."products" WITH (publish_via_partition_root = true); ` +
	`SELECT pg_create_logical_replication_slot('walpurge_app', 'pgoutput'); ` +
	`DO $$ BEGIN EXECUTE format('COMMENT ON PUBLICATION %I IS %L', 'walpurge_app', (` +
	`SELECT 'walpurge: slot walpurge_app begins at ' || s.confirmed_flush_lsn || E'\n' || json_build_object('publication', p.pubname, 'options', p.oid || ' ' || p.xmin, ` +
	`'tables', ARRAY(SELECT json_build_object('Schema', n.nspname, 'Name', c.relname, 'Relation', c.oid::bigint, 'Entry', r.oid::bigint) ` +
	`FROM pg_publication_rel r JOIN pg_class c ON c.oid = r.prrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE r.prpubid = p.oid), ` +
	`'described', 'DESCRIPTIONS') FROM pg_publication p, pg_replication_slots s WHERE p.pubname = 'walpurge_app' AND s.slot_name = 'walpurge_app')); END $$;`

// descriptions are those of the tables in setupSQL, which no two databases have in common.
var descriptions = regexp.MustCompile(`'described', '[A-Za-z0-9+/=]+'`)

func masked(text string) string {
	return descriptions.ReplaceAllString(text, "'described', 'DESCRIPTIONS'")
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{schema: schema + `
		CREATE TABLE nokey (id int); CREATE TABLE hidden (id int PRIMARY KEY); ALTER TABLE hidden REPLICA IDENTITY NOTHING;
		CREATE TABLE deferred (id int PRIMARY KEY DEFERRABLE); CREATE VIEW shelf AS SELECT * FROM products; CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY);
		CREATE TABLE orders (id int, day date, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
		CREATE TABLE orders_1 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
		CREATE TABLE parts (id int, day date) PARTITION BY RANGE (day); ALTER TABLE parts REPLICA IDENTITY FULL;
		CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
		CREATE ROLE weak LOGIN; CREATE ROLE helper LOGIN REPLICATION`})
	r.guard("guarded", "another-"+secret)
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) {
			r.t = t
			r.reset()
			f.cause(r)
			o := r.call("run")
			require.Equal(t, r.expand("walpurge: ", f.lines), masked(o.stderr))
			require.Empty(t, o.stdout)
			require.Equal(t, f.code, o.code)
			require.NotContains(t, o.stderr, secret)

			want, code := f.check, f.code
			if want == nil {
				want = f.lines
			}
			if strings.HasPrefix(want[0], "fine") {
				code = 0
			}
			o = r.call("check")
			require.Equal(t, r.expand("", want), masked(o.stdout))
			require.Empty(t, o.stderr)
			require.Equal(t, code, o.code)
			require.NotContains(t, o.stdout, secret)
			require.NoDirExists(t, r.path("data"))
			if !f.leaves {
				r.untouched()
			}
		})
	}
}

// expand writes expected lines with what differs from run to run filled in.
func (r *rig) expand(prefix string, lines []string) string {
	_, rest, _ := strings.Cut(r.pg.URL("app"), "@")
	addr, _, _ := strings.Cut(rest, "/")
	_, listen, _ := strings.Cut(r.read("walpurge.yaml"), `http: {listen: "`)
	listen, _, _ = strings.Cut(listen, `"`)
	fill := strings.NewReplacer("{dir}", r.dir, "{yaml}", r.path("walpurge.yaml"), "{pg}", addr, "{listen}", listen)
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(prefix + fill.Replace(l) + "\n")
	}
	return b.String()
}

func TestWALLevelReplica(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{postgres: map[string]string{"wal_level": "replica"}})
	r.config(freeAddr(t))
	const want = `wal_level is "replica"; fix: ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL` + "\n"
	o := r.call("run")
	require.Equal(t, "walpurge: "+want, o.stderr)
	require.Equal(t, 1, o.code)
	o = r.call("check")
	require.Equal(t, want, o.stdout)
	require.Equal(t, 1, o.code)
	r.untouched()
}

func TestSlotsAllTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{postgres: map[string]string{"max_replication_slots": "1"}})
	r.exec("SELECT pg_create_physical_replication_slot('standby')")
	r.config(freeAddr(t))
	o := r.call("run")
	require.Equal(t, "walpurge: all 1 replication slots of the server are taken; fix: drop one that no client reads "+
		"(SELECT slot_name, active FROM pg_replication_slots), or ALTER SYSTEM SET max_replication_slots and restart PostgreSQL\n", o.stderr)
	require.Equal(t, 1, o.code)
	r.untouched()
}
