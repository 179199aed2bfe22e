package integration

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/harness"
)

// TestValkeyClusterWhileASlotMoves runs the daemon on a cluster of three and
// purges keys of all its nodes: before a slot moves, while some of its keys are
// here and some there, and when it has moved.
func TestValkeyClusterWhileASlotMoves(t *testing.T) {
	t.Parallel()
	const rows = 1000
	r := newRig(t, rigOptions{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := harness.StartValkeyCluster(ctx, r.path("cluster"), 3)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	r.valkeyURL = cluster.Nodes[0].URL()
	client, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{cluster.Nodes[0].Addr()}, DisableCache: true})
	require.NoError(t, err)
	t.Cleanup(client.Close)
	r.exec("INSERT INTO products (id, slug) SELECT n, 's' || n FROM generate_series(1, $1) n", rows)
	d := r.start()
	d.wait(r.lsn(), 20*time.Second)

	held := func(node *harness.Valkey) int {
		n, err := node.Ask(ctx, "DBSIZE")
		require.NoError(t, err)
		size, err := strconv.Atoi(n)
		require.NoError(t, err)
		return size
	}
	// The braces' text alone says the slot, so two keys share product:1's.
	shared := []string{"product:1", "product:slug:{product:1}"}
	r.exec("UPDATE products SET slug = '{product:1}' WHERE id = 2")
	d.wait(r.lsn(), 20*time.Second)
	fill := func() {
		cmds := make(valkey.Commands, 0, rows+1)
		for n := range rows {
			cmds = append(cmds, client.B().Set().Key(fmt.Sprintf("product:%d", n+1)).Value("v").Build())
		}
		cmds = append(cmds, client.B().Set().Key(shared[1]).Value("v").Build())
		for _, reply := range client.DoMulti(ctx, cmds...) {
			require.NoError(t, reply.Error())
		}
		for _, node := range cluster.Nodes {
			require.Greater(t, held(node), rows/5, "every node has its share")
		}
	}
	purged := func(when string) {
		r.exec("UPDATE products SET name = name || 'x'")
		d.wait(r.lsn(), 30*time.Second)
		for i, node := range cluster.Nodes {
			require.Zero(t, held(node), "%s: node %d", when, i)
		}
	}
	fill()
	purged("at rest")

	text, err := cluster.Nodes[0].Ask(ctx, "CLUSTER KEYSLOT product:1")
	require.NoError(t, err)
	slot, err := strconv.Atoi(text)
	require.NoError(t, err)
	from := slot * len(cluster.Nodes) / harness.ValkeySlots
	to := (from + 1) % len(cluster.Nodes)
	fill()
	require.NoError(t, cluster.BeginMove(ctx, slot, from, to))
	require.NoError(t, cluster.MoveKeys(ctx, from, to, shared[0]))
	purged("one key here, one there")

	require.NoError(t, cluster.EndMove(ctx, slot, from, to))
	fill()
	purged("moved")
}
