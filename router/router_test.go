package router

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// transaction hands over a whole transaction with one row for each id.
func transaction(t testing.TB, r *Router, tx *cdc.Txn, ids ...int) {
	t.Helper()
	for _, id := range ids {
		require.NoError(t, r.Change(context.Background(), tx, insert(id)))
	}
	require.NoError(t, r.Commit(context.Background(), end(tx)))
}

func TestRestPublishesAndClaimsWholeTransactions(t *testing.T) {
	r, f := started(t, productRules)
	transaction(t, r, begin(5, 200), 1, 2)
	transaction(t, r, begin(6, 300), 2, 3)
	require.Empty(t, f.calls, "nothing goes before the reader rests")
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/134"}, f.calls)
	require.Equal(t, []string{"product:1", "product:2", "product:3"}, f.batches[0].Items[0].Values[invalidation.Key])
	require.Equal(t, []string{"product-1", "product-2", "product-3"}, f.batches[1].Items[0].Values[invalidation.Tag])
	require.Equal(t, []uint64{5, 6}, f.batches[1].Stamp.XIDs)
	require.Equal(t, at(308), f.claims[0].Position)
	require.Equal(t, epoch.Add(6*time.Second), f.claims[0].CommitTime)
	f.reset()
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Empty(t, f.calls, "nothing new")
}

func TestNoClaimWhileATransactionIsOpen(t *testing.T) {
	r, f := started(t, productRules)
	transaction(t, r, begin(5, 200), 1)
	open := begin(6, 300)
	require.NoError(t, r.Change(t.Context(), open, insert(2)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{Urgent: true}))
	require.Empty(t, f.calls)

	// A reader that is always busy rests in the middle of transactions only, so
	// the end of one does what its rest would have done.
	require.NoError(t, r.Commit(t.Context(), end(open)))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/134"}, f.calls)
	f.reset()
	transaction(t, r, begin(7, 400), 3)
	require.Empty(t, f.calls, "once")
}

// A stop in the middle of a transaction leaves that one to the next session, and
// nothing else.
func TestTheLastRestLeavesOnlyTheOpenTransaction(t *testing.T) {
	r, f := started(t, productRules)
	transaction(t, r, begin(5, 200), 1)
	require.NoError(t, r.Change(t.Context(), begin(6, 300), insert(2)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Empty(t, f.calls)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{Last: true}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/D0"}, f.calls)
	require.Contains(t, f.batches[0].Items[0].Values[invalidation.Key], "product:1")
}

func TestATransactionBeyondABatchGoesInPartsAndIsClaimedOnce(t *testing.T) {
	r, f := started(t, productRules)
	transaction(t, r, begin(5, 200), 1)
	open := begin(6, 300)
	for id := range 2*maxValues + 10 {
		require.NoError(t, r.Change(t.Context(), open, insert(id)))
	}
	require.Equal(t, []string{"publish cache", "publish edge", "publish cache", "publish edge"}, f.calls)
	for _, b := range f.batches {
		require.Equal(t, at(301), b.Stamp.Position, "just into the commit record")
	}
	require.Equal(t, []uint64{5, 6}, f.batches[0].Stamp.XIDs)
	require.Equal(t, []uint64{6}, f.batches[2].Stamp.XIDs)
	f.reset()
	require.NoError(t, r.Commit(t.Context(), end(open)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/134"}, f.calls)
	require.Equal(t, at(308), f.batches[0].Stamp.Position)
}

// A sink's batch is in the stream before that of a sink after it, for the same
// rows: a sink that waits for another finds what to wait for before itself.
func TestWhatOneSinkFillsGoesForAllInTheirOrder(t *testing.T) {
	r, f := started(t, `
rules:
  - name: page
    table: public.products
    keys: ["page"]
    tags: ["product-{id}"]
`)
	open := begin(6, 300)
	for id := range maxValues {
		require.NoError(t, r.Change(t.Context(), open, insert(id)))
	}
	require.Equal(t, []string{"publish cache", "publish edge"}, f.calls)
	require.Equal(t, []string{"page"}, f.batches[0].Items[0].Values[invalidation.Key])
}

func TestIdleLineIsClaimedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, f := started(t, productRules)
		rest := func(lsn cdc.LSN, urgent bool) []string {
			f.reset()
			require.NoError(t, r.Rest(t.Context(), cdc.Rest{Idle: lsn, Urgent: urgent}))
			return f.calls
		}
		time.Sleep(999 * time.Millisecond)
		require.Empty(t, rest(110, false))
		time.Sleep(time.Millisecond)
		require.Equal(t, []string{"claim 0/6F"}, rest(111, false))
		require.Equal(t, time.Now(), f.claims[0].CommitTime)
		require.Empty(t, rest(112, false), "too soon")
		require.Equal(t, []string{"claim 0/71"}, rest(113, true), "the server waits for an answer")
		require.Empty(t, rest(113, true), "nothing new to say")
		time.Sleep(time.Minute)
		require.Empty(t, rest(113, false))
		require.Empty(t, rest(0, false))
		transaction(t, r, begin(5, 200))
		require.Equal(t, []string{"claim 0/D0"}, rest(205, false), "a commit at once, and not less than it")
	})
}

func TestTruncateWithoutAWayIsAFlush(t *testing.T) {
	r, f := started(t, productRules)
	tx := begin(5, 200)
	require.NoError(t, r.Change(t.Context(), tx, &cdc.Change{Op: cdc.Truncate, Rel: products}))
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/D0"}, f.calls)
	edge := f.batches[1]
	require.True(t, edge.Flush)
	require.Equal(t, "truncate", edge.Reason)
	require.Equal(t, []uint64{5}, edge.Stamp.XIDs)
}

func TestUnwatchedTablesCostNothing(t *testing.T) {
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}}
	r, reg := newRouter(t, f, productRules)
	other := &cdc.Relation{OID: 2, Schema: "public", Name: "audit", Columns: []cdc.Column{{Name: "id"}}}
	c := &cdc.Change{Op: cdc.Insert, Rel: other, New: cdc.Tuple{{Kind: cdc.Text, Data: []byte("1")}}}
	tx := begin(5, 200)
	require.NoError(t, r.Change(t.Context(), tx, c))
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = r.Change(context.Background(), tx, c) }))
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"claim 0/D0"}, f.calls)
	_, n := metric(t, reg, "walpurge_changes_total")
	require.Equal(t, 4, n, "the watched table's operations only")
}

