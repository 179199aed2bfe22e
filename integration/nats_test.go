package integration

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/router/stream/embedded"
)

// TestExternalServer keeps the stream on a server that is not the daemon's. With
// one replica nobody vouches for its disk, so PostgreSQL may forget only what is
// purged.
func TestExternalServer(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{})
	listen := freeAddr(t)
	server, err := embedded.Start(embedded.Config{
		Dir: filepath.Join(r.dir, "nats"), Listen: listen, TokenFile: r.path("token"), MaxStore: 4 << 30,
	}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(server.Close)
	r.extra = fmt.Sprintf("nats: {url: 'nats://%s@%s', replicas: 1}", edgeToken, listen)
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'a')")
	d := r.start()
	d.wait(r.lsn(), 30*time.Second)
	_, err = os.Stat(r.path("data"))
	require.ErrorIs(t, err, os.ErrNotExist, "the daemon needs no directory of its own")

	r.fill([]string{"product:1", "product:2"}, "/product-1")
	r.exec("UPDATE products SET name = 'b' WHERE id = 1")
	lsn := r.lsn()
	d.wait(lsn, 30*time.Second)
	require.Equal(t, []string{"product:2"}, r.held("product:1", "product:2"))
	require.False(t, r.edge.Stored(r.edge.URL()+"/product-1"))
	eventually(t, 30*time.Second, func() bool {
		var confirmed bool
		err := r.db.QueryRow(t.Context(), "SELECT confirmed_flush_lsn >= $1::pg_lsn FROM pg_replication_slots WHERE slot_name = 'walpurge_app'", lsn).Scan(&confirmed)
		return err == nil && confirmed
	}, "what is purged is confirmed")
	d.kill()
	r.fill([]string{"product:1"})
	r.exec("UPDATE products SET name = 'c' WHERE id = 1")
	d = r.start()
	d.wait(r.lsn(), 30*time.Second)
	require.Empty(t, r.held("product:1"))
	d.term()
}
