package router

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

var slugged = &cdc.Relation{
	OID: 2, Schema: "public", Name: "products", Identity: cdc.IdentityDefault,
	Columns: []cdc.Column{{Name: "id", TypeOID: 20, Key: true}, {Name: "slug", TypeOID: 25}},
}

// What replaces values that could not be built is in a batch once, however many changes lack some,
// with a period of its own; and what is to be parked has a count and no value.
func TestFallbacksAreMerged(t *testing.T) {
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}
	r, reg := newRouter(t, f, `
rules:
  - {name: product, table: public.products, keys: ["product:{id}", "product:slug:{slug}"], tags: ["product-{slug}"], every: 2s}
`, invalidation.KeyPattern)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	f.reset()
	tx := begin(5, 200)
	long := []byte(strings.Repeat("s", invalidation.MaxValue))
	const changes = 200
	for range changes {
		require.NoError(t, r.Change(t.Context(), tx, &cdc.Change{Op: cdc.Insert, Rel: slugged, New: cdc.Tuple{{Kind: cdc.Text, Data: []byte("7")}, {Kind: cdc.Text, Data: long}}}))
	}
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Len(t, f.batches, 2)
	cache, edge := f.batches[0], f.batches[1]
	require.Equal(t, []uint64{5}, edge.Stamp.XIDs)
	require.Len(t, cache.Items, 2)
	require.Equal(t, []string{"product:7"}, cache.Items[0].Values[invalidation.Key])
	require.Equal(t, "2s", cache.Items[0].Every.String())
	require.Equal(t, []string{"product:slug:*"}, cache.Items[1].Values[invalidation.KeyPattern])
	require.Equal(t, "1m0s", cache.Items[1].Every.String())
	require.Empty(t, cache.Items[1].Unbuilt)
	require.Equal(t, []invalidation.Unbuilt{{Template: "product-{slug}", Of: invalidation.Tag, Count: changes}}, edge.Items[0].Unbuilt)
	require.True(t, edge.Unbuilt())
	unknown, _ := metric(t, reg, "walpurge_rule_unknown_total", "product")
	require.InDelta(t, changes, unknown, 0)
}

// A large batch is cut by what its values take as JSON, and what is to be parked is in one part.
func TestLargeValuesAreSplit(t *testing.T) {
	b := &invalidation.Batch{Items: []invalidation.Item{{Rule: "x", Unbuilt: []invalidation.Unbuilt{{Template: "t", Count: 1}}}, {Rule: "y", Unbuilt: []invalidation.Unbuilt{{Template: "u", Count: 1}}}}}
	for range 10 {
		b.Items[0].Values[invalidation.Key] = append(b.Items[0].Values[invalidation.Key], strings.Repeat("\x01", invalidation.MaxValue))
	}
	parts := split(b)
	require.Len(t, parts, 10)
	unbuilt, values := 0, 0
	for _, p := range parts {
		for _, item := range p.Items {
			unbuilt += len(item.Unbuilt)
			values += len(item.Values[invalidation.Key])
		}
	}
	require.Equal(t, 10, values)
	require.Equal(t, 2, unbuilt)
}