func TestChangesAreCounted(t *testing.T) {
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}}
	r, reg := newRouter(t, f, productRules)
	transaction(t, r, begin(5, 200), 1, 1, 2)
	for name, labels := range map[string][]string{
		"walpurge_changes_total":            {"insert", "public.products"},
		"walpurge_rule_matches_total":       {"product"},
		"walpurge_rule_invalidations_total": {"product", "edge"},
		"walpurge_invalidations_total":      {"key", "cache"},
	} {
		n, _ := metric(t, reg, name, labels...)
		require.InDelta(t, 3, n, 0, "%s, before deduplication", name)
	}
}

func TestFailureToPublishEndsTheSession(t *testing.T) {
	r, f := started(t, productRules)
	f.fail = map[string]error{"publish": errFake}
	transaction(t, r, begin(5, 200), 1)
	require.ErrorIs(t, r.Rest(t.Context(), cdc.Rest{}), errFake)
	require.Equal(t, []string{"publish cache"}, f.calls, "no claim after it")
}

const newRules = `
rules:
  - name: renamed
    table: public.products
    keys: ["new:{id}"]
`

// reloading starts a reload and waits until the router knows of it.
func reloading(t *testing.T, r *Router, yaml string) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	set := parse(t, yaml)
	go func() { done <- r.Reload(t.Context(), set, published) }()
	require.Eventually(t, func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.pending != nil
	}, 30*time.Second, time.Millisecond)
	return done
}

func TestReloadWaitsForTheEndOfATransaction(t *testing.T) {
	r, f := started(t, productRules)
	open := begin(5, 200)
	require.NoError(t, r.Change(t.Context(), open, insert(1)))
	done := reloading(t, r, newRules)
	require.NoError(t, r.Change(t.Context(), open, insert(2)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.NoError(t, r.Change(t.Context(), open, insert(3)))
	select {
	case err := <-done:
		t.Fatalf("new rules in the middle of a transaction: %v", err)
	default:
	}
	require.NoError(t, r.Commit(t.Context(), end(open)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.NoError(t, <-done)
	require.Equal(t, []string{"product:1", "product:2", "product:3"}, f.batches[0].Items[0].Values[invalidation.Key])

	f.reset()
	transaction(t, r, begin(6, 300), 4)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "claim 0/134"}, f.calls)
	require.Equal(t, []string{"new:4"}, f.batches[0].Items[0].Values[invalidation.Key])
	require.Equal(t, "renamed", f.batches[0].Items[0].Rule)
}

func TestReloadLosesNoValueThatWasBuilt(t *testing.T) {
	r, f := started(t, productRules)
	transaction(t, r, begin(5, 200), 1)
	done := reloading(t, r, newRules)
	transaction(t, r, begin(6, 300), 2) // a boundary, and values that wait
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.NoError(t, <-done)
	require.Equal(t, []string{"product:1", "product:2"}, f.batches[0].Items[0].Values[invalidation.Key])
}

func TestReloadThatWasGivenUpNeverComesIntoService(t *testing.T) {
	r, f := started(t, productRules)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, r.Reload(ctx, parse(t, newRules), published), context.Canceled)
	transaction(t, r, begin(5, 200), 1)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"product:1"}, f.batches[0].Items[0].Values[invalidation.Key])
}

