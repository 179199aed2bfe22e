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
