package stream

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// half returns a stream whose lane cache has purged the first three of seven
// messages.
func half(t *testing.T) (*Stream, *Publisher) {
	t.Helper()
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	claimed(t, p, 3)
	c := consumer(t, s, "cache")
	_, last := flushes(t, c, 3)
	require.NoError(t, c.Ack(last.Seq))
	c.drain(t.Context())
	return s, p
}

func lanes(t *testing.T, s *Stream) []LaneInfo {
	t.Helper()
	out, err := s.Lanes(t.Context())
	require.NoError(t, err)
	return out
}

func TestARenamedLaneGoesOn(t *testing.T) {
	s, p := half(t)
	require.Equal(t, []LaneInfo{{"cache", true}}, lanes(t, s))
	heir, err := s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(heir.Close)
	require.Equal(t, []LaneInfo{{"valkey", true}}, lanes(t, s))
	require.NoError(t, p.Publish(t.Context(), keyed("valkey", "new", 0)))
	require.NoError(t, p.Flushed(t.Context()))
	var got []string
	var seq uint64
	for range 5 {
		m := next(t, heir)
		require.False(t, m.Batch != nil && m.Batch.Flush)
		got, seq = append(got, short(m)), m.Seq
	}
	require.Equal(t, []string{"1", "claim 1.3 0/C8", "2", "claim 1.4 0/C8", "new"}, got)
	heir.drain(t.Context())

	// Without the word, what was adopted stays until it is purged.
	again := consumer(t, s, "valkey")
	require.Equal(t, "1", short(next(t, again)))
	again.drain(t.Context())
	again = consumer(t, s, "valkey")
	for range 5 {
		m := next(t, again)
		require.LessOrEqual(t, m.Seq, seq)
		require.NoError(t, again.Ack(m.Seq))
	}
	again.drain(t.Context())
	eventually(t, "the server has the acknowledgements", func() bool {
		info, err := again.cons.Info(t.Context())
		require.NoError(t, err)
		return info.AckFloor.Stream >= seq
	})
	done := consumer(t, s, "valkey")
	require.Equal(t, []LaneInfo{{"valkey", false}}, lanes(t, s))
	require.Len(t, done.cons.CachedInfo().Config.FilterSubjects, 2)
}

// A crash may come between the two steps of an adoption.
func TestAdoptionIsRepeated(t *testing.T) {
	s, _ := half(t)
	old, err := s.stream.Consumer(t.Context(), "cache")
	require.NoError(t, err)
	cfg := old.CachedInfo().Config
	heir, err := s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err)
	heir.drain(t.Context())
	_, err = s.stream.CreateConsumer(t.Context(), cfg)
	require.NoError(t, err)
	heir, err = s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(heir.Close)
	require.Equal(t, []LaneInfo{{"valkey", true}}, lanes(t, s))
	require.Equal(t, "1", short(next(t, heir)))
}

func TestALaneOfItsOwnAdoptsNothing(t *testing.T) {
	s, _ := half(t)
	consumer(t, s, "valkey").drain(t.Context())
	_, err := s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.ErrorContains(t, err, "sink valkey cannot adopt the backlog of cache: it has a lane of its own already")
	require.Equal(t, []LaneInfo{{"cache", true}, {"valkey", false}}, lanes(t, s))
	require.NoError(t, s.CloseLane(t.Context(), "cache"))
	require.NoError(t, s.CloseLane(t.Context(), "cache"), "twice is as well as once")
	_, err = s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err, "there is nothing to adopt")
}

// The manual purges of a sink go with its backlog: to its new name, or with it if that is
// dropped.
func TestManualPurgesGoWithTheLane(t *testing.T) {
	s := open(t, Config{})
	consumer(t, s, "cache").drain(t.Context())
	require.Equal(t, []LaneInfo{{"cache", false}}, lanes(t, s))
	c := manual(t, s, "cache")
	for _, key := range []string{"done", "a", "b"} {
		require.NoError(t, s.PublishManual(t.Context(), keyed("cache", key, 0)))
	}
	require.NoError(t, c.Ack(next(t, c.Consumer).Seq))
	c.drain(t.Context())
	require.Equal(t, []LaneInfo{{"cache", true}}, lanes(t, s))

	heir, err := s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(heir.Close)
	require.Equal(t, []LaneInfo{{"valkey", true}}, lanes(t, s))
	c = manual(t, s, "valkey")
	for _, key := range []string{"a", "b"} {
		m := next(t, c.Consumer)
		require.Equal(t, key, short(m))
		require.Equal(t, "valkey", m.Batch.Sink)
		require.NoError(t, c.Ack(m.Seq))
	}
	c.drain(t.Context())
	require.Equal(t, []LaneInfo{{"valkey", false}}, lanes(t, s))

	require.NoError(t, s.PublishManual(t.Context(), keyed("valkey", "dropped", 0)))
	require.NoError(t, s.CloseLane(t.Context(), "valkey"))
	for _, sink := range []string{"cache", "valkey"} {
		consumer(t, s, sink).drain(t.Context())
		c := manual(t, s, sink)
		require.NoError(t, s.PublishManual(t.Context(), keyed(sink, "new", 0)))
		require.Equal(t, "new", short(next(t, c.Consumer)), "nothing of an earlier life")
		require.Empty(t, queuedFlushes(t, s, sink))
	}
}

// A loss is answered once by each lane that was there, and by none that came later, be it
// new or the old one under a new name.
func TestALossFromBeforeALaneIsNotItsOwn(t *testing.T) {
	s, p := half(t)
	require.NoError(t, s.stream.DeleteMsg(t.Context(), 6))
	require.NoError(t, s.stream.Purge(t.Context(), jetstream.WithPurgeSequence(3)))
	c := consumer(t, s, "cache")
	reasons, last := flushes(t, c, 1)
	require.Equal(t, []string{invalidation.FlushHole}, reasons)
	require.NoError(t, c.Ack(last.Seq))
	c.drain(t.Context())

	consumer(t, s, "edge").drain(t.Context())
	heir, err := s.Consumer(t.Context(), "valkey", "cache", quiet)
	require.NoError(t, err)
	heir.drain(t.Context())
	claimed(t, p, 1)
	for _, sink := range []string{"edge", "valkey"} {
		reasons, _ := flushes(t, consumer(t, s, sink), 1)
		require.Empty(t, reasons, sink)
	}
}
