package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A reader that read before a change and writes after its purge is healed by the
// second one; a crash in between keeps it.
func TestSecondPurgeHealsALateFill(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.sinkExtra = "    second_purge: 4s"
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)

	r.exec("UPDATE products SET name = 'new' WHERE id = 1")
	d.wait(r.lsn(), 20*time.Second)
	<-time.After(100 * time.Millisecond)
	r.fill([]string{"product:1"}) // what the reader had read before
	eventually(t, 30*time.Second, func() bool { return len(r.held("product:1")) == 0 }, "the second purge")
	eventually(t, 30*time.Second, func() bool {
		return d.metric(`walpurge_lag_bytes{stage="settled",target="cache"}`) == "0" || d.sink("cache").Backlog == 0
	}, "settled")

	r.exec("UPDATE products SET name = 'newer' WHERE id = 1")
	d.wait(r.lsn(), 20*time.Second)
	d.kill()
	r.fill([]string{"product:1", "product:slug:a"})
	d = r.start()
	eventually(t, 30*time.Second, func() bool { return len(r.held("product:1", "product:slug:a")) == 0 }, "purged after the crash")
	r.fill([]string{"product:1"})
	eventually(t, 30*time.Second, func() bool { return len(r.held("product:1")) == 0 }, "and again")
	require.Equal(t, "0", d.metric(`walpurge_parked{sink="cache"}`))
}
