package router

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/router/spool"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const streamedRules = productRules + `
  - {name: hand, message: cache.purge, unknown: {keys: [all]}}
`

// part is a streamed transaction as the changes of one subtransaction see it.
func part(xid, sub uint64) *cdc.Txn { return &cdc.Txn{XID: xid, Sub: sub, Streamed: true} }

// ended is it at its commit.
func ended(xid uint64, commit cdc.LSN) *cdc.Txn {
	tx := end(begin(xid, commit))
	tx.Streamed, tx.Sub = true, xid
	return tx
}

// came lists what was published, each once.
func (f *fake) came() []string {
	out := map[string]bool{}
	for _, b := range f.batches {
		if b.Flush {
			out[b.Sink+" flush"] = true
		}
		for _, item := range b.Items {
			for _, values := range item.Values {
				for _, v := range values {
					out[b.Sink+" "+v] = true
				}
			}
		}
	}
	return slices.Sorted(maps.Keys(out))
}

func TestStreamedTransaction(t *testing.T) {
	r, f := started(t, streamedRules)
	ctx := t.Context()
	change := func(tx *cdc.Txn, id int) { require.NoError(t, r.Change(ctx, tx, insert(id))) }
	change(part(5, 5), 1)
	change(part(5, 6), 2)
	change(part(7, 7), 3)
	require.NoError(t, r.Message(ctx, part(5, 5), "cache.purge", []byte(`{"keys": ["hand"]}`)))
	require.NoError(t, r.Message(ctx, part(5, 6), "cache.purge", []byte(`{"keys": ["no"]}`)))
	require.NoError(t, r.Rest(ctx, cdc.Rest{}))
	require.Empty(t, f.calls, "nothing of it counts yet")

	// Whole transactions go by, and are claimed.
	whole := begin(8, 200)
	require.NoError(t, r.Change(ctx, whole, insert(9)))
	require.NoError(t, r.Commit(ctx, end(whole)))
	require.NoError(t, r.Rest(ctx, cdc.Rest{}))
	require.Equal(t, []string{"cache product:9", "edge product-9"}, f.came())
	require.Equal(t, at(208), f.claims[0].Position)
	f.reset()

	require.NoError(t, r.Abort(ctx, part(5, 6)))
	require.NoError(t, r.Abort(ctx, part(7, 7)))
	change(part(5, 10), 4)
	require.NoError(t, r.Commit(ctx, ended(5, 300)))
	require.NoError(t, r.Rest(ctx, cdc.Rest{}))
	require.Equal(t, []string{"cache hand", "cache product:1", "cache product:4", "edge product-1", "edge product-4"}, f.came())
	for _, b := range f.batches {
		require.Equal(t, cdc.Stamp{Position: at(308), XIDs: []uint64{5}, FirstCommit: epoch.Add(5e9), LastCommit: epoch.Add(5e9)}, b.Stamp)
	}
	require.Equal(t, at(308), f.claims[0].Position)
	require.Empty(t, r.streams)
}

// TestStreamedAcrossAReload: what was judged by the old rules does not tell what the new
// ones would say, and they hold for whatever commits after the reload.
func TestStreamedAcrossAReload(t *testing.T) {
	r, f := started(t, streamedRules)
	require.NoError(t, r.Change(t.Context(), part(5, 5), insert(1)))
	require.NoError(t, r.Message(t.Context(), part(5, 5), "cache.purge", []byte(`{"keys": ["hand"]}`)))
	require.NoError(t, r.Message(t.Context(), part(5, 5), "later", []byte(`{"keys": ["unheard"]}`)))
	done := r.Replace(parse(t, strings.ReplaceAll(streamedRules, "product:{id}", "p:{id}")+"  - {name: later, message: later, unknown: {keys: [late]}}\n"))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	<-done
	require.NoError(t, r.Change(t.Context(), part(5, 5), insert(2)))
	require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache flush", "cache hand", "cache late", "edge flush"}, f.came())
	require.Equal(t, []uint64{5}, f.batches[0].Stamp.XIDs)

	// One that begins after it is judged by the new rules alone.
	f.reset()
	require.NoError(t, r.Change(t.Context(), part(6, 6), insert(1)))
	require.NoError(t, r.Commit(t.Context(), ended(6, 400)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache p:1", "edge product-1"}, f.came())
}

// TestStreamedWithoutRoom: what cannot be kept is not lost.
func TestStreamedWithoutRoom(t *testing.T) {
	blocked := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	for name, pool := range map[string]*spool.Pool{"no room": spool.NewPool(t.TempDir(), 0), "no directory": spool.NewPool(blocked, 1<<30)} {
		t.Run(name, func(t *testing.T) {
			r, f := started(t, streamedRules)
			r.cfg.Spool = pool
			for id := range 20_000 {
				require.NoError(t, r.Change(t.Context(), part(5, 5), insert(id)))
				require.NoError(t, r.Message(t.Context(), part(5, 5), "cache.purge", fmt.Appendf(nil, `{"keys": ["hand:%d"]}`, id)))
			}
			require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
			require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
			came := f.came()
			for _, want := range []string{"cache flush", "edge flush", "cache all"} {
				require.Contains(t, came, want)
			}
			require.Zero(t, pool.Used())
		})
	}
}

func TestManyRollbacks(t *testing.T) {
	r, f := started(t, streamedRules)
	for sub := range uint64(maxAborted + 10) {
		require.NoError(t, r.Change(t.Context(), part(5, 6+sub), insert(int(sub))))
		require.NoError(t, r.Abort(t.Context(), part(5, 6+sub)))
	}
	require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache flush", "edge flush"}, f.came())
}

// TestManyPrefixes: messages with more prefixes than are remembered may have been for any
// rule that comes in service before the end.
func TestManyPrefixes(t *testing.T) {
	r, f := started(t, productRules)
	for n := range maxPrefixes + 1 {
		require.NoError(t, r.Message(t.Context(), part(5, 5), fmt.Sprint("outbox.", n), nil))
	}
	require.NoError(t, r.Message(t.Context(), part(5, 5), "cache.purge", []byte(`{"keys": ["hand"]}`)))
	<-func() <-chan struct{} {
		done := r.Replace(parse(t, streamedRules))
		require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
		return done
	}()
	require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache all", "edge flush"}, f.came())
}

// TestPrefixesCostNoMemory: prefixes that no rule can watch are not remembered, and without a reload many
// prefixes purge nothing.
func TestPrefixesCostNoMemory(t *testing.T) {
	r, f := started(t, streamedRules)
	for n := range 2 * maxPrefixes {
		require.NoError(t, r.Message(t.Context(), part(5, 5), fmt.Sprint(n, strings.Repeat("p", rules.MaxMessagePrefix)), nil))
	}
	require.Empty(t, r.streams[5].heard.prefixes)
	require.False(t, r.streams[5].heard.others)
	for n := range 2 * maxPrefixes {
		require.NoError(t, r.Message(t.Context(), part(5, 5), fmt.Sprint(n), nil))
	}
	require.NoError(t, r.Message(t.Context(), part(5, 5), "cache.purge", []byte(`{"keys": ["hand"]}`)))
	require.Len(t, r.streams[5].heard.prefixes, maxPrefixes+1)
	require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache hand"}, f.came())
}

// TestANewSessionBeginsWithoutStreams: they come again from their beginning.
func TestANewSessionBeginsWithoutStreams(t *testing.T) {
	r, f := started(t, streamedRules)
	require.NoError(t, r.Change(t.Context(), part(5, 5), insert(1)))
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	require.Empty(t, r.streams)
	f.reset()
	require.NoError(t, r.Change(t.Context(), part(5, 5), insert(2)))
	require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache product:2", "edge product-2"}, f.came())
}

// TestStreamedStorm: collapse counts over the whole transaction, less what was rolled back.
func TestStreamedStorm(t *testing.T) {
	for name, rolledBack := range map[string]bool{"all of it": false, "half of it": true} {
		t.Run(name, func(t *testing.T) {
			r, f := started(t, stormRules)
			for id := range 800 {
				require.NoError(t, r.Change(t.Context(), part(5, 5+uint64(id%2)), insert(id)))
			}
			if rolledBack {
				require.NoError(t, r.Abort(t.Context(), part(5, 6)))
			}
			require.NoError(t, r.Commit(t.Context(), ended(5, 300)))
			require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
			tags := 0
			for _, b := range f.batches {
				for _, item := range b.Items {
					tags += len(item.Values[invalidation.Tag])
				}
			}
			require.Equal(t, map[bool]int{false: 1, true: 400}[rolledBack], tags)
		})
	}
}
