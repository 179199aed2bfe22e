package integration

import (
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/harness/edge"
)

const stormCatalog = `rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
    tags: ["product-{id}"]
    collapse: {over: 500, tags: [products]}
`

// TestStormAtALimitedEdge changes 5,000 rows in one statement, with an edge that
// takes a request of one tag a second: one by one that would be an hour.
func TestStormAtALimitedEdge(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{catalog: stormCatalog})
	const rows = 5000
	r.exec(`INSERT INTO products (id, slug) SELECT n, 'p' || n FROM generate_series(1, $1) n`, rows)
	addr := freeAddr(t)
	file := r.config(addr)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	r.write("walpurge.yaml", strings.Replace(string(text), "requests_per_second: 1000, burst: 1000", "requests_per_second: 1, burst: 1, items_per_request: 1", 1))
	d := r.spawn(addr, file, nil)
	d.untilStreaming()
	keys := []string{"stays", "product:6000"}
	for n := 1; n <= rows; n++ {
		keys = append(keys, "product:"+strconv.Itoa(n))
	}
	r.fill(keys, "/products", "/elsewhere")
	since := last(r)
	r.exec("UPDATE products SET name = 'bulk' WHERE id <= $1", rows)
	d.wait(r.lsn(), 60*time.Second)
	n, err := r.cache.Do(t.Context(), r.cache.B().Dbsize().Build()).AsInt64()
	require.NoError(t, err)
	require.Equal(t, int64(2), n)
	require.Equal(t, []string{"stays", "product:6000"}, r.held("stays", "product:6000"), "Valkey takes nothing of the step and is exact")
	require.False(t, r.edge.Stored(r.edge.URL()+"/products"))
	require.True(t, r.edge.Stored(r.edge.URL()+"/elsewhere"))
	reqs := r.edge.Requests(since)
	require.Len(t, reqs, 1)
	require.Equal(t, []string{"products"}, reqs[0].Values)
	require.Equal(t, strconv.Itoa(rows), d.metric(`walpurge_collapsed_total{rule="product",sink="edge"}`))
}

const pacedCatalog = `rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
    tags: ["product-{id}"]
    every: 1h
  - name: category
    table: public.categories
    keys: ["category:{id}"]
    tags: ["category-{id}"]
    every: 1s
`

// purgesOf lists the requests to the edge that named a tag.
func purgesOf(r *rig, tag string) []edge.Request {
	return slices.DeleteFunc(r.edge.Requests(0), func(q edge.Request) bool {
		return q.Status != http.StatusOK || !slices.Contains(q.Values, tag)
	})
}

// TestHotRows updates a row often: its purges are few, the last version is
// purged, and nothing else waits for it, neither there nor at the sink behind.
func TestHotRows(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{catalog: pacedCatalog})
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'hot'), (2, 'cold')")
	r.exec("INSERT INTO categories (id) VALUES (1)")
	d := r.start()
	before := time.Now()
	for n := range 50 {
		r.exec("UPDATE categories SET name = $1 WHERE id = 1", strconv.Itoa(n))
	}
	r.fill([]string{"category:1"})
	committed := time.Now()
	r.exec("UPDATE categories SET name = 'last' WHERE id = 1")
	d.wait(r.lsn(), 60*time.Second)
	purges := purgesOf(r, "category-1")
	require.True(t, purges[len(purges)-1].At.After(committed), "the last version is purged")
	require.LessOrEqual(t, len(purges), 2+int(time.Since(before).Seconds()), "51 changes")
	require.Empty(t, r.held("category:1"))

	r.exec("UPDATE products SET name = 'a' WHERE id = 1")
	d.wait(r.lsn(), 30*time.Second)
	require.Len(t, purgesOf(r, "product-1"), 1)
	r.fill([]string{"product:1", "product:2"})
	r.exec("UPDATE products SET name = 'b' WHERE id = 1")
	hot := r.lsn()
	r.exec("UPDATE products SET name = 'b' WHERE id = 2")
	eventually(t, 30*time.Second, func() bool { return len(purgesOf(r, "product-2")) > 0 }, "another value of the rule does not wait")
	require.Equal(t, []string{"product:1"}, r.held("product:1", "product:2"))
	require.Len(t, purgesOf(r, "product-1"), 1)
	code, _ := d.get("/api/v1/wait?timeout=1ms&lsn=" + hot)
	require.Equal(t, http.StatusGatewayTimeout, code, "what is put off is not purged, and nobody says so")

	// What is put off outlives the process, and a new one knows of no period.
	require.Less(t, d.term(), 20*time.Second)
	d = r.start()
	d.wait(hot, 30*time.Second)
	require.Len(t, purgesOf(r, "product-1"), 2)
	require.Empty(t, r.held("product:1"))
	require.Equal(t, "0", d.metric(`walpurge_gate_timeouts_total{sink="edge",gate="cache"}`))
}
