package stream

import (
	"fmt"
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// claimed adds a batch for cache and a claim, n times.
func claimed(t *testing.T, p *Publisher, n int) {
	t.Helper()
	for i := range n {
		require.NoError(t, p.Publish(t.Context(), keyed("cache", fmt.Sprint(i), 0)))
		require.NoError(t, p.Claim(t.Context(), at(200), noon))
		require.NoError(t, p.Flushed(t.Context()))
	}
}

// flushes reads n messages and returns the reasons of those that flush.
func flushes(t *testing.T, c *Consumer, n int) (reasons []string, last invalidation.Message) {
	t.Helper()
	for range n {
		last = next(t, c)
		if last.Batch != nil && last.Batch.Flush {
			reasons = append(reasons, last.Batch.Reason)
		}
	}
	return reasons, last
}

func TestALaneThatLostMessagesFlushes(t *testing.T) {
	// Message 1 is the epoch's first claim, then batch and claim in turn.
	for name, c := range map[string]struct {
		lose   func(*testing.T, *Stream)
		reason string
	}{
		"a batch in the middle": {func(t *testing.T, s *Stream) { require.NoError(t, s.stream.DeleteMsg(t.Context(), 6)) }, invalidation.FlushHole},
		"a claim in the middle": {func(t *testing.T, s *Stream) { require.NoError(t, s.stream.DeleteMsg(t.Context(), 7)) }, invalidation.FlushHole},
		"the head": {func(t *testing.T, s *Stream) {
			require.NoError(t, s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(8)))
		}, invalidation.FlushHead},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{})
			p, _ := publisher(t, s)
			require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
			claimed(t, p, 5)
			first := consumer(t, s, "cache")
			for range 4 {
				require.NoError(t, first.Ack(next(t, first).Seq))
			}
			first.drain(t.Context())
			c.lose(t, s)
			// Found again as long as it was not acknowledged.
			for range 2 {
				again := consumer(t, s, "cache")
				reasons, _ := flushes(t, again, 1)
				require.Equal(t, []string{c.reason}, reasons)
				again.drain(t.Context())
			}
			final := consumer(t, s, "cache")
			_, last := flushes(t, final, 1)
			require.NoError(t, final.Ack(last.Seq))
			final.drain(t.Context())

			done := consumer(t, s, "cache")
			claimed(t, p, 1)
			reasons, _ := flushes(t, done, 2)
			require.Empty(t, reasons, "once")
			fresh := consumer(t, s, "edge")
			m := next(t, fresh)
			require.Nil(t, m.Batch, "a new lane begins with the stream")
		})
	}
}

// A stream that an operator purges while it is read shows in the claims' counters.
func TestALaneFindsAHoleWhileItRuns(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	claimed(t, p, 1)
	c := consumer(t, s, "cache")
	reasons, _ := flushes(t, c, 3)
	require.Empty(t, reasons)
	c.drain(t.Context())
	require.NoError(t, c.reset(t.Context(), true))
	claimed(t, p, 300) // more than are read ahead
	require.NoError(t, s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(500)))
	for {
		m := next(t, c)
		if m.Batch != nil && m.Batch.Flush {
			require.Equal(t, invalidation.FlushHole, m.Batch.Reason)
			require.GreaterOrEqual(t, m.Seq, uint64(500))
			require.NotNil(t, m.Claim, "what lies behind the hole is claimed with the flush only")
			return
		}
		require.Less(t, m.Seq, uint64(603), "the hole was not seen")
	}
}

// What our own trimmer takes is no loss, and a second epoch begins to count again.
func TestTrimmingAndEpochsAreNoHoles(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	claimed(t, p, 5)
	c := consumer(t, s, "cache")
	_, last := flushes(t, c, 11)
	require.NoError(t, c.Ack(last.Seq))
	require.NoError(t, s.note(t.Context(), trimmedSubject("shop"), 9))
	require.NoError(t, s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(9)))
	_, seq, _, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 2, Position: at(200)}, seq))
	claimed(t, p, 2)
	c.drain(t.Context())
	again := consumer(t, s, "cache")
	reasons, _ := flushes(t, again, 5)
	require.Empty(t, reasons)
}
