package stream

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// renewed makes empty streams in the place of those that there are, as a server does that lost its data and is
// found by another process first.
func renewed(t *testing.T, s *Stream) {
	t.Helper()
	for _, name := range []string{streamName("shop"), parkedName("shop"), handName("shop")} {
		require.NoError(t, s.js.DeleteStream(t.Context(), name))
	}
	// The server may still be removing the files of the old ones.
	eventually(t, "new streams", func() bool {
		_, err := openOn(t, s.nc, Config{MaxBytes: 16 << 20})
		return err == nil
	})
}

// What was acknowledged by a stream that is lost must not be claimed in the one that took its name.
func TestNoClaimInAnotherStream(t *testing.T) {
	s := open(t, Config{})
	board := watermark.NewBoard()
	p := NewPublisher(s, board, quiet)
	ended := make(chan error, 1)
	go func() { ended <- p.Run(t.Context()) }()
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	require.NoError(t, p.Publish(t.Context(), keyed("cache", "lost", 0)))
	require.NoError(t, p.Claim(t.Context(), at(200), noon))
	require.NoError(t, p.Flushed(t.Context()))
	require.Equal(t, at(200), board.Get(published))
	renewed(t, s)
	for range 20 { // more than the sequence of the newest claim
		require.NoError(t, p.Publish(t.Context(), keyed("cache", "new", 0)))
	}
	require.NoError(t, p.Claim(t.Context(), at(300), noon))
	require.ErrorIs(t, <-ended, ErrGone)
	require.Equal(t, at(200), board.Get(published))
	again, err := openOn(t, s.nc, Config{MaxBytes: 16 << 20})
	require.NoError(t, err)
	_, _, found, err := again.LastClaim(t.Context())
	require.NoError(t, err)
	require.False(t, found, "so the next start finds the gap")
}

// A claim whose acknowledgement was lost is stored once, and one of another process stays the newest.
func TestClaimsBehindOthers(t *testing.T) {
	s := open(t, Config{})
	p, board := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	require.NoError(t, p.Flushed(t.Context()))
	p.newest = 0 // as if it had not heard of its own claim
	require.NoError(t, p.Claim(t.Context(), at(200), noon))
	require.NoError(t, p.Flushed(t.Context()))
	require.Equal(t, at(200), board.Get(published))

	_, seq, _, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	other, _ := publisher(t, s)
	require.NoError(t, other.Begin(t.Context(), cdc.Claim{Epoch: 2, Position: at(200)}, seq))
	require.NoError(t, p.Claim(t.Context(), at(300), noon))
	require.NoError(t, other.Claim(t.Context(), at(400), noon))
	require.NoError(t, other.Flushed(t.Context()))
	last, _, _, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.Equal(t, at(400), last.Position)
	require.Equal(t, at(200), board.Get(published), "a claim of the older epoch counts for nothing")
}

func TestWatch(t *testing.T) {
	for name, lose := range map[string]func(*testing.T, *Stream){
		"the stream is deleted": func(t *testing.T, s *Stream) {
			require.NoError(t, s.js.DeleteStream(t.Context(), streamName("shop")))
		},
		"the stream of parked items is deleted": func(t *testing.T, s *Stream) {
			require.NoError(t, s.js.DeleteStream(t.Context(), parkedName("shop")))
		},
		"the streams are others": renewed,
		"a lane is deleted": func(t *testing.T, s *Stream) {
			require.NoError(t, s.stream.DeleteConsumer(t.Context(), "cache"))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, Config{})
			consumer(t, s, "cache")
			require.NoError(t, s.there(t.Context(), nil))
			watching := make(chan error, 1)
			go func() { watching <- s.Watch(t.Context(), nil) }()
			if name == "a lane is deleted" {
				lose(t, s)
				require.ErrorIs(t, s.there(t.Context(), []string{"cache"}), ErrGone)
				return
			}
			lose(t, s)
			require.ErrorIs(t, <-watching, ErrGone)
		})
	}
}

// deaf is a server that answers nothing.
type deaf struct{ jetstream.JetStream }

func (deaf) Stream(ctx context.Context, _ string) (jetstream.Stream, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// A server that does not answer has lost nothing.
func TestWatchOfASilentServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &Stream{js: deaf{}, created: map[string]time.Time{"a": noon}}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.NoError(t, s.Watch(ctx, nil))
	})
}
