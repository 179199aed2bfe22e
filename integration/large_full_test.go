//go:build full

package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// peak is the most memory that the daemon has had, in MiB.
func (d *daemon) peak() int {
	d.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	require.NoError(d.t, err)
	_, rest, _ := strings.Cut(string(b), "VmHWM:")
	kib, err := strconv.Atoi(strings.Fields(rest)[0])
	require.NoError(d.t, err)
	return kib >> 10
}

// TestLargeValuesCostNoMemory: values of 200 MB that no rule reads do not raise the daemon's peak by a
// tenth of one, with either identity.
func TestLargeValuesCostNoMemory(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{
		schema: schema + `
ALTER TABLE products ADD body text;
CREATE TABLE pages (id bigint PRIMARY KEY, body text);`,
		catalog: catalog + `
  - name: page
    table: public.pages
    keys: ["page:{id}"]
    tags: ["page-{id}"]
`,
	})
	d := r.start()
	r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, 5000) n")
	d.wait(r.lsn(), 60*time.Second)
	r.fill([]string{"product:1", "page:1"})
	control := d.peak()
	const value = "repeat('0123456789', 20 << 20)"
	r.exec("INSERT INTO pages VALUES (1, " + value + ")")
	d.wait(r.lsn(), 120*time.Second)
	byKey := d.peak()
	r.exec("UPDATE products SET body = " + value + " WHERE id = 1")
	r.exec("UPDATE products SET body = '-' || body WHERE id = 1")
	d.wait(r.lsn(), 120*time.Second)
	full := d.peak()
	t.Logf("peak in MiB: %d before, %d with identity DEFAULT, %d with FULL", control, byKey, full)
	require.Less(t, full-control, 20)
	require.Empty(t, r.held("product:1", "page:1"))
	d.fresh()
}

// TestValuesThatTheServerCannotSend: the text of a bytea of 520 MB, and that of two values together, are
// larger than the server can make. Their transactions are skipped and flushed for, once for all that
// the log has by then, and the pipeline goes on.
func TestValuesThatTheServerCannotSend(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{
		schema: schema + `
ALTER TABLE categories ADD photo bytea, ADD second bytea;`,
	})
	d := r.start()
	r.exec("INSERT INTO categories VALUES (1, 'a')")
	d.wait(r.lsn(), 20*time.Second)
	r.fill([]string{"category:1", "category:2", "product:1", "stays"}, "/category-1")
	const mebibyte = "repeat('0123456789abcdef', 1 << 16)"
	r.exec("UPDATE categories SET photo = (SELECT string_agg(" + mebibyte + "::bytea, '') FROM generate_series(1, 520)) WHERE id = 1")
	r.exec("INSERT INTO categories (id, name) VALUES (2, 'b')")
	eventually(t, 120*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="undecodable"}`) == "1" }, "the gap is told")
	d.untilStreaming()
	d.wait(r.lsn(), 60*time.Second)
	require.Equal(t, []string{"stays"}, r.held("category:1", "category:2", "product:1", "stays"))
	require.Zero(t, r.edge.Objects())
	d.fresh()
	d.logged("the server cannot decode a transaction")

	r.exec("UPDATE categories SET (photo, second) = (SELECT string_agg(" + mebibyte + "::bytea, ''), string_agg(" + mebibyte + "::bytea, '') FROM generate_series(1, 300)) WHERE id = 2")
	eventually(t, 120*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="undecodable"}`) == "2" }, "the gap is told")
	r.fill([]string{"category:2"})
	r.exec("UPDATE categories SET name = 'c' WHERE id = 2")
	eventually(t, 120*time.Second, func() bool {
		d.wait(r.lsn(), 60*time.Second)
		return len(r.held("category:2")) == 0
	}, "the change behind it is purged, or flushed")
	d.fresh()
}
