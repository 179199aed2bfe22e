package stream

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestManualPurgesHaveRoomOfTheirOwn(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	p, _ := publisher(t, s)
	done := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); <-done })
	go func() {
		defer close(done)
		for p.Publish(ctx, keyed("cache", "k", 300<<10)) == nil {
		}
	}()
	eventually(t, "the stream is full", func() bool { return p.Blocked() == "stream_full" })

	c, err := s.ManualConsumer(t.Context(), "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	b := keyed("cache", "urgent", 0)
	b.Supersedes = 5
	require.NoError(t, s.PublishManual(t.Context(), b))
	require.NoError(t, s.PublishManual(t.Context(), keyed("edge", "not mine", 0)))
	m := next(t, c.Consumer)
	require.Equal(t, "urgent", short(m))
	require.Equal(t, invalidation.FromHand, m.Batch.Origin)
	require.EqualValues(t, 5, m.Batch.Supersedes)
	require.NoError(t, c.Ack(m.Seq))
	require.Equal(t, map[string]uint64{handSubject("shop", "edge"): 1}, manualPurges(t, s), "what is done leaves the stream, what is another's stays")
}

func TestAManualPurgeWithoutRoomIsRefused(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	big := keyed("cache", "k", 300<<10)
	var err error
	for range 5 {
		if err = s.PublishManual(t.Context(), big); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrManualFull)
}

func TestReplayReadsWhatASinkWasGiven(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	for _, k := range []string{"a", "b"} {
		require.NoError(t, p.Publish(t.Context(), keyed("cache", k, 0)))
		require.NoError(t, p.Publish(t.Context(), keyed("edge", "other", 0)))
	}
	require.NoError(t, p.Claim(t.Context(), at(10), noon))
	require.NoError(t, p.Flushed(t.Context()))
	replay := func(since time.Time) (keys []string) {
		require.NoError(t, s.Replay(t.Context(), "cache", since, func(b *invalidation.Batch) error {
			keys = append(keys, b.Items[0].Values[invalidation.Key][0])
			return nil
		}))
		return keys
	}
	require.Equal(t, []string{"a", "b"}, replay(time.Time{}))
	require.Empty(t, replay(time.Now().Add(time.Hour)))
	failed := errors.New("enough")
	require.ErrorIs(t, s.Replay(t.Context(), "cache", time.Time{}, func(*invalidation.Batch) error { return failed }), failed)
}