// Whatever the order of changes, commits, rests and reloads: a claim covers
// whole transactions only, and everything below it was published before it.
func TestClaimsCoverWhatWasPublished(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}}
		r, _ := newRouter(t, f, productRules)
		require.NoError(t, r.Start(context.Background(), cdc.Session{Start: at(100), End: 1000}))
		commit, id := cdc.LSN(100), 0
		ends := map[cdc.LSN]bool{100: true}
		wanted := map[string]cdc.LSN{} // value -> end of its transaction, until it is published
		var tx *cdc.Txn
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.IntRange(0, 5).Draw(t, "step") {
			case 0, 1, 2:
				if tx == nil {
					commit += 50
					tx = begin(uint64(commit), commit)
				}
				rows := rapid.IntRange(1, 3).Draw(t, "rows")
				if rapid.IntRange(0, 99).Draw(t, "large") == 0 {
					rows = maxValues
				}
				for range rows {
					id++
					wanted[fmt.Sprintf("product:%d", id)] = tx.Commit + 8
					require.NoError(t, r.Change(context.Background(), tx, insert(id)))
				}
			case 3:
				if tx != nil {
					require.NoError(t, r.Commit(context.Background(), end(tx)))
					ends[tx.End] = true
					tx = nil
				}
			default:
				require.NoError(t, r.Rest(context.Background(), cdc.Rest{}))
			}
			for _, b := range f.batches {
				for _, inv := range b.Invalidations(nil) {
					delete(wanted, inv.Value)
				}
			}
			for _, c := range f.claims {
				require.True(t, ends[c.Position.LSN], "claim of %s lies inside a transaction", c.Position)
				for value, end := range wanted {
					require.Greater(t, end, c.Position.LSN, "%s claimed and not published", value)
				}
			}
			f.reset()
		}
	})
}

// Rules that come while nothing streams are in service with the next session.
func TestReplaceWithoutASession(t *testing.T) {
	f := &fake{}
	r, _ := newRouter(t, f, productRules)
	done := r.Replace(parse(t, newRules))
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000, SlotCreated: true}))
	<-done
}

// TestReadsOfTheRulesInService: what may be left out of a large message is judged by the rules that
// evaluate it, though they come into service just then.
func TestReadsOfTheRulesInService(t *testing.T) {
	r, _ := started(t, `
rules:
  - {name: product, table: public.products, when: 'changed(stock)', keys: ["product:{id}"]}
`)
	rel := &cdc.Relation{OID: 1, Schema: "public", Name: "products", Columns: []cdc.Column{{Name: "body"}, {Name: "id"}, {Name: "stock"}, {Name: "slug"}}}
	other := &cdc.Relation{OID: 2, Schema: "public", Name: "others", Columns: []cdc.Column{{Name: "id"}}}
	tx := begin(7, 190)
	require.Equal(t, []bool{false, true, true, false}, r.Reads(tx, rel))
	require.Empty(t, r.Reads(tx, other))
	require.NotNil(t, r.Reads(tx, other), "nil would be all columns")
	require.Zero(t, r.Hears(tx, "cache.purge"))

	done := r.Replace(parse(t, `
rules:
  - {name: product, table: public.products, keys: ["product:{id}:{size(body)}"]}
  - {name: message, message: cache.purge, sinks: [cache]}
`))
	require.Equal(t, []bool{false, true, true, false}, r.Reads(tx, rel), "within a transaction the rules stay")
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	tx = begin(8, 290)
	require.Equal(t, []bool{true, true, false, false}, r.Reads(tx, rel))
	require.NotZero(t, r.Hears(tx, "cache.purge"))
	<-done
	streamed := &cdc.Txn{XID: 9, Sub: 9, Streamed: true}
	require.Equal(t, []bool{true, true, false, false}, r.Reads(streamed, rel))
	require.NotZero(t, r.Hears(streamed, "cache.purge"))
}
