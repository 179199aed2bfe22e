package integration

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const tenantCatalog = catalog + `  - name: order
    table: "tenant_{tenant}.orders"
    keys: ["{tenant}:order:{id}", "{tenant}:code:{code}"]
    tags: ["{tenant}-orders"]
    unknown: {keys: ["orders:all"], covers: true}
    on_truncate: {tags: [orders]}
`

// settle makes a tenant.
func (r *rig) settle(name string) {
	r.t.Helper()
	r.exec(fmt.Sprintf(`CREATE SCHEMA tenant_%[1]s; CREATE TABLE tenant_%[1]s.orders (id int PRIMARY KEY, code text);
		ALTER TABLE tenant_%[1]s.orders REPLICA IDENTITY FULL`, name))
}

// gone waits until Valkey does not hold the keys.
func (r *rig) gone(msg string, keys ...string) {
	r.t.Helper()
	eventually(r.t, 20*time.Second, func() bool { return len(r.held(keys...)) == 0 }, msg)
}

func (r *rig) publishes(table string) {
	r.t.Helper()
	eventually(r.t, 20*time.Second, func() bool { return strings.Contains(fmt.Sprint(r.published()), table) }, table+" is published")
}

// tenantRig looks at the publication five times a second.
func tenantRig(t *testing.T) *rig {
	t.Helper()
	return newRig(t, rigOptions{catalog: tenantCatalog})
}

func (r *rig) startTenants(env ...string) *daemon {
	r.t.Helper()
	addr := freeAddr(r.t)
	r.config(addr)
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  heartbeat: 200ms\n")
	d := r.spawn(addr, r.path("walpurge.yaml"), env)
	d.untilStreaming()
	return d
}

// TestTenants lets tenants come, go and be made anew while the daemon runs.
func TestTenants(t *testing.T) {
	t.Parallel()
	r := tenantRig(t)
	r.settle("a")
	d := r.startTenants()
	require.Contains(t, r.published(), "tenant_a.orders")

	r.fill([]string{"a:order:1"})
	r.exec("INSERT INTO tenant_a.orders VALUES (1, 'x')")
	r.gone("a tenant that was there", "a:order:1")

	// Rows may be there before the table is published: what they stand for is gone,
	// and what others have stays.
	r.fill([]string{"b:order:1", "a:order:9"})
	r.settle("b")
	r.exec("INSERT INTO tenant_b.orders VALUES (1, 'x')")
	r.gone("a new tenant's row, streamed or not", "b:order:1")
	r.publishes("tenant_b.orders")
	require.Equal(t, []string{"a:order:9"}, r.held("a:order:9"))
	r.fill([]string{"b:order:2"})
	r.exec("INSERT INTO tenant_b.orders VALUES (2, 'x')")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("b:order:2"))

	r.fill([]string{"b:order:3", "b:code:y"})
	r.exec("DROP TABLE tenant_b.orders; CREATE TABLE tenant_b.orders (id int PRIMARY KEY, code text); INSERT INTO tenant_b.orders VALUES (3, 'y')")
	r.gone("a table made anew", "b:order:3", "b:code:y")

	r.fill([]string{"a:order:4", "category:4"})
	r.exec("ALTER PUBLICATION walpurge_app DROP TABLE tenant_a.orders, categories")
	r.exec("INSERT INTO tenant_a.orders VALUES (4, 'x'); INSERT INTO categories VALUES (4)")
	r.gone("tables taken out and brought back", "a:order:4", "category:4")
	r.publishes("tenant_a.orders")
	r.publishes("public.categories")

	r.fill([]string{"a:order:5"})
	r.exec("DROP SCHEMA tenant_a CASCADE")
	r.gone("a tenant that left", "a:order:5")
	require.NotEqual(t, "0", d.metric(`walpurge_gaps_total{reason="table"}`))
	require.NotEmpty(t, d.metric(`walpurge_changes_total{op="insert",table="tenant_{tenant}.orders"}`))
	require.Empty(t, d.metric(`walpurge_changes_total{op="insert",table="tenant_b.orders"}`), "no label is made of data")
	require.Equal(t, "0", d.metric("walpurge_publication_problems"))

	// Tenants whose names need quotes, and one that no pattern means.
	r.exec(`CREATE SCHEMA "tenant_acme-corp"; CREATE TABLE "tenant_acme-corp".orders (id int PRIMARY KEY, code text);
CREATE SCHEMA "tenant_müller"; CREATE TABLE "tenant_müller".orders (id int PRIMARY KEY, code text); CREATE SCHEMA "Tenant_X"; CREATE TABLE "Tenant_X".orders (id int PRIMARY KEY, code text)`)
	r.publishes("tenant_acme-corp.orders")
	r.publishes("tenant_müller.orders")
	r.fill([]string{"acme-corp:order:1", "müller:order:1"})
	r.exec(`INSERT INTO "tenant_acme-corp".orders VALUES (1, 'x'); INSERT INTO "tenant_müller".orders VALUES (1, 'x')`)
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("acme-corp:order:1", "müller:order:1"))
	require.Equal(t, "1", d.metric("walpurge_pattern_near_misses"))
	require.Contains(t, r.call("check").stdout, "note: table Tenant_X.orders is not watched, although it nearly matches tenant_{tenant}.orders")

	// A table without a key is never added, and its application goes on.
	r.exec("CREATE SCHEMA tenant_bare; CREATE TABLE tenant_bare.orders (id int, code text); INSERT INTO tenant_bare.orders VALUES (1)")
	eventually(t, 20*time.Second, func() bool { return d.metric("walpurge_publication_problems") == "1" }, "it is told")
	code, body := d.get("/-/streaming")
	require.Equal(t, http.StatusServiceUnavailable, code)
	require.Contains(t, body, "table tenant_bare.orders")
	r.exec("UPDATE tenant_bare.orders SET code = 'z'")
	o := r.call("check")
	require.Equal(t, 1, o.code, o.stdout)
	require.Contains(t, o.stdout, "table tenant_bare.orders: rows of tenant_bare.orders have no replica identity")
	d.term()
}

