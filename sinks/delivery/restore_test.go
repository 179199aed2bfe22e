package delivery

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// While the sink may hold again what was purged, purges go on and no watermark moves; after Restore, until what is
// to be purged again is purged.
func TestRestoration(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.run()
		defer w.halt()
		w.src.push(batch(1, "a"), claim(2, 1))
		after(time.Second)
		require.Equal(t, cdc.LSN(2), w.purged())
		w.lane.Distrust(Restoration{Reason: "failover", Since: time.Now()})
		w.src.push(batch(3, "b"), claim(4, 1))
		after(time.Second)
		require.Equal(t, cdc.LSN(2), w.purged(), "the watermark is held")
		require.Equal(t, [][]string{{"a"}, {"b"}}, w.sink.values(), "purges go on")
		require.Equal(t, uint64(4), w.lane.ReadUpTo())
		restored := make(chan error, 1)
		go func() { restored <- w.lane.Restored(context.Background()) }()
		w.lane.Restore(5)
		after(time.Second)
		_, some := w.lane.Restoring()
		require.True(t, some)
		require.Empty(t, restored)
		require.Equal(t, cdc.LSN(2), w.purged(), "it is stored and not purged")

		w.src.push(batch(5, "a"), claim(6, 1))
		after(time.Second)
		require.NoError(t, <-restored)
		_, some = w.lane.Restoring()
		require.False(t, some)
		require.Equal(t, cdc.LSN(6), w.purged())
	})
}

// A lane that is not trusted at its start moves its watermark once it is.
func TestTrustAtTheStart(t *testing.T) {
	inBubble(t, func(t *testing.T, w *world) {
		w.cfg.Distrusted = true
		w.run()
		defer w.halt()
		w.src.push(batch(6, "a"), claim(7, 1))
		after(time.Second)
		require.Zero(t, w.purged())
		restored := make(chan error, 1)
		go func() { restored <- w.lane.Restored(context.Background()) }()
		after(time.Second)
		require.Empty(t, restored)
		w.lane.Trust()
		require.NoError(t, <-restored)
		require.Equal(t, cdc.LSN(7), w.purged())
	})
}
