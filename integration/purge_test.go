package integration

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// step is one thing that the application does, and what must go and stay.
type step struct {
	name    string
	sql     string
	gone    []string
	stays   []string
	page    string // path of the edge object that must go
	pageOut string // path of one that must stay
}

func TestRightKeysLeave(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec(`INSERT INTO products (id, slug) SELECT n, 'p' || n FROM generate_series(1, 20) n`)
	r.exec(`INSERT INTO categories (id) SELECT n FROM generate_series(1, 5) n`)
	d := r.start()
	for _, s := range []step{
		{name: "insert", sql: "INSERT INTO products (id, slug) VALUES (100, 'new')",
			gone: []string{"product:100", "product:slug:new"}, stays: []string{"product:1", "product:slug:p1"}, page: "/product-100", pageOut: "/product-1"},
		{name: "update", sql: "UPDATE products SET name = 'x' WHERE id = 1",
			gone: []string{"product:1", "product:slug:p1"}, stays: []string{"product:2"}, page: "/product-1", pageOut: "/product-2"},
		{name: "key column changes", sql: "UPDATE products SET slug = 'renamed' WHERE id = 2",
			gone: []string{"product:2", "product:slug:p2", "product:slug:renamed"}, stays: []string{"product:3"}, page: "/product-2", pageOut: "/product-3"},
		{name: "primary key changes", sql: "UPDATE products SET id = 203 WHERE id = 3",
			gone: []string{"product:3", "product:203", "product:slug:p3"}, stays: []string{"product:4"}, page: "/product-3", pageOut: "/product-4"},
		{name: "delete", sql: "DELETE FROM products WHERE id = 4",
			gone: []string{"product:4", "product:slug:p4"}, stays: []string{"product:5"}, page: "/product-4", pageOut: "/product-5"},
		{name: "rollback", sql: "BEGIN; UPDATE products SET name = 'y' WHERE id = 5; ROLLBACK; UPDATE categories SET name = 'y' WHERE id = 1",
			gone: []string{"category:1"}, stays: []string{"product:5", "product:slug:p5"}, page: "/category-1", pageOut: "/product-5"},
		{name: "savepoint rollback", sql: "BEGIN; UPDATE products SET name = 'z' WHERE id = 6; SAVEPOINT s; UPDATE products SET name = 'z' WHERE id = 7; ROLLBACK TO s; COMMIT",
			gone: []string{"product:6", "product:slug:p6"}, stays: []string{"product:7", "product:slug:p7"}, page: "/product-6", pageOut: "/product-7"},
		{name: "several tables", sql: "BEGIN; UPDATE products SET name = 'w' WHERE id = 8; DELETE FROM categories WHERE id = 2; INSERT INTO categories (id) VALUES (50); COMMIT",
			gone: []string{"product:8", "category:2", "category:50"}, stays: []string{"product:9", "category:3"}, page: "/category-2", pageOut: "/category-3"},
	} {
		t.Run(s.name, func(t *testing.T) {
			r.t, d.t = t, t
			r.fill(append(append([]string(nil), s.gone...), s.stays...), s.page, s.pageOut)
			since := last(r)
			r.exec(s.sql)
			d.wait(r.lsn(), 30*time.Second)
			require.Empty(t, r.held(s.gone...))
			require.Equal(t, s.stays, r.held(s.stays...))
			require.False(t, r.edge.Stored(r.edge.URL()+s.page))
			require.True(t, r.edge.Stored(r.edge.URL()+s.pageOut))
			require.NotEmpty(t, r.edge.Requests(since))
		})
	}
}

// last returns the newest request in the edge's log.
func last(r *rig) uint64 {
	reqs := r.edge.Requests(0)
	if len(reqs) == 0 {
		return 0
	}
	return reqs[len(reqs)-1].Seq
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec(`INSERT INTO products (id, slug) SELECT n, 'p' || n FROM generate_series(1, 5) n`)
	d := r.start()
	// on_truncate names a tag, which the edge takes; Valkey has the rule's own
	// patterns. Categories have no on_truncate: Valkey by patterns, the edge whole.
	r.fill([]string{"product:1", "product:slug:p1", "product:x", "category:1", "session:9"}, "/products", "/product-1", "/category-1")
	r.exec("TRUNCATE products")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"category:1", "session:9"}, r.held("product:1", "product:slug:p1", "product:x", "category:1", "session:9"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/products"))
	require.True(t, r.edge.Stored(r.edge.URL()+"/category-1"))

	r.exec("TRUNCATE categories")
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"session:9"}, r.held("category:1", "session:9"))
	require.Zero(t, r.edge.Objects(), "with no finer way, everything at the edge goes")
}

func TestTenThousandRowsInOneTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	const rows = 10000
	r.exec(`INSERT INTO products (id, slug) SELECT n, 'p' || n FROM generate_series(1, $1) n`, rows)
	d := r.start()
	cmds := make([]string, 0, rows)
	for n := 1; n <= rows; n++ {
		cmds = append(cmds, "product:"+strconv.Itoa(n))
	}
	r.fill(cmds, "/product-1", "/product-10000")
	r.fill([]string{"stays"})
	r.exec("UPDATE products SET name = 'bulk'")
	d.wait(r.lsn(), 60*time.Second)
	n, err := r.cache.Do(t.Context(), r.cache.B().Dbsize().Build()).AsInt64()
	require.NoError(t, err)
	require.Equal(t, int64(1), n, "every key of the transaction is gone, the other stays")
	require.Zero(t, r.edge.Objects())
}

// TestEdgeAfterCache holds the inner cache's purge and sees that the edge waits.
func TestEdgeAfterCache(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	px := newProxy(t, r.vk.Addr())
	r.valkeyURL = px.url()
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	release := px.hold()
	r.fill(nil, "/product-1")
	since := last(r)
	r.exec("UPDATE products SET name = 'b' WHERE id = 1")
	lsn := r.lsn()
	px.untilHeld("product:1")
	eventually(t, 30*time.Second, func() bool { return d.sink("edge").State == "gated" }, "the edge's lane waits for the cache")
	require.Empty(t, r.edge.Requests(since), "the edge must wait for Valkey")
	released := time.Now()
	release()
	d.wait(lsn, 30*time.Second)
	reqs := r.edge.Requests(since)
	require.NotEmpty(t, reqs)
	require.False(t, reqs[0].At.Before(released))
	require.Equal(t, fmt.Sprint([]string{"product-1"}), fmt.Sprint(reqs[0].Values))
}
