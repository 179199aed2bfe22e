package delivery

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestAckOnlyAfterTheSinkAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(999 * time.Millisecond)
		require.Empty(t, w.src.acked())
		require.Zero(t, w.purged())
		after(time.Millisecond)
		require.Equal(t, uint64(2), w.src.acked()[len(w.src.acked())-1])
		require.Equal(t, cdc.LSN(2), w.purged())
		require.Equal(t, cdc.LSN(2), w.board.Get(watermark.Mark{Stage: watermark.Settled, Target: "cache"}).LSN)
		require.Equal(t, []uint64{1}, w.src.announced)
	})
}

func TestAClaimAloneAdvances(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(claim(1, 1), claim(2, 1))
		after(0)
		require.Equal(t, cdc.LSN(2), w.purged())
		require.Empty(t, w.sink.values(), "there was nothing to purge")
		require.Empty(t, w.src.announced)
	})
}

func TestClaimsOfAnOlderEpochAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(claim(1, 2))
		after(0)
		require.Equal(t, cdc.LSN(1), w.purged())
		w.src.push(batch(2, "a"), claim(3, 1))
		after(0)
		require.Equal(t, [][]string{{"a"}}, w.sink.values(), "what a zombie published is purged")
		require.Equal(t, uint64(3), w.src.acked()[len(w.src.acked())-1])
		require.Equal(t, cdc.LSN(1), w.purged(), "what it claims is not believed")
		w.src.push(claim(4, 2))
		after(0)
		require.Equal(t, cdc.LSN(4), w.purged())
	})
}

func TestFailedAckIsNotTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.src.ackErr = errors.New("connection closed")
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(0)
		require.Equal(t, cdc.LSN(2), w.purged(), "it was purged all the same")
	})
}

func TestRedeliveredMessages(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(500 * time.Millisecond)
		w.src.push(batch(2, "b"))
		after(time.Second)
		// One is done, two is in flight: the consumer starts over.
		require.Equal(t, []uint64{1}, w.src.acked())
		w.src.push(batch(1, "a"), batch(2, "b"), batch(3, "c"))
		after(10 * time.Second)
		require.Equal(t, [][]string{{"a"}, {"b"}, {"c"}}, w.sink.values())
		require.Equal(t, []uint64{1, 2, 3}, w.src.acked(), "the floor never goes back")
	})
}

func TestOldestIsTheFirstUnpurged(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.answers(func([]invalidation.Invalidation) error { return errDown })
		w.run()
		defer w.halt()
		_, some := w.lane.Oldest()
		require.False(t, some)
		m := batch(1, "a")
		w.src.push(m)
		after(time.Minute)
		at, some := w.lane.Oldest()
		require.True(t, some)
		require.Equal(t, m.Batch.Stamp.FirstCommit, at)
	})
}

// What is purged together: what was ready before the purge began, and nothing
// that came while it ran.
func TestJoiningOnlyBeforeTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"))
		after(500 * time.Millisecond)
		w.src.push(batch(2, "a"), batch(3, "a", "b"))
		after(400 * time.Millisecond)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		after(time.Minute)
		require.Equal(t, [][]string{{"a"}, {"a", "b"}}, w.sink.values(), "an equal one behind the purge in flight is purged again, once")
		require.InDelta(t, 1, w.metric("coalesced_total", "cache"), 0)
		require.InDelta(t, 3, w.metric("purges_total", "ok"), 0)
		require.Equal(t, []uint64{1, 3}, w.src.acked())
		require.InDelta(t, 3, w.metric("purge_latency_seconds", "cache"), 0)
	})
}