// TestKilledBetweenPublishingAndPurging: the crash that parts the publishing of a
// table from the purge for what was missed must not lose the purge.
func TestKilledBetweenPublishingAndPurging(t *testing.T) {
	t.Parallel()
	r := tenantRig(t)
	d := r.startTenants("WALPURGE_FAILPOINTS=die_after_widening")
	r.fill([]string{"b:order:1"})
	r.settle("b")
	r.exec("INSERT INTO tenant_b.orders VALUES (1, 'x')")
	<-d.done
	require.Contains(t, r.published(), "tenant_b.orders")
	r.fill([]string{"b:order:1"})
	d = r.startTenants()
	d.wait(r.lsn(), 20*time.Second)
	require.Empty(t, r.held("b:order:1"))
	// By the message in the log, and once more if it comes to compare before that: nobody remembers the table.
	require.Contains(t, []string{"1", "2"}, d.metric(`walpurge_gaps_total{reason="table"}`))
	d.term()
	d = r.startTenants()
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="table"}`), "it is bridged once")
}

// TestWriterFromBefore: what a transaction wrote before its table was published is
// never streamed, so it is purged once the transaction has ended, however late.
func TestWriterFromBefore(t *testing.T) {
	t.Parallel()
	r := tenantRig(t)
	r.sinkExtra = "    max_wait: 100ms"
	r.exec("CREATE SCHEMA tenant_b")
	r.exec("CREATE TABLE tenant_b.orders (id int, code text)") // no key, so it is not published
	d := r.startTenantsLoose()
	r.exec("CREATE UNIQUE INDEX b ON tenant_b.orders (id)")
	r.exec("ALTER TABLE tenant_b.orders ALTER id SET NOT NULL")
	tx, err := r.db.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO tenant_b.orders VALUES (1, 'x')")
	require.NoError(t, err)
	// What makes it publishable without waiting for the writer.
	r.exec("ALTER PUBLICATION walpurge_app ADD TABLE tenant_b.orders")
	d.logged("first=tenant_b.orders at=")
	r.fill([]string{"b:order:1"})
	r.gone("purged early", "b:order:1")
	r.fill([]string{"b:order:1"})
	require.NoError(t, tx.Commit(t.Context()))
	r.gone("and again, now that readers see it", "b:order:1")
}

// startTenantsLoose does not wait for /-/streaming, which a problem keeps closed.
func (r *rig) startTenantsLoose() *daemon {
	r.t.Helper()
	addr := freeAddr(r.t)
	r.config(addr)
	r.edit("walpurge.yaml", "postgres:\n", "postgres:\n  heartbeat: 200ms\n")
	d := r.spawn(addr, r.path("walpurge.yaml"), nil)
	d.logged("the publication is not what the rules need")
	return d
}

// TestColumnDroppedWhileRunning: the application is not disturbed, the rule is
// told of, and its purges go on by unknown.
func TestColumnDroppedWhileRunning(t *testing.T) {
	t.Parallel()
	r := tenantRig(t)
	r.settle("a")
	d := r.startTenants()
	r.exec("INSERT INTO tenant_a.orders VALUES (1, 'x')")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, "0", d.metric(`walpurge_rule_problems{rule="order"}`))
	r.exec("ALTER TABLE tenant_a.orders DROP COLUMN code")
	r.fill([]string{"a:order:1", "orders:all"})
	r.exec("UPDATE tenant_a.orders SET id = id + 1")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("a:order:1", "orders:all"))
	require.Equal(t, "0", d.metric(`walpurge_rule_problems{rule="order"}`), "unknown covers it")
	now := d.status()
	require.True(t, now.Fresh, now.Summary)
	require.Len(t, now.Problems, 1)
	require.True(t, now.Problems[0].Covered)
	require.Equal(t, []string{"tenant_a.orders"}, now.Problems[0].Tables)
	d.logged(`table tenant_a.orders has no column \"code\" any more`)
	o := d.run("status")
	require.Equal(t, 0, o.code, o.stdout)
	require.Contains(t, o.stdout, "note since ")
	r.exec("ALTER TABLE tenant_a.orders ADD COLUMN code text; UPDATE tenant_a.orders SET code = 'y'")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, "0", d.metric(`walpurge_rule_problems{rule="order"}`))

	// One tenant's missing column is told of at a start; no tenant having it is a slip.
	r.settle("b")
	r.exec("ALTER TABLE tenant_b.orders DROP COLUMN code")
	o = r.call("check")
	require.Equal(t, 1, o.code, o.stdout)
	require.Contains(t, o.stdout, `rule "order": table tenant_b.orders has no column "code"`)
	r.exec("ALTER TABLE tenant_a.orders DROP COLUMN code")
	o = r.call("check")
	require.Equal(t, 2, o.code, o.stdout)
	require.Contains(t, o.stdout, `table tenant_a.orders (and 1 more) has no column "code"`)
}

