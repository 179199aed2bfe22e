package stream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// order lists the keys of the batches in the stream, in their order.
func order(t *testing.T, s *Stream) []string {
	t.Helper()
	first, last := bounds(t, s)
	var keys []string
	for seq := first; seq <= last; seq++ {
		m, err := s.stream.GetMsg(t.Context(), seq)
		require.NoError(t, err)
		if b, err := invalidation.Decode(m.Data); err == nil && len(b.Items) > 0 {
			keys = append(keys, b.Items[0].Values[0][0])
		}
	}
	return keys
}

// A batch of the cache that is refused and sent again must not end up behind the
// edge's batch of the same rows, whose gate looks at what lies before it.
func TestARefusedBatchKeepsItsPlace(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	_, err := s.js.Publish(t.Context(), purgeSubject("shop", "cache"), make([]byte, 1000<<10))
	require.NoError(t, err)

	require.NoError(t, p.Publish(t.Context(), keyed("cache", "inner", 40<<10)))
	require.NoError(t, p.Publish(t.Context(), keyed("edge", "outer", 1<<10)))
	eventually(t, "the larger one is refused", func() bool { return p.Blocked() == "stream_full" })
	require.Equal(t, []string{"outer"}, order(t, s))

	require.NoError(t, s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)))
	require.NoError(t, p.Flushed(t.Context()))
	require.Equal(t, []string{"outer", "inner", "outer"}, order(t, s))

	require.NoError(t, p.Publish(t.Context(), keyed("edge", "later", 0)))
	require.NoError(t, p.Flushed(t.Context()))
	require.Equal(t, []string{"outer", "inner", "outer", "later"}, order(t, s), "what was sent after it needs no repetition")
}

// Age takes what every lane has acknowledged, and nothing else.
func TestAgeTakesOnlyWhatIsAcknowledged(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	for _, key := range []string{"a", "b", "c", "d"} {
		require.NoError(t, p.Publish(t.Context(), keyed("cache", key, 0)))
	}
	require.NoError(t, p.Claim(t.Context(), at(200), noon))
	require.NoError(t, p.Flushed(t.Context()))
	trimmer := NewTrimmer(s, p, func() uint64 { return 3 }, quiet)
	require.NoError(t, trimmer.trim(t.Context()))
	first, _ := bounds(t, s)
	require.Equal(t, uint64(1), first, "an hour has not passed")

	s.cfg.MaxAge = 0
	require.NoError(t, trimmer.trim(t.Context()))
	require.Equal(t, []string{"c", "d"}, order(t, s))
	first, _ = bounds(t, s)
	require.Equal(t, uint64(4), first)
}
