package machine

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

// batch is a message with keys; its transaction has the sequence's number.
func batch(seq uint64, keys ...string) invalidation.Message {
	b := &invalidation.Batch{Sink: "cache", Origin: invalidation.FromWAL, Stamp: cdc.Stamp{Position: cdc.Position{Timeline: 1, LSN: cdc.LSN(seq)}, XIDs: []uint64{seq}}}
	if len(keys) > 0 {
		b.Items = []invalidation.Item{{Rule: "r"}}
		b.Items[0].Values[invalidation.Key] = keys
	}
	return invalidation.Message{Seq: seq, Batch: b}
}

// claim is a message that claims everything before it.
func claim(seq, epoch uint64) invalidation.Message {
	return invalidation.Message{Seq: seq, Claim: &cdc.Claim{Epoch: epoch, Position: cdc.Position{Timeline: 1, LSN: cdc.LSN(seq)}}}
}

func keys(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("k%d", i)
	}
	return out
}

var errDown = errors.New("connection refused")

func TestEqualValuesGoOnce(t *testing.T) {
	m := batch(1, "a")
	m.Batch.Items = []invalidation.Item{{Rule: "one"}, {Rule: "two"}}
	m.Batch.Items[0].Values = [invalidation.NumKinds][]string{invalidation.Key: {"a"}, invalidation.Tag: {"a"}}
	m.Batch.Items[1].Values = [invalidation.NumKinds][]string{invalidation.Key: {"a"}}
	got := New(Config{}).plan([]Ready{{Msg: m}}, time.Unix(0, 0))
	require.Equal(t, []invalidation.Invalidation{{Kind: invalidation.Key, Value: "a", Rule: "one"}, {Kind: invalidation.Tag, Value: "a", Rule: "one"}}, got.invs)
	require.Equal(t, 1, got.coalesced)
}

func TestCollapseCountsDistinctValues(t *testing.T) {
	for _, c := range []struct {
		name string
		give []invalidation.Message
		want []string
	}{
		{"not over", []invalidation.Message{covered(batch(1, "a", "b"), 2), covered(batch(2, "b"), 2)}, []string{"a", "b"}},
		{"over", []invalidation.Message{covered(batch(1, "a", "b"), 2), covered(batch(2, "c"), 2)}, []string{"past-2"}},
		{"the last step exceeded", []invalidation.Message{covered(batch(1, "a", "b", "c"), 1, 2, 5)}, []string{"past-2"}},
		{"each item for itself", []invalidation.Message{covered(batch(1, "a", "b"), 1), covered(batch(2, "c"), 7), batch(3, "d")}, []string{"past-1", "c", "d"}},
		{"without steps nothing counts", []invalidation.Message{batch(1, "a", "b", "d"), covered(batch(2, "c"), 2)}, []string{"a", "b", "d", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var group []Ready
			for _, m := range c.give {
				group = append(group, Ready{Msg: m})
			}
			var got []string
			for _, inv := range New(Config{}).plan(group, time.Unix(0, 0)).invs {
				got = append(got, inv.Value)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// covered gives a message's first item steps: one tag for each over.
func covered(m invalidation.Message, overs ...int) invalidation.Message {
	for _, over := range overs {
		c := invalidation.CoarserValues{Over: over}
		c.Values[invalidation.Tag] = []string{fmt.Sprintf("past-%d", over)}
		m.Batch.Items[0].Coarser = append(m.Batch.Items[0].Coarser, c)
	}
	return m
}

// What goes together is bounded by messages and by values.
func TestGroupsAreBounded(t *testing.T) {
	for _, c := range []struct {
		message invalidation.Message
		want    int
	}{{batch(1, "a"), MaxGroup}, {batch(1, keys(2000)...), MaxValues / 2000}} {
		m := New(Config{Limits: sinks.Limits{Items: 1 << 20}})
		taken := 0
		for m.Accepts() {
			m.Arrive(Ready{Msg: c.message})
			taken++
		}
		require.Equal(t, c.want, taken)
	}
}

// Long values count for what they take in memory.
func TestLongValuesCountMore(t *testing.T) {
	m := batch(1, "short", string(make([]byte, invalidation.MaxValue)))
	require.Equal(t, 2+invalidation.MaxValue/longValue, SizeOf(m.Batch))
	require.Zero(t, SizeOf(nil))
}