// TestReloadOnFileChange swaps the rules as Kubernetes does with a ConfigMap.
func TestReloadOnFileChange(t *testing.T) {
	t.Parallel()
	r := tenantRig(t)
	swap := func(version, text string) {
		t.Helper()
		require.NoError(t, os.MkdirAll(r.path("rules/.."+version), 0o755))
		r.write("rules/.."+version+"/catalog.yaml", text)
		require.NoError(t, os.Symlink(".."+version, r.path("rules/..data_tmp")))
		require.NoError(t, os.Rename(r.path("rules/..data_tmp"), r.path("rules/..data")))
	}
	swap("1", catalog)
	require.NoError(t, os.Remove(r.path("rules/catalog.yaml")))
	require.NoError(t, os.Symlink(filepath.Join("..data", "catalog.yaml"), r.path("rules/catalog.yaml")))
	r.settle("a")
	d := r.startTenants()
	require.NotContains(t, r.published(), "tenant_a.orders")

	swap("2", tenantCatalog)
	r.publishes("tenant_a.orders")
	d.logged("msg=reloaded")
	r.fill([]string{"a:order:1"})
	r.exec("INSERT INTO tenant_a.orders VALUES (1, 'x')")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("a:order:1"))

	swap("3", "rules: [{nmae: a}]")
	eventually(t, 20*time.Second, func() bool { return d.metric(reloadOK) == "0" }, "a bad file is told of")
	d.logged("reload failed, the old configuration goes on")
	r.fill([]string{"a:order:2"})
	r.exec("INSERT INTO tenant_a.orders VALUES (2, 'x')")
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("a:order:2"))
	swap("4", tenantCatalog)
	eventually(t, 20*time.Second, func() bool { return d.metric(reloadOK) == "1" }, "a good one puts it right")

	r.write("rules/more.yaml", "rules: [{name: version, table: public.versions, keys: [\"version:{id}\"]}]\n")
	r.publishes("public.versions")
	require.Equal(t, 1, strings.Count(d.logs.String(), "reload failed"))
}
