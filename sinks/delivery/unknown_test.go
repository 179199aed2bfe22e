package delivery

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

var errColour = errors.New(`it names "colours"`)

func unknownBatch(seq uint64) invalidation.Message {
	m := batch(seq, "known")
	m.Unknown = errColour
	return m
}

// A message with a kind that this version does not know is neither purged nor acknowledged nor
// parked. What came before it is purged, and the status says what is the matter.
func TestAnUnknownKindIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		buf := w.logged()
		w.src.push(batch(1, "a"), claim(2, 1), unknownBatch(3), batch(4, "b"), claim(5, 1))
		w.run()
		after(time.Hour)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.NotContains(t, w.src.acked(), uint64(3))
		require.NotContains(t, w.src.acked(), uint64(5))
		require.Empty(t, w.parked)
		require.EqualValues(t, 2, w.purged(), "the watermark stays before it")
		status := w.lane.Status()
		require.Equal(t, Blocked, status.State)
		require.Contains(t, status.Err, "colours")
		oldest, some := w.lane.Oldest()
		require.True(t, some)
		require.InDelta(t, time.Hour.Seconds(), time.Since(oldest).Seconds(), 1)
		w.halt()
		require.Contains(t, buf.String(), "a message names a kind of value that this version does not know")
	})
}

// A flush that replaces the backlog, and a manual purge that supersedes it, cover the message.
func TestAnUnknownKindIsReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.src.push(unknownBatch(1), batch(2, "b"))
		w.run()
		after(time.Minute)
		require.Empty(t, w.sink.values())
		flush := invalidation.Message{Seq: 3, Batch: &invalidation.Batch{Sink: "cache", Origin: invalidation.FromGap, Flush: true, Reason: invalidation.FlushOverflow}}
		w.src.push(flush)
		w.lane.trade(3)
		after(time.Minute)
		require.Equal(t, [][]string{{"*"}}, w.sink.values())
		require.Equal(t, OK, w.lane.Status().State)
		require.Empty(t, w.lane.Status().Err)
		require.EqualValues(t, 3, w.src.acked()[len(w.src.acked())-1])
		w.halt()
	})
}

// A manual purge with such a kind is kept, too, and does not keep others from being carried out.
func TestAnUnknownManualPurgeIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		hand := &source{grown: make(chan struct{})}
		w.cfg.Hand = hand
		first, second := unknownBatch(1), batch(2, "b")
		first.Batch.Origin, second.Batch.Origin = invalidation.FromHand, invalidation.FromHand
		hand.push(first, second)
		w.run()
		after(time.Minute)
		require.Equal(t, [][]string{{"b"}}, w.sink.values())
		require.Empty(t, hand.acked())
		require.Equal(t, Blocked, w.lane.Status().State)
		w.halt()
	})
}