func TestParkedIsListedRetriedAndDropped(t *testing.T) {
	s := open(t, Config{})
	for _, k := range []string{"a", "b", "c"} {
		require.NoError(t, s.Park(t.Context(), keyed("edge", k, 0), errors.New("refused "+k)))
	}
	require.NoError(t, s.Park(t.Context(), keyed("cache", "d", 0), errors.New("refused d")))
	list := func(sink string) string {
		var out []string
		require.NoError(t, s.ListParked(t.Context(), sink, func(p ParkedBatch) bool {
			require.WithinDuration(t, time.Now(), p.At, time.Minute)
			out = append(out, p.Batch.Sink+" "+p.Batch.Items[0].Values[invalidation.Key][0]+" "+p.Error)
			return true
		}))
		return strings.Join(out, "; ")
	}
	require.Equal(t, "edge a refused a; edge b refused b; edge c refused c; cache d refused d", list("*"))
	require.Equal(t, "cache d refused d", list("cache"))

	require.NoError(t, s.DropParked(t.Context(), 1))
	require.ErrorIs(t, s.DropParked(t.Context(), 1), ErrNoParked)
	require.ErrorIs(t, s.RetryParked(t.Context(), 99), ErrNoParked)
	require.NoError(t, s.RetryParked(t.Context(), 2))
	require.Equal(t, "edge c refused c", list("edge"))

	c, err := s.ManualConsumer(t.Context(), "edge", quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.Equal(t, "b", short(next(t, c.Consumer)))
}

// manualPurges counts the manual purges in the stream by subject.
func manualPurges(t *testing.T, s *Stream) map[string]uint64 {
	t.Helper()
	info, err := s.hand.Info(t.Context(), jetstream.WithSubjectFilter(handSubject("shop", "*")))
	require.NoError(t, err)
	return info.State.Subjects
}

// manual opens the consumer of a sink's manual purges, as a start or a reload does.
func manual(t *testing.T, s *Stream, sink string) *ManualConsumer {
	t.Helper()
	c, err := s.ManualConsumer(t.Context(), sink, quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// queuedFlushes lists the flushes that wait in the queue of a sink, by reason.
func queuedFlushes(t *testing.T, s *Stream, sink string) (reasons []string) {
	t.Helper()
	require.NoError(t, s.Replay(t.Context(), sink, time.Time{}, func(b *invalidation.Batch) error {
		if b.Flush {
			reasons = append(reasons, b.Reason)
		}
		return nil
	}))
	return reasons
}

// A manual purge leaves the stream once it is carried out. What is missing then is not
// lost, for whatever consumer reads the stream next.
func TestACompletedManualPurgeIsNotALoss(t *testing.T) {
	for name, shared := range map[string]bool{"embedded": false, "shared": true} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{Shared: shared})
			purge := func(sink, key string, change func(*invalidation.Batch)) {
				t.Helper()
				b := keyed(sink, key, 0)
				if change != nil {
					change(b)
				}
				require.NoError(t, s.PublishManual(t.Context(), b))
			}
			carryOut := func(c *ManualConsumer, want ...string) {
				t.Helper()
				for _, key := range want {
					m := next(t, c.Consumer)
					require.Equal(t, key, short(m), "only what was asked for")
					require.NoError(t, c.Ack(m.Seq))
				}
			}
			for round := range 3 {
				cache, edge := manual(t, s, "cache"), manual(t, s, "edge")
				purge("cache", "a", nil)
				purge("edge", "b", func(b *invalidation.Batch) { b.Supersedes = 7 })
				purge("cache", "c", nil)
				carryOut(cache, "a", "c")
				carryOut(edge, "b")
				// Parked invalidations that are retried go the same way.
				require.NoError(t, s.Park(t.Context(), keyed("edge", "d", 0), errors.New("refused")))
				require.NoError(t, s.ListParked(t.Context(), "edge", func(p ParkedBatch) bool {
					require.NoError(t, s.RetryParked(t.Context(), p.ID))
					return true
				}))
				carryOut(edge, "d")
				require.NoError(t, s.note(t.Context(), trimmedSubject("shop"), uint64(round+1)))
				cache.drain(t.Context())
				edge.drain(t.Context())
			}
			require.Empty(t, queuedFlushes(t, s, "cache"))
			require.Empty(t, queuedFlushes(t, s, "edge"))
		})
	}
}

// A manual purge that is gone and was not carried out leads to a flush of its sink, once,
// and to no flush of another. What the server still delivers is purged all the same.
func TestALostManualPurgeFlushesItsSink(t *testing.T) {
	remove := func(seqs ...uint64) func(*testing.T, *Stream) {
		return func(t *testing.T, s *Stream) {
			for _, seq := range seqs {
				require.NoError(t, s.hand.DeleteMsg(t.Context(), seq))
			}
		}
	}
	// The purges a to d of cache, among one of edge; a is carried out, and recorded as number 1.
	for name, c := range map[string]struct {
		lose func(*testing.T, *Stream)
		left []string
	}{
		"the next one": {remove(2), []string{"c", "d"}},
		// The server takes a deletion for an acknowledgement of all before. The flush covers b.
		"one in the middle":     {remove(4), []string{"d"}},
		"the newest":            {remove(5), nil},
		"all that were pending": {remove(2, 4, 5), nil},
		"all messages and notes": {func(t *testing.T, s *Stream) {
			require.NoError(t, s.hand.Purge(t.Context()))
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t, Config{})
			cache := manual(t, s, "cache")
			for _, key := range []string{"a", "b", "of edge", "c", "d"} {
				sink := "cache"
				if key == "of edge" {
					sink = "edge"
				}
				require.NoError(t, s.PublishManual(t.Context(), keyed(sink, key, 0)))
			}
			require.NoError(t, cache.Ack(next(t, cache.Consumer).Seq))
			cache.drain(t.Context())
			c.lose(t, s)
			for range 2 {
				cache = manual(t, s, "cache")
				for _, key := range c.left {
					require.Equal(t, key, short(next(t, cache.Consumer)))
				}
				require.Equal(t, []string{invalidation.FlushHole}, queuedFlushes(t, s, "cache"))
				cache.drain(t.Context())
			}
			cache = manual(t, s, "cache")
			require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "e", 0)))
			for _, key := range append(c.left, "e") {
				m := next(t, cache.Consumer)
				require.Equal(t, key, short(m))
				require.NoError(t, cache.Ack(m.Seq))
			}
			cache.drain(t.Context())
			manual(t, s, "cache")
			require.Equal(t, []string{invalidation.FlushHole}, queuedFlushes(t, s, "cache"))
		})
	}
}

