package integration

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const tenantMenuRules = `rules:
  - name: item
    table: "tenant_{tenant}.items"
    lookup: {m: {sql: "SELECT store_id FROM menu_stores WHERE menu_id = $1 AND tenant = $2", args: ["{menu_id}", "{tenant}"], timeout: 10s}}
    keys: ["{tenant}:store:{m.store_id}"]
    unknown: {keys: ["stores"]}
    sinks: [cache]
  - name: stores
    table: public.menu_stores
    lookup: {i: {sql: "SELECT id FROM tenant_a.items WHERE menu_id = $1", args: ["{menu_id}"], timeout: 10s}}
    keys: ["item:{i.id}"]
    unknown: {keys: ["items"]}
    sinks: [cache]
  - name: by-hand
    message: cache.purge
    unknown: {keys: ["all"]}
`

// TestLookupsOfTenants: rules whose table is a pattern ask the database, too, with
// the tenant's name; tenants may come later, and messages disturb none of it.
func TestLookupsOfTenants(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{catalog: tenantMenuRules, schema: `
		CREATE TABLE menu_stores (tenant text, menu_id bigint, store_id bigint, PRIMARY KEY (tenant, menu_id, store_id));`})
	r.sinkExtra = "    flush: {key_patterns: ['*']}"
	open := func(tenant string) {
		r.exec(fmt.Sprintf(`CREATE SCHEMA tenant_%[1]s; CREATE TABLE tenant_%[1]s.items (id int PRIMARY KEY, menu_id bigint, name text);
			ALTER TABLE tenant_%[1]s.items REPLICA IDENTITY FULL`, tenant))
	}
	open("a")
	open("c")
	d := r.startTenants()
	r.exec("INSERT INTO menu_stores VALUES ('a', 1, 7), ('b', 1, 8)")
	d.wait(r.lsn(), 20*time.Second)

	keys := []string{"a:store:7", "a:store:8", "b:store:7", "b:store:8", "home"}
	r.fill(keys)
	r.exec("BEGIN; INSERT INTO tenant_a.items VALUES (1, 1, 'x'); SELECT pg_logical_emit_message(true, 'cache.purge', '{\"keys\": [\"home\"]}'); COMMIT")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, keys[1:4], r.held(keys...))

	open("b")
	r.publishes("tenant_b.items")
	eventually(t, 20*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="table"}`) != "0" }, "what it derives is purged once")
	d.wait(r.lsn(), 20*time.Second)
	r.fill(keys)
	r.exec("INSERT INTO tenant_b.items VALUES (1, 1, 'x')")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"a:store:7", "a:store:8", "b:store:7", "home"}, r.held(keys...))
	require.Equal(t, "0", d.metric(`walpurge_rule_errors_total{rule="by-hand"}`), "announcements and heartbeats are not for rules")
	require.Equal(t, "0", d.metric("walpurge_publication_problems"), "a rule of messages has no table to publish")

	// A statement that cannot be answered does not come into service.
	r.write("rules/catalog.yaml", strings.Replace(tenantMenuRules, "SELECT store_id", "SELECT stor_id AS store_id", 1))
	eventually(t, 20*time.Second, func() bool { return d.metric(reloadOK) == "0" }, "the file is refused")
	d.logged(`column \"stor_id\" does not exist`)
	r.fill(keys)
	r.exec("UPDATE tenant_b.items SET name = 'y'")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"a:store:7", "a:store:8", "b:store:7", "home"}, r.held(keys...), "the old rules go on")
	d.term()

	// Check knows that a pattern watches what a lookup reads.
	r.write("rules/catalog.yaml", tenantMenuRules)
	o := r.call("check")
	require.Zero(t, o.code, o.stdout)
	r.edit("rules/catalog.yaml", "tenant_a.items WHERE", "tenant_a.others WHERE")
	r.exec("CREATE TABLE tenant_a.others (id int PRIMARY KEY, menu_id bigint)")
	o = r.call("check")
	require.Equal(t, 1, o.code, o.stdout)
	require.Contains(t, o.stdout, `lookup "i" reads tenant_a.others, which no rule watches`)
	r.write("rules/catalog.yaml", strings.NewReplacer("{m:", "{name:", "{m.", "{name.").Replace(tenantMenuRules))
	o = r.call("check")
	require.Equal(t, 1, o.code, o.stdout)
	require.Equal(t, 1, strings.Count(o.stdout, `lookup "name" is called like a column of tenant_`), o.stdout)
	r.write("rules/catalog.yaml", strings.Replace(tenantMenuRules, `args: ["{menu_id}", `, `args: ["{menu}", `, 1))
	o = r.call("check")
	require.Equal(t, 2, o.code, o.stdout)
	require.Contains(t, o.stdout, `table tenant_a.items (and 2 more) has no column "menu"; it has id, menu_id, name`)

	// A live row of a tenant.
	r.write("rules/catalog.yaml", tenantMenuRules)
	o = r.call("rules", "explain", "--db", "--table", "tenant_b.items", "--where", "id = 1")
	require.Zero(t, o.code, o.stdout+o.stderr)
	require.Contains(t, o.stdout, "update of a row of tenant_b.items")
	require.Regexp(t, `lookup m for the new row: SELECT .* with \(1, b\): 1 row\n`, o.stdout, "the database is asked")
	require.NotContains(t, o.stdout, "stands in")
	o = r.call("rules", "explain", "--db", "--table", "tenant-b.items", "--where", "id = 1")
	require.Equal(t, 2, o.code, o.stdout+o.stderr)
	require.Contains(t, o.stderr, `no rule watches the table "tenant-b.items"; valid: tenant_{tenant}.items, public.menu_stores`)
}
