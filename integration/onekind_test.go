package integration

import (
	"net/http"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestOneKindFails: a Valkey that has no memory left takes deletes and no writes, so the counters of generations fail. The keys behind
// them are purged, which makes room in the end; the daemon says what fails, also after a restart, and raises
// the counters once it can.
func TestOneKindFails(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{catalog: `rules:
  - name: product
    table: public.products
    sinks: [cache]
    keys: ["product:{id}"]
    generations: ["catalog"]
`})
	r.sinkExtra = `    flush: {key_patterns: ["product:*"], generations: [catalog]}`
	admin := func(command ...string) string {
		t.Helper()
		text, err := r.cache.Do(t.Context(), r.cache.B().Arbitrary(command...).Build()).ToString()
		if err != nil {
			return err.Error()
		}
		return text
	}
	d := r.start()
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a'), (2, 'b'), (3, 'c')")
	d.wait(r.lsn(), hang)
	raised := admin("GET", "catalog")
	r.fill([]string{"product:1", "product:2", "product:3"})
	full := func() { admin("CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1") }
	full()
	for i, key := range []string{"product:1", "product:2"} {
		r.exec("UPDATE products SET name = 'b' WHERE id = $1", i+1)
		eventually(t, hang, func() bool { return len(r.held(key)) == 0 }, "keys are purged beside the generation that fails: "+key)
	}
	says := func(d *daemon) {
		t.Helper()
		says := regexp.MustCompile(` at cache: (not everything has been purged since the start, )?purges of generations fail since .* while other kinds are purged: `)
		eventually(t, hang, func() bool { s := d.status(); return !s.Fresh && says.MatchString(s.Summary) }, "the status says what fails")
		stuck := d.sink("cache").Stuck[0]
		require.Equal(t, "generation", stuck.Kind)
		require.Equal(t, 1, stuck.Values, "one counter, however many changes ask for it")
		require.Contains(t, stuck.Error, "OOM: the server is out of memory")
		require.Equal(t, "1", d.metric(`walpurge_stuck{kind="generation",sink="cache"}`))
		code, body := d.get("/api/v1/wait?lsn=" + r.lsn() + "&timeout=50ms")
		require.Equal(t, http.StatusGatewayTimeout, code, body)
		require.Contains(t, body, "purges of generations fail")
		require.Zero(t, d.sink("cache").Parked)
	}
	says(d)
	d.kill()
	d = r.start()
	r.exec("UPDATE products SET name = 'c' WHERE id = 3")
	eventually(t, hang, func() bool { return len(r.held("product:3")) == 0 }, "keys are purged after a restart, too")
	says(d)
	require.Equal(t, raised, admin("GET", "catalog"))
	admin("CONFIG", "SET", "maxmemory", "0")
	d.wait(r.lsn(), time.Minute)
	require.NotEqual(t, raised, admin("GET", "catalog"), "the counter is raised")
	require.Empty(t, d.sink("cache").Stuck)
	d.fresh()
	d.term()
}
