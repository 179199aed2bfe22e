package delivery

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// What came while a flush ran may be of a row that the cache was filled with
// after the flush had passed its key.
func TestAFlushAbsorbsNothingThatCameLater(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.sink.takes = time.Second
		w.run()
		defer w.halt()
		flush := batch(1)
		flush.Batch.Flush, flush.Batch.Origin = true, invalidation.FromGap
		w.src.push(flush)
		after(500 * time.Millisecond)
		w.src.push(batch(2, "a"), claim(3, 1))
		after(time.Minute)
		require.Equal(t, [][]string{{"*"}, {"a"}}, w.sink.values())
		require.Equal(t, []uint64{1, 3}, w.src.acked())
	})
}

func TestAnOuterLaneWaitsForTheInner(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		inner := newGate()
		w.cfg.Gates = append(w.cfg.Gates, Gate{Name: "cache", Wait: inner.Wait})
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(5 * time.Second)
		require.Empty(t, w.sink.values(), "the inner cache may still hold the old row")
		inner.open(2)
		after(0)
		require.Equal(t, [][]string{{"a"}}, w.sink.values())
		require.Equal(t, uint64(2), w.src.newest())
	})
}
