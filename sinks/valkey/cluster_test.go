package valkey

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// startCluster starts n primaries that share the slots evenly.
func startCluster(t *testing.T, n int) []*server {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	cluster, err := harness.StartValkeyCluster(ctx, "", n)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Close()) })
	nodes := make([]*server, n)
	for i, node := range cluster.Nodes {
		nodes[i] = &server{addr: node.Addr(), admin: adminOf(t, node.Addr(), "")}
	}
	return nodes
}

// clusterAdmin is a client that writes to whichever node owns the key.
func clusterAdmin(t *testing.T, node *server) valkey.Client {
	c, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{node.addr}, DisableCache: true})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.Equal(t, valkey.ClientModeCluster, c.Mode())
	return c
}

func heldAnywhere(t *testing.T, nodes []*server) []string {
	var keys []string
	for _, n := range nodes {
		keys = append(keys, allKeys(t, n.admin)...)
	}
	return keys
}

func TestCluster(t *testing.T) {
	nodes := startCluster(t, 3)
	admin := clusterAdmin(t, nodes[0])
	urls := map[string]string{
		"one host":      "valkey://" + nodes[0].addr,
		"several hosts": "valkey://" + nodes[1].addr + "," + nodes[2].addr,
	}
	for name, url := range urls {
		t.Run(name, func(t *testing.T) {
			s := openSink(t, url, nil, withTags("app:", TagSet{Key: "tag:{tag}"}, TagSet{Layout: "laravel"}, TagSet{Layout: "symfony"}))
			require.NoError(t, s.Check(t.Context()))
			require.NoError(t, s.Probe(t.Context()))
			require.NotContains(t, strings.Join(heldAnywhere(t, nodes), " "), "walpurge-probe")
			var batch []invalidation.Invalidation
			var keys []string
			for i := range 2500 {
				v := fmt.Sprintf("product:%d", i)
				batch = append(batch, invalidation.Invalidation{Kind: invalidation.Key, Value: v})
				keys = append(keys, "app:"+v)
			}
			fill(t, admin, keys...)
			fill(t, admin, "app:user:1", "product:1")
			require.NoError(t, s.Purge(t.Context(), batch))
			require.ElementsMatch(t, []string{"app:user:1", "product:1"}, heldAnywhere(t, nodes))

			fill(t, admin, keys...)
			require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{pattern("product:*")}))
			require.ElementsMatch(t, []string{"app:user:1", "product:1"}, heldAnywhere(t, nodes))

			require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.Everything}}))
			require.Equal(t, []string{"product:1"}, heldAnywhere(t, nodes))
		})
	}
}

// A slot that has moved is followed, and a node that is gone fails its keys only.
func TestClusterThatChanges(t *testing.T) {
	nodes := startCluster(t, 3)
	admin := clusterAdmin(t, nodes[0])
	s := openSink(t, "valkey://"+nodes[0].addr, nil, nil)
	require.NoError(t, s.Purge(t.Context(), keysOf("warm")))

	slot, err := do(t, nodes[0].admin, "CLUSTER", "KEYSLOT", "moved").AsInt64()
	require.NoError(t, err)
	from := int(slot) * len(nodes) / harness.ValkeySlots
	to := (from + 1) % len(nodes)
	id, err := do(t, nodes[to].admin, "CLUSTER", "MYID").ToString()
	require.NoError(t, err)
	for _, i := range []int{to, from} {
		do(t, nodes[i].admin, "CLUSTER", "SETSLOT", strconv.FormatInt(slot, 10), "NODE", id)
	}
	fill(t, nodes[to].admin, "moved")
	require.NoError(t, s.Purge(t.Context(), keysOf("moved")))
	require.Empty(t, heldAnywhere(t, nodes))

	var keys []string
	for i := range 30 {
		keys = append(keys, fmt.Sprintf("k:%d", i))
	}
	fill(t, admin, keys...)
	do(t, nodes[2].admin, "ACL", "SETUSER", "default", "-unlink")
	err = s.Purge(t.Context(), keysOf(keys...))
	var be *sinks.BatchError
	require.True(t, errors.As(err, &be), "%v", err)
	left := allKeys(t, nodes[2].admin)
	require.NotEmpty(t, left)
	require.ElementsMatch(t, left, heldAnywhere(t, nodes))
	require.Len(t, be.Failed, len(left))
}

// A node that was never met does not know its own address, and a user who may
// not read the slot table is told so.
func TestClusterOfOne(t *testing.T) {
	node := startCluster(t, 1)[0]
	s := openSink(t, "valkey://"+node.addr, nil, nil)
	require.NoError(t, s.Check(t.Context()))
	fill(t, node.admin, "a:1", "a:2", "b")
	require.NoError(t, s.Purge(t.Context(), append(keysOf("b"), pattern("a:*"))))
	require.Empty(t, allKeys(t, node.admin))

	do(t, node.admin, append(append([]string{"ACL", "SETUSER", "walpurge", "on", ">pw"}, leastPrivilege()...), "-cluster|slots", "-cluster|shards")...)
	s = openSink(t, "valkey://walpurge:pw@"+node.addr, nil, nil)
	requireLane(t, s.Purge(t.Context(), keysOf("a")), "slot table")
	do(t, node.admin, "ACL", "SETUSER", "walpurge", "+cluster|slots", "+cluster|shards")
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
}
