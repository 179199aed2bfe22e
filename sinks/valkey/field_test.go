package valkey

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func fieldsOf(rule, key string, names ...string) []invalidation.Invalidation {
	var batch []invalidation.Invalidation
	for _, name := range names {
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Field, Value: invalidation.JoinField(key, name), Rule: rule})
	}
	return batch
}

func TestFields(t *testing.T) {
	srv := startServer(t)
	existed, absent := map[string]int{}, map[string]int{}
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) {
		c.KeyPrefix = "app:"
		c.Hits = func(rule string, e, a int) {
			existed[rule] += e
			absent[rule] += a
		}
	})
	left := func(key string) []string {
		names, err := do(t, srv.admin, "HKEYS", key).AsStrSlice()
		require.NoError(t, err)
		return names
	}

	// Bytes as they are, the prefix before the key and not before the field, and nothing else.
	do(t, srv.admin, "HSET", "app:products", "7", "a", "70", "b", "", "c", "a\x00b\xff", "d", "*", "e")
	do(t, srv.admin, "HSET", "products", "7", "a")
	do(t, srv.admin, "HSET", "app:a\x00", "\x01", "a")
	require.NoError(t, s.Purge(t.Context(), append(fieldsOf("r", "products", "7", "", "a\x00b\xff", "gone", "?"), fieldsOf("r", "a\x00", "\x01")...)))
	require.ElementsMatch(t, []string{"70", "*"}, left("app:products"))
	require.Equal(t, []string{"7"}, left("products"))
	require.Empty(t, left("app:a\x00"))
	require.Equal(t, 4, existed["r"])
	require.Equal(t, 2, absent["r"])

	// Many of one hash share a command, and two rules never do.
	var names []string
	for i := range 1200 {
		names = append(names, fmt.Sprint(i))
		do(t, srv.admin, "HSET", "app:many", fmt.Sprint(i), "x")
	}
	calls := func() int64 {
		text, err := do(t, srv.admin, "INFO", "commandstats").ToString()
		require.NoError(t, err)
		var n int64
		_, rest, found := strings.Cut(text, "cmdstat_hdel:calls=")
		require.True(t, found, text)
		_, err = fmt.Sscanf(rest, "%d", &n)
		require.NoError(t, err)
		return n
	}
	before := calls()
	require.NoError(t, s.Purge(t.Context(), append(fieldsOf("many", "many", names[:1100]...), fieldsOf("other", "many", names[1100:]...)...)))
	require.EqualValues(t, 4, calls()-before)
	require.Equal(t, 1100, existed["many"])
	require.Equal(t, 100, existed["other"])
	require.Empty(t, left("app:many"))

	// A key that is no hash is the fault of its values alone.
	do(t, srv.admin, "SET", "app:text", "x")
	do(t, srv.admin, "HSET", "app:hash", "7", "x")
	var be *sinks.BatchError
	require.ErrorAs(t, s.Purge(t.Context(), append(fieldsOf("r", "text", "1", "2"), fieldsOf("r", "hash", "7")...)), &be)
	require.Len(t, be.Failed, 2)
	for _, place := range []int{0, 1} {
		class, _ := sinks.ClassOf(be.Failed[place])
		require.Equal(t, sinks.Item, class)
		require.ErrorIs(t, be.Failed[place], errNoHash)
	}
	require.Empty(t, left("app:hash"))
}

func TestFieldsInACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	admin := clusterAdmin(t, nodes[0])
	s := openSink(t, "valkey://"+nodes[0].addr, nil, nil)
	var batch []invalidation.Invalidation
	for i := range 900 {
		key := fmt.Sprintf("products:%d", i%300)
		for _, name := range []string{"stays", fmt.Sprint(i)} {
			require.NoError(t, admin.Do(t.Context(), admin.B().Hset().Key(key).FieldValue().FieldValue(name, "x").Build()).Error())
		}
		batch = append(batch, fieldsOf("r", key, fmt.Sprint(i))...)
	}
	require.NoError(t, s.Purge(t.Context(), batch))
	for i := range 300 {
		names, err := admin.Do(t.Context(), admin.B().Hkeys().Key(fmt.Sprintf("products:%d", i)).Build()).AsStrSlice()
		require.NoError(t, err)
		require.Equal(t, []string{"stays"}, names)
	}
}
