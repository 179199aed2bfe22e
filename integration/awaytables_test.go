package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTablesThatLeftWhileNobodyLooked: while no daemon runs, a table is taken out of the
// publication, changed, and put back. Its changes are not in the stream, so what rules
// made of the table is purged at the next start, once, and nothing else.
func TestTablesThatLeftWhileNobodyLooked(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.exec("INSERT INTO categories (id) VALUES (1)")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	// A second look has seen the publication as it is.
	eventually(t, 30*time.Second, func() bool { return d.metric("walpurge_slot_retained_bytes") != "" }, "the heartbeat looks")
	d.term()
	r.exec("ALTER PUBLICATION walpurge_app DROP TABLE categories")
	r.exec("UPDATE categories SET name = 'unseen' WHERE id = 1")
	r.exec("ALTER PUBLICATION walpurge_app ADD TABLE categories")
	r.fill([]string{"category:1", "product:1"}, "/product-1")
	d = r.start()
	eventually(t, 30*time.Second, func() bool { return d.metric(`walpurge_gaps_total{reason="table"}`) == "1" }, "the gap is found")
	eventually(t, 30*time.Second, func() bool { return len(r.held("category:1")) == 0 }, "what the rule can have made of it is purged")
	require.Equal(t, []string{"product:1"}, r.held("product:1"), "another table's is not")
	d.fresh()
	d.term()

	r.fill([]string{"category:1"})
	d = r.start()
	d.wait(r.lsn(), 20*time.Second)
	d.fresh()
	require.Equal(t, "0", d.metric(`walpurge_gaps_total{reason="table"}`), "once")
	require.Equal(t, []string{"category:1"}, r.held("category:1"))
}
