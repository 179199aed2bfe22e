package router

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const askingTenants = `
rules:
  - name: order
    table: "tenant_{tenant}.orders"
    lookup: {m: {sql: "SELECT store_id FROM s WHERE id = $1 AND tenant = $2", args: ["{id}", "{tenant}"]}}
    tags: ["{tenant}-store-{m.store_id}"]
    unknown: {tags: [stores]}
    on_truncate: {tags: ["orders"]}
`

func order(t *testing.T, r *Router, tx *cdc.Txn, tenant string) {
	t.Helper()
	rel := orders(tenant, idColumn)
	require.NoError(t, r.Change(t.Context(), tx, &cdc.Change{Op: cdc.Insert, Rel: rel, New: cdc.Tuple{{Kind: cdc.Text, Data: []byte("1")}}}))
}

// TestTableGapBesideLookups: a table that entered the publication is purged at once,
// without asking, and what waits for answers has them before the claim.
func TestTableGapBesideLookups(t *testing.T) {
	r, o, _ := asking(t, map[string][]string{"1": {"7"}})
	r.use(parse(t, askingTenants))
	tx := begin(5, 200)
	order(t, r, tx, "a")
	order(t, r, tx, "b")
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	tx = begin(6, 300)
	require.NoError(t, r.TableGap(t.Context(), tx, cdc.TableGap{Tables: tables(orders("c"))}))
	require.Equal(t, []string{"edge everything"}, purged(o.fake), "a gap is no TRUNCATE")
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish edge", "resolve", "publish edge", "claim 0/134"}, o.calls)
	require.Equal(t, []string{"edge everything", "edge tag a-store-7", "edge tag b-store-7"}, purged(o.fake))
	require.Equal(t, [][]string{{"1", "a", "1", "b"}}, o.asked, "each with the captures of its table")
}

// TestReloadWaitsForTablesAndAnswers: neither alone lets new rules begin.
func TestReloadWaitsForTablesAndAnswers(t *testing.T) {
	r, o, _ := asking(t, map[string][]string{"1": {"7"}})
	r.use(parse(t, askingTenants))
	old := r.set
	order(t, r, begin(5, 200), "a")
	next := &reload{set: parse(t, productRules), done: make(chan struct{}), held: true}
	r.pending = next
	require.NoError(t, r.Commit(t.Context(), end(begin(5, 200))))
	require.Same(t, old, r.set)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Same(t, old, r.set, "the tables of the new rules are not published")
	require.Equal(t, map[string][]string{"order": {"a-store-7"}}, values(o.batches[0], invalidation.Tag))

	order(t, r, begin(6, 300), "a")
	next.held = false
	require.NoError(t, r.Commit(t.Context(), end(begin(6, 300))))
	require.Same(t, old, r.set, "answers are filled in by the rules that asked")
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Same(t, next.set, r.set)
	<-next.done
}
