package harness

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestValkeyCluster(t *testing.T) {
	ctx := testContext(t)
	c, err := StartValkeyCluster(ctx, "", 2)
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	ask := func(node int, command string) string {
		t.Helper()
		reply, err := c.Nodes[node].Ask(ctx, command)
		require.NoError(t, err)
		return reply
	}
	require.Equal(t, "9497", ask(0, "CLUSTER KEYSLOT b{moves}"))
	ask(1, "SET a{moves} 1")
	ask(1, "SET b{moves} 2")
	require.NoError(t, c.BeginMove(ctx, 9497, 1, 0))
	require.NoError(t, c.MoveKeys(ctx, 1, 0, "a{moves}"))
	_, err = c.Nodes[1].Ask(ctx, "GET a{moves}")
	require.ErrorContains(t, err, "ASK 9497 "+c.Nodes[0].Addr())
	require.Equal(t, "2", ask(1, "GET b{moves}"))
	require.NoError(t, c.MoveKeys(ctx, 1, 0, "b{moves}"))
	require.NoError(t, c.EndMove(ctx, 9497, 1, 0))
	require.Equal(t, "2", ask(0, "GET b{moves}"))
	_, err = c.Nodes[1].Ask(ctx, "GET b{moves}")
	require.ErrorContains(t, err, "MOVED 9497 "+c.Nodes[0].Addr())
}
