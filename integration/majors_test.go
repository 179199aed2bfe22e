//go:build full || soak

package integration

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness"
)

// oldestMajor is the lowest version that the product supports.
const oldestMajor, newestMajor = 14, 18

// major returns the servers of one version; a test that runs on it cannot do without.
func major(t *testing.T, version int) harness.Binaries {
	t.Helper()
	b, err := harness.FindMajor(version)
	require.NoError(t, err)
	require.Equal(t, version, b.Major)
	return b
}

const majorsSchema = schema + `
CREATE TABLE orders (id bigint, day date, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE orders_2026 PARTITION OF orders FOR VALUES FROM ('2026-01-01') TO ('2027-01-01');
CREATE TABLE orders_2027 PARTITION OF orders FOR VALUES FROM ('2027-01-01') TO ('2028-01-01');
`

const majorsCatalog = catalog + `  - name: order
    table: public.orders
    keys: ["order:{id}"]
    tags: ["order-{id}"]
`

// TestEveryMajor takes every major version that is supported from setup to a purge of
// each kind of change, and through a crash of the daemon.
func TestEveryMajor(t *testing.T) {
	t.Parallel()
	for version := oldestMajor; version <= newestMajor; version++ {
		t.Run(fmt.Sprint("PostgreSQL ", version), func(t *testing.T) {
			r := newRig(t, rigOptions{binaries: major(t, version), schema: majorsSchema, catalog: majorsCatalog})
			r.config(freeAddr(t))
			o := r.call("setup")
			require.Zero(t, o.code, o.stderr)
			var failover *string
			require.NoError(t, r.db.QueryRow(t.Context(), "SELECT to_jsonb(s)->>'failover' FROM pg_replication_slots s WHERE slot_name = 'walpurge_app'").Scan(&failover))
			if version >= 17 {
				require.Equal(t, "true", *failover, "setup makes a failover slot where there are any")
			}
			o = r.call("check")
			require.Zero(t, o.code, o.stdout)

			d := r.start()
			purges := func(step, sql string, keys ...string) {
				t.Helper()
				r.fill(keys)
				r.exec(sql)
				d.wait(r.lsn(), 20*time.Second)
				require.Empty(t, r.held(keys...), step)
			}
			purges("insert", "INSERT INTO products (id, slug) VALUES (1, 'a'), (2, 'b')", "product:1", "product:2")
			purges("update purges both images", "UPDATE products SET slug = 'c' WHERE id = 1", "product:1", "product:slug:a", "product:slug:c")
			purges("delete", "DELETE FROM products WHERE id = 1", "product:1", "product:slug:c")
			purges("insert into a partition", "INSERT INTO orders VALUES (7, '2026-11-26')", "order:7")
			purges("update that moves to another partition", "UPDATE orders SET day = '2027-02-01' WHERE id = 7", "order:7")
			purges("delete from a partition", "DELETE FROM orders_2027", "order:7")
			purges("truncate", "TRUNCATE products", "product:2", "product:999")
			purges("truncate of a partitioned table", "TRUNCATE orders", "order:8")

			d.kill()
			r.fill([]string{"product:3", "order:9"}, "/product-3")
			r.exec("INSERT INTO products (id, slug) VALUES (3, 'd'); INSERT INTO orders VALUES (9, '2026-01-01')")
			d = r.start()
			d.wait(r.lsn(), 20*time.Second)
			require.Empty(t, r.held("product:3", "order:9"))
			require.False(t, r.edge.Stored(r.edge.URL()+"/product-3"))
			noGaps(t, d)
			d.fresh()
			d.term()
		})
	}
}

// TestHistoriesOnOtherMajors has newer servers send every change at once, and older ones
// little by little.
func TestHistoriesOnOtherMajors(t *testing.T) {
	t.Parallel()
	for version := oldestMajor; version <= newestMajor; version++ {
		t.Run(fmt.Sprint("PostgreSQL ", version), func(t *testing.T) {
			settings := map[string]string{"logical_decoding_work_mem": "64kB"}
			if version >= 16 {
				settings["debug_logical_replication_streaming"] = "immediate"
			}
			w := histories(t, harness.PostgresConfig{Binaries: major(t, version), Settings: settings}, 400, false)
			require.Equal(t, 1, w.sessions)
			require.Positive(t, w.aborted[1])
		})
	}
}

// TestColumnListsOfOldServers: PostgreSQL 14 has none, and says so.
func TestColumnListsOfOldServers(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{binaries: major(t, 14)})
	r.pgExtra = "\n  column_lists: true"
	r.config(freeAddr(t))
	refused := r.call("run")
	require.Equal(t, 1, refused.code)
	require.Contains(t, refused.stderr, "postgres.column_lists: the server is PostgreSQL 14, which has no column lists; fix: take it out, or upgrade to 15 or newer")
}
