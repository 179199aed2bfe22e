package valkey

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// A command has one count for all its keys, so those of two rules never share one.
func TestHitsAreToldByRule(t *testing.T) {
	srv := startServer(t)
	existed, absent := map[string]int{}, map[string]int{}
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) {
		c.TagSets = []TagSet{{Key: "tag:{tag}"}}
		c.Hits = func(rule string, e, a int) {
			existed[rule] += e
			absent[rule] += a
		}
	})
	var batch []invalidation.Invalidation
	for i := range 1200 {
		rule := []string{"good", "wrong"}[i%2]
		key := fmt.Sprintf("%s:%d", rule, i)
		if rule == "good" {
			fill(t, srv.admin, key)
		}
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Key, Value: key, Rule: rule})
	}
	batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: "none", Rule: "tags"},
		invalidation.Invalidation{Kind: invalidation.KeyPattern, Value: "none:*", Rule: "flush"})
	require.NoError(t, s.Purge(t.Context(), batch))
	require.Equal(t, map[string]int{"good": 600, "wrong": 0}, existed)
	require.Equal(t, map[string]int{"good": 0, "wrong": 600}, absent)
	require.Empty(t, allKeys(t, srv.admin))

	require.NoError(t, s.Purge(t.Context(), batch[:1]))
	require.Equal(t, 1, absent["good"], "it is gone by now")
}
