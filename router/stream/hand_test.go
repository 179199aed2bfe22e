package stream

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

func TestByHandHasRoomOfItsOwn(t *testing.T) {
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

	c, err := s.HandConsumer(t.Context(), "cache", quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	b := keyed("cache", "urgent", 0)
	b.Supersedes = 5
	require.NoError(t, s.PublishHand(t.Context(), b))
	require.NoError(t, s.PublishHand(t.Context(), keyed("edge", "not mine", 0)))
	m := next(t, c.Consumer)
	require.Equal(t, "urgent", short(m))
	require.Equal(t, rules.FromHand, m.Batch.Origin)
	require.EqualValues(t, 5, m.Batch.Supersedes)
	require.NoError(t, c.Ack(m.Seq))
	info, err := s.hand.Info(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 1, info.State.Msgs, "what is done leaves the stream, what is another's stays")
}

func TestByHandSaysWhenThereIsNoRoom(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	big := keyed("cache", "k", 300<<10)
	var err error
	for range 5 {
		if err = s.PublishHand(t.Context(), big); err != nil {
			break
		}
	}
	require.ErrorIs(t, err, ErrHandFull)
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
		require.NoError(t, s.Replay(t.Context(), "cache", since, func(b *rules.Batch) error {
			keys = append(keys, b.Items[0].Values[rules.Key][0])
			return nil
		}))
		return keys
	}
	require.Equal(t, []string{"a", "b"}, replay(time.Time{}))
	require.Empty(t, replay(time.Now().Add(time.Hour)))
	failed := errors.New("enough")
	require.ErrorIs(t, s.Replay(t.Context(), "cache", time.Time{}, func(*rules.Batch) error { return failed }), failed)
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
			out = append(out, p.Batch.Sink+" "+p.Batch.Items[0].Values[rules.Key][0]+" "+p.Error)
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

	c, err := s.HandConsumer(t.Context(), "edge", quiet)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	require.Equal(t, "b", short(next(t, c.Consumer)))
}
