package postgres

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc/watermark"
)

// What was committed before Beat is received soon after it, however long the
// period is and however quiet the tables are; and many requests are few messages.
func TestBeatMovesAnIdleLine(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.cfg.Heartbeat = time.Hour
	r := s.run(&sinkhole{}, Streaming)
	newest := func() time.Time { slot, _ := r.Slot(); return slot.Heartbeat }
	eventually(t, 30*time.Second, func() bool { return !newest().IsZero() }, "the first heartbeat is back")
	first := newest()
	for range 1000 {
		r.Beat()
	}
	eventually(t, 20*time.Second, func() bool { return newest().After(first) }, "one that was asked for is back")
	require.GreaterOrEqual(t, newest().Sub(first), pokePause/2)

	r.Beat()
	received := r.board.Get(watermark.Mark{Stage: watermark.Received})
	require.Positive(t, received.LSN)
	eventually(t, 20*time.Second, func() bool {
		return received.Before(r.board.Get(watermark.Mark{Stage: watermark.Received}))
	}, "the line has moved")
	require.Equal(t, 1, r.sessions())
}