// The number of what was stored lies in other files than the purges.
func TestADamagedStreamOfManualPurgesIsNoticed(t *testing.T) {
	dir := t.TempDir()
	s, stop := openIn(t, dir, Config{MaxBytes: 16 << 20})
	manual(t, s, "edge").drain(t.Context())
	cache := manual(t, s, "cache")
	for _, sink := range []string{"cache", "edge", "edge"} {
		require.NoError(t, s.PublishManual(t.Context(), keyed(sink, "k", 0)))
	}
	require.NoError(t, cache.Ack(next(t, cache.Consumer).Seq))
	cache.drain(t.Context())
	stop()
	blocks, err := filepath.Glob(filepath.Join(dir, "jetstream", "*", "streams", handName("shop"), "msgs", "*"))
	require.NoError(t, err)
	require.NotEmpty(t, blocks)
	for _, block := range blocks {
		require.NoError(t, os.Remove(block))
	}
	s, stop = openIn(t, dir, Config{MaxBytes: 16 << 20})
	defer stop()
	for range 2 {
		manual(t, s, "edge").drain(t.Context())
		manual(t, s, "other").drain(t.Context())
		require.Equal(t, []string{invalidation.FlushHole}, queuedFlushes(t, s, "edge"))
		require.Empty(t, queuedFlushes(t, s, "other"))
	}
	edge := manual(t, s, "edge")
	require.NoError(t, s.PublishManual(t.Context(), keyed("edge", "after", 0)))
	require.Equal(t, "after", short(next(t, edge.Consumer)))
}

// A purge that goes missing while its consumer runs shows in the next one.
func TestAManualPurgeLostWhileReading(t *testing.T) {
	s := open(t, Config{})
	c := manual(t, s, "cache")
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "a", 0)))
	require.Equal(t, "a", short(next(t, c.Consumer)))
	c.drain(t.Context())
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "b", 0)))
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "c", 0)))
	require.NoError(t, s.hand.DeleteMsg(t.Context(), 2))
	require.NoError(t, c.reset(t.Context(), true))
	require.Equal(t, "a", short(next(t, c.Consumer)))
	require.Equal(t, "c", short(next(t, c.Consumer)))
	require.Equal(t, []string{invalidation.FlushHole}, queuedFlushes(t, s, "cache"))
}

// Purges of an earlier version have no number, and two processes may give one twice.
func TestNumbersThatAreMissingOrTwice(t *testing.T) {
	s := open(t, Config{Shared: true})
	other, err := OpenOn(t.Context(), s.js, s.cfg)
	require.NoError(t, err)
	data, err := invalidation.Encode("shop", keyed("cache", "old", 0))
	require.NoError(t, err)
	_, err = s.js.Publish(t.Context(), handSubject("shop", "cache"), data)
	require.NoError(t, err)
	c := manual(t, s, "cache")
	m := next(t, c.Consumer)
	require.Equal(t, "old", short(m))
	require.NoError(t, c.Ack(m.Seq))
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "a", 0)))
	// As if it had read the record before the first one wrote it.
	require.NoError(t, other.noteIn(t.Context(), other.parked, storedSubject("shop", "cache"), 0))
	require.NoError(t, s.hand.Purge(t.Context(), jetstream.WithPurgeSubject(doneSubject("shop", "cache"))))
	other.manualNumbers["cache"] = 0
	require.NoError(t, other.PublishManual(t.Context(), keyed("cache", "b", 0)))
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "c", 0)))
	for _, key := range []string{"a", "b", "c"} {
		m := next(t, c.Consumer)
		require.Equal(t, key, short(m))
		require.NoError(t, c.Ack(m.Seq))
	}
	c.drain(t.Context())
	c = manual(t, s, "cache")
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "d", 0)))
	require.Equal(t, "d", short(next(t, c.Consumer)))
	require.Empty(t, queuedFlushes(t, s, "cache"))
	require.Empty(t, manualPurges(t, s)[handSubject("shop", "edge")])
}

