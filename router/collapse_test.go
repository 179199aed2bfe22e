package router

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const stormRules = `
rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
    tags: ["product-{id}"]
    every: 30s
    collapse: {over: 500, tags: [products]}
`

func TestALargeTransactionIsCollapsed(t *testing.T) {
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}
	r, reg := newRouter(t, f, stormRules)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	f.reset()
	tx := begin(5, 200)
	for id := range 5000 {
		require.NoError(t, r.Change(t.Context(), tx, insert(id)))
	}
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	keys, tags := map[string]bool{}, []string{}
	for _, b := range f.batches {
		for _, item := range b.Items {
			require.Empty(t, item.Coarser)
			require.Equal(t, "30s", item.Every.String())
			tags = append(tags, item.Values[invalidation.Tag]...)
			for _, k := range item.Values[invalidation.Key] {
				keys[k] = true
			}
		}
	}
	require.Len(t, keys, 5000, "the cache takes nothing of the step and has its keys")
	require.Equal(t, []string{"products"}, tags)
	require.Equal(t, []uint64{5}, f.batches[len(f.batches)-1].Stamp.XIDs)
	require.Equal(t, at(208), f.batches[len(f.batches)-1].Stamp.Position)
	v, n := metric(t, reg, "walpurge_collapsed_total", "product", "edge")
	require.Equal(t, 2, n, "of every rule and sink")
	require.InDelta(t, 5000, v, 0)
}

func TestSmallTransactionsCarryWhatStandsForThem(t *testing.T) {
	r, f := started(t, stormRules)
	transaction(t, r, begin(5, 200), 1, 2)
	transaction(t, r, begin(6, 300), 2, 3)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Len(t, f.batches, 2)
	require.Empty(t, f.batches[0].Items[0].Coarser, "nothing replaces keys")
	require.Len(t, f.batches[1].Items, 1)
	item := f.batches[1].Items[0]
	require.Equal(t, []string{"product-1", "product-2", "product-3"}, item.Values[invalidation.Tag])
	require.Len(t, item.Coarser, 1)
	require.Equal(t, 500, item.Coarser[0].Over)
	require.Equal(t, []string{"products"}, item.Coarser[0].Values[invalidation.Tag], "once")
	require.Equal(t, []uint64{5, 6}, f.batches[1].Stamp.XIDs)
}

// innerStorm has a step for the inner sink only: what the tally holds for it must
// be in the stream before the exact values of the outer one, for each row.
const innerStorm = `
rules:
  - name: product
    table: public.products
    keys: ["product:{id}"]
    tags: ["product-{id}"]
    collapse: [{over: %d, keys: ["half:{id > 2000}"]}, {over: 900000, keys: [all]}]
`

func TestWhatIsHeldGoesBeforeTheOuterSink(t *testing.T) {
	for _, over := range []int{10, 2500, 10000} {
		t.Run(fmt.Sprint(over), func(t *testing.T) {
			r, f := started(t, fmt.Sprintf(innerStorm, over))
			tx := begin(5, 200)
			for id := range 5000 {
				require.NoError(t, r.Change(t.Context(), tx, insert(id)))
			}
			require.NoError(t, r.Commit(t.Context(), end(tx)))
			require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
			inner, outer := map[string]bool{}, 0
			for _, b := range f.batches {
				for _, item := range b.Items {
					for _, k := range item.Values[invalidation.Key] {
						inner[k] = true
					}
					for _, tag := range item.Values[invalidation.Tag] {
						var id int
						_, err := fmt.Sscanf(tag, "product-%d", &id)
						require.NoError(t, err)
						require.True(t, inner[fmt.Sprintf("product:%d", id)] || inner[fmt.Sprintf("half:%v", id > 2000)], "%s overtakes the cache", tag)
						outer++
					}
				}
				require.LessOrEqual(t, len(b.Items), 2)
			}
			require.Equal(t, 5000, outer)
		})
	}
}

// A session that ends in the middle of a transaction leaves nothing behind of it.
func TestAnUnfinishedTransactionIsForgotten(t *testing.T) {
	r, f := started(t, stormRules)
	tx := begin(5, 200)
	for id := range 600 {
		require.NoError(t, r.Change(t.Context(), tx, insert(id)))
	}
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	f.reset()
	transaction(t, r, begin(5, 200), 1)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"product-1"}, f.batches[1].Items[0].Values[invalidation.Tag])
}

// discard is a publisher that keeps nothing.
type discard struct{ fake }

func (d *discard) Publish(context.Context, *invalidation.Batch) error { return nil }

// A million rows in one transaction, through rules and router.
func TestAMillionRowsAreHeldInLittle(t *testing.T) {
	d := &discard{fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}}
	r := New(Config{
		Rules: parse(t, "rules:\n  - name: product\n    table: public.products\n    tags: [\"product-{id}\"]\n    collapse: {over: 500, tags: [products]}\n"),
		Sinks: []string{"cache", "edge"}, Publisher: d, Ledger: d, Metrics: NewMetrics(prometheus.NewRegistry()), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	tx := begin(5, 200)
	most := 0
	ctx, change := t.Context(), insert(0)
	for id := range 1_000_000 {
		change.New[0].Data = strconv.AppendInt(change.New[0].Data[:0], int64(id), 10)
		if err := r.Change(ctx, tx, change); err != nil {
			t.Fatal(err)
		}
		values, _ := r.tally.Held()
		most = max(most, values+r.builders[1].count)
	}
	require.LessOrEqual(t, most, 3*501)
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.Equal(t, 1, r.builders[1].count)
}

func BenchmarkCommit(b *testing.B) {
	for name, yaml := range map[string]string{"plain": productRules, "collapse": stormRules} {
		b.Run(name, func(b *testing.B) {
			r, f := started(b, yaml)
			b.ReportAllocs()
			change, n := insert(1), uint64(0)
			for b.Loop() {
				n++
				tx := begin(n, cdc.LSN(1000*n))
				for range 10 {
					require.NoError(b, r.Change(context.Background(), tx, change))
				}
				require.NoError(b, r.Commit(context.Background(), end(tx)))
				if n%100 == 0 {
					require.NoError(b, r.Rest(context.Background(), cdc.Rest{}))
					f.reset()
				}
			}
		})
	}
}
