package router

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestBatchHoldsEachValueOfARuleOnce(t *testing.T) {
	b := newBuilder("cache", named("one", "two"))
	tx := begin(9, 200)
	buf := []byte("a")
	b.add(0, invalidation.Key, buf, tx)
	b.add(0, invalidation.Key, buf, tx)
	b.add(0, invalidation.Tag, buf, tx)
	b.add(1, invalidation.Key, buf, tx)
	buf[0] = 'b' // the scratch buffer is the caller's
	b.add(0, invalidation.Key, buf, tx)
	out := b.take(at(100))
	want := []invalidation.Item{{Rule: "one"}, {Rule: "two"}}
	want[0].Values[invalidation.Key], want[0].Values[invalidation.Tag] = []string{"a", "b"}, []string{"a"}
	want[1].Values[invalidation.Key] = []string{"a"}
	require.Equal(t, want, out.Items)
	require.Equal(t, invalidation.FromWAL, out.Origin)
	require.Equal(t, "cache", out.Sink)
	require.True(t, b.empty())

	b.add(0, invalidation.Key, []byte("a"), tx)
	require.False(t, b.empty(), "a new batch knows nothing of the old one")
	require.Equal(t, want, out.Items, "what was handed on is left alone")
}

func TestRulesBeyondAByteAreToldApart(t *testing.T) {
	names := make([]string, 300)
	for i := range names {
		names[i] = fmt.Sprint(i)
	}
	b := newBuilder("cache", named(names...))
	b.add(1, invalidation.Key, []byte("a"), begin(1, 1))
	b.add(257, invalidation.Key, []byte("a"), begin(1, 1))
	require.Len(t, b.take(at(0)).Items, 2)
}

func TestStampOfABatch(t *testing.T) {
	b := newBuilder("cache", named("r"))
	first, second, cut := begin(5, 200), begin(3, 300), begin(4, 400)
	b.add(0, invalidation.Key, []byte("a"), first)
	b.add(0, invalidation.Key, []byte("b"), first)
	b.commit(end(first))
	b.add(0, invalidation.Key, []byte("a"), second)
	b.commit(end(second))
	b.add(0, invalidation.Key, []byte("c"), cut)
	s := b.take(at(100)).Stamp
	require.Equal(t, []uint64{5, 3, 4}, s.XIDs, "each once, also where it brought nothing new")
	require.Equal(t, at(401), s.Position, "of an open transaction: its commit record")
	require.Equal(t, second.Time, s.FirstCommit)
	require.Equal(t, first.Time, s.LastCommit, "commit times do not follow the log")

	b.commit(end(cut))
	require.True(t, b.empty())
	b.add(0, invalidation.Key, []byte("c"), begin(6, 500))
	s = b.take(at(100)).Stamp
	require.Equal(t, []uint64{6}, s.XIDs)
	require.Equal(t, at(501), s.Position)
}

func TestCommitOfAnotherTransactionLeavesTheStampAlone(t *testing.T) {
	b := newBuilder("cache", named("r"))
	tx := begin(5, 200)
	b.add(0, invalidation.Key, []byte("a"), tx)
	b.commit(end(tx))
	b.commit(end(begin(6, 900))) // nothing in it was for this sink
	require.Equal(t, at(208), b.take(at(0)).Stamp.Position)
}

func TestEverythingIsAFlush(t *testing.T) {
	b := newBuilder("edge", named("r"))
	require.True(t, b.empty())
	b.add(0, invalidation.Everything, nil, begin(5, 200))
	require.False(t, b.empty())
	out := b.take(at(0))
	require.True(t, out.Flush)
	require.Equal(t, "truncate", out.Reason)
	require.Empty(t, out.Items)
	require.Equal(t, []uint64{5}, out.Stamp.XIDs)
	require.True(t, b.empty(), "one flush, not one for every batch after")
}

func TestLimitsOfABatch(t *testing.T) {
	fill := func(n int, value func(i int) []byte, xid func(i int) uint64) *builder {
		b := newBuilder("cache", named("r"))
		for i := range n {
			require.False(t, b.full(), "after %d", i)
			b.add(0, invalidation.Key, value(i), begin(xid(i), 200))
		}
		return b
	}
	number := func(i int) []byte { return fmt.Append(nil, i) }
	one := func(int) uint64 { return 1 }
	require.True(t, fill(maxValues, number, one).full())
	wide := func(i int) []byte { return fmt.Appendf(nil, "%1024d", i) }
	require.True(t, fill(maxBytes/1024, wide, one).full())
	same := func(int) []byte { return []byte("same") }
	require.True(t, fill(maxXIDs, same, func(i int) uint64 { return uint64(i + 1) }).full())
}

// Whatever comes in, the stamp covers it: every transaction, the time of every
// commit, and no position beyond the last commit.
func TestStampCoversItsTransactions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := newBuilder("cache", named("r", "s"))
		type seen struct {
			xids        []uint64
			values      map[string]bool
			first, last time.Time
			most        cdc.LSN
		}
		now := seen{values: map[string]bool{}}
		check := func() {
			if b.empty() {
				require.Empty(t, now.xids)
				return
			}
			out := b.take(at(1))
			require.Equal(t, now.xids, out.Stamp.XIDs)
			require.Equal(t, now.first, out.Stamp.FirstCommit)
			require.Equal(t, now.last, out.Stamp.LastCommit)
			require.Equal(t, now.most, out.Stamp.Position.LSN)
			got := map[string]bool{}
			for _, inv := range out.Invalidations(nil) {
				id := inv.Rule + inv.Kind.String() + inv.Value
				require.False(t, got[id], "%s twice", id)
				got[id] = true
			}
			require.Equal(t, now.values, got)
			now = seen{values: map[string]bool{}}
		}
		commit := cdc.LSN(100)
		for range rapid.IntRange(1, 12).Draw(t, "transactions") {
			commit += 50
			tx := begin(rapid.Uint64Range(1, 1<<40).Draw(t, "xid")*16+uint64(commit), commit)
			mine := false
			for range rapid.IntRange(0, 4).Draw(t, "values") {
				rule, kind := rapid.IntRange(0, 1).Draw(t, "rule"), rapid.SampledFrom([]invalidation.Kind{invalidation.Key, invalidation.Tag}).Draw(t, "kind")
				v := rapid.SampledFrom([]string{"a", "b", "\xff", ""}).Draw(t, "value")
				b.add(rule, kind, []byte(v), tx)
				now.values[b.rules[rule].Name+kind.String()+v] = true
				if !mine {
					now.xids, mine = append(now.xids, tx.XID), true
				}
				if now.first.IsZero() || tx.Time.Before(now.first) {
					now.first = tx.Time
				}
				if tx.Time.After(now.last) {
					now.last = tx.Time
				}
				now.most = tx.Commit + 1
				if rapid.IntRange(0, 9).Draw(t, "cut") == 0 {
					check()
					mine = false
				}
			}
			b.commit(end(tx))
			if mine {
				now.most = tx.End
			}
		}
		check()
	})
}
