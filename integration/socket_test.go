package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestByUnixSocket: where the URL names a Unix socket, every connection goes by it, a
// backlog as well as a fresh commit.
func TestByUnixSocket(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	r.pgURL = r.pg.SocketURL("app")
	r.exec("INSERT INTO products (id, slug) SELECT n, repeat('s', 300) || n FROM generate_series(1, 3000) n")
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)
	var byTCP int
	require.NoError(t, r.db.QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'walpurge%' AND client_addr IS NOT NULL").Scan(&byTCP))
	require.Zero(t, byTCP)
	require.NotZero(t, r.walsender())

	r.fill([]string{"product:7", "stays"})
	r.exec("UPDATE products SET ver = ver + 1 WHERE id = 7")
	d.wait(r.lsn(), 20*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:7", "stays"))
	d.term()

	r.fill([]string{"product:1", "product:3000", "stays"})
	for range 10 {
		r.exec("UPDATE products SET ver = ver + 1")
	}
	d = r.start()
	d.wait(r.lsn(), 30*time.Second)
	require.Equal(t, []string{"stays"}, r.held("product:1", "product:3000", "stays"))
}