// A process that has lost the pipeline acknowledges late. Its record does not lower that of
// the one that goes on.
func TestALateAcknowledgementIsNotALoss(t *testing.T) {
	s := open(t, Config{Shared: true})
	late := manual(t, s, "cache")
	for _, key := range []string{"a", "b"} {
		require.NoError(t, s.PublishManual(t.Context(), keyed("cache", key, 0)))
	}
	first := next(t, late.Consumer)
	require.Equal(t, "a", short(first))
	late.iter.Stop() // it asks for nothing any more
	now := manual(t, s, "cache")
	for _, key := range []string{"a", "b"} {
		m := next(t, now.Consumer)
		require.Equal(t, key, short(m))
		require.NoError(t, now.Ack(m.Seq))
	}
	require.NoError(t, late.Ack(first.Seq))
	now.drain(t.Context())
	now = manual(t, s, "cache")
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "c", 0)))
	require.Equal(t, "c", short(next(t, now.Consumer)))
	require.Empty(t, queuedFlushes(t, s, "cache"))
}

// A stream that is full of manual purges still takes notes, without which neither they nor
// the stream of changes could be trimmed.
func TestNotesHaveRoomInAFullStream(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	c := manual(t, s, "cache")
	for size := 300 << 10; size > 100; size /= 2 {
		for s.PublishManual(t.Context(), keyed("cache", "k", size)) == nil {
		}
	}
	require.NoError(t, s.note(t.Context(), trimmedSubject("shop"), 9))
	require.NoError(t, s.Memory("publication").Save(t.Context(), make([]byte, 2<<10)))
	require.NoError(t, c.Ack(next(t, c.Consumer).Seq))
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "k", 0)), "what is done makes room")
}

// The stream of parked messages holds notes besides; no id names one.
func TestANoteIsNotParked(t *testing.T) {
	s := open(t, Config{})
	require.NoError(t, s.PublishManual(t.Context(), keyed("cache", "k", 0)))
	require.NoError(t, s.Park(t.Context(), keyed("cache", "k", 0), errors.New("refused")))
	parked, err := s.Parked(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]uint64{"cache": 1}, parked)
	require.ErrorIs(t, s.DropParked(t.Context(), 1), ErrNoParked)
	require.ErrorIs(t, s.RetryParked(t.Context(), 1), ErrNoParked)
	require.NoError(t, s.DropParked(t.Context(), 2))
}

// What --supersede drops is counted as far as the queue goes, of messages that wait.
func TestWaitingIsWhatTheLaneHasNotAcknowledged(t *testing.T) {
	s, p := half(t)
	c := consumer(t, s, "cache")
	two := keyed("cache", "x", 0)
	two.Items[0].Values[invalidation.Tag] = []string{"t"}
	require.NoError(t, p.Publish(t.Context(), two))
	require.NoError(t, p.Publish(t.Context(), keyed("edge", "of another", 0)))
	require.NoError(t, p.Flushed(t.Context()))
	_, err := s.Flush(t.Context(), "cache", invalidation.FlushOverflow)
	require.NoError(t, err)
	w, err := c.Waiting(t.Context(), 100)
	require.NoError(t, err)
	require.Equal(t, Waiting{Messages: 4, Items: 4, Flushes: 1}, w)
	w, err = c.Waiting(t.Context(), 2)
	require.NoError(t, err)
	require.Equal(t, Waiting{Messages: 2, Items: 2, More: true}, w)
	m := next(t, c)
	for range 6 {
		require.NoError(t, c.Ack(m.Seq))
		if m.Batch != nil && m.Batch.Flush {
			break
		}
		m = next(t, c)
	}
	w, err = c.Waiting(t.Context(), 100)
	require.NoError(t, err)
	require.Zero(t, w)
}
