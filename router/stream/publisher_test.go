package stream

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

var published = watermark.Mark{Stage: watermark.Published}

func TestBeginIsACompareAndSet(t *testing.T) {
	s := open(t, Config{})
	one, board := publisher(t, s)
	two, _ := publisher(t, s)
	_, _, found, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.False(t, found)
	require.NoError(t, one.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	require.Equal(t, at(100), board.Get(published))
	require.ErrorContains(t, two.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0), "begin epoch 1", "another began first")

	last, seq, found, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, uint64(1), last.Epoch)
	require.Equal(t, uint64(1), last.Counter)
	require.Equal(t, at(100), last.Position)

	require.NoError(t, one.Claim(t.Context(), at(200), noon))
	require.NoError(t, one.Flushed(t.Context()))
	require.Error(t, two.Begin(t.Context(), cdc.Claim{Epoch: 2, Position: at(100)}, seq), "a claim came in between")
	_, seq, _, err = s.LastClaim(t.Context())
	require.NoError(t, err)
	require.NoError(t, two.Begin(t.Context(), cdc.Claim{Epoch: 2, Position: at(200)}, seq))
}

func TestClaimsFollowTheirBatches(t *testing.T) {
	s := open(t, Config{})
	p, board := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 4, Position: at(100)}, 0))
	c := consumer(t, s, "cache")
	require.Equal(t, "claim 4.1 0/64", short(next(t, c)))
	for i := range cdc.LSN(20) {
		for n := range 5 {
			require.NoError(t, p.Publish(t.Context(), keyed("cache", fmt.Sprintf("%d-%d", i, n), 0)))
		}
		require.NoError(t, p.Claim(t.Context(), at(101+i), noon))
	}
	require.NoError(t, p.Flushed(t.Context()))
	require.Equal(t, at(120), board.Get(published))
	batches, counter := 0, uint64(1)
	for counter == 1 || batches < 100 {
		m := next(t, c)
		if m.Batch != nil {
			require.Equal(t, uint64(4), m.Batch.Stamp.Epoch)
			batches++
			continue
		}
		counter++
		require.Equal(t, counter, m.Claim.Counter, "no hole")
		require.Equal(t, noon, m.Claim.CommitTime)
		require.GreaterOrEqual(t, batches, 5*int(m.Claim.Position.LSN-100), "all of %s is before its claim", m.Claim.Position)
	}
}

// Claims that follow each other at once are one, and leave no hole.
func TestClaimsAreMerged(t *testing.T) {
	s := open(t, Config{})
	first, _ := publisher(t, s)
	require.NoError(t, first.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(1)}, 0))
	p := NewPublisher(s, watermark.NewBoard(), quiet)
	p.epoch, p.counter = 1, 1
	for i := range cdc.LSN(50) {
		require.NoError(t, p.Claim(t.Context(), at(2+i), noon))
	}
	require.NoError(t, p.Publish(t.Context(), keyed("cache", "a", 0)))
	require.NoError(t, p.Claim(t.Context(), at(60), noon))
	require.NoError(t, p.Claim(t.Context(), at(61), noon))
	background(t, p.Run)
	require.NoError(t, p.Flushed(t.Context()))
	c := consumer(t, s, "cache")
	var got []string
	for range 4 {
		got = append(got, short(next(t, c)))
	}
	// The batch was sent before anybody settled the claims.
	require.Equal(t, []string{"claim 1.1 0/1", "a", "claim 1.2 0/33", "claim 1.3 0/3D"}, got)
}

func TestWhenEveryoneWaitsForRoomNothingIsLost(t *testing.T) {
	s := open(t, Config{MaxBytes: 256 << 10})
	p, board := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	c := consumer(t, s, "cache")
	const batches = 120 // of 10 KiB: several times what the stream holds
	sent := make(chan error, 1)
	go func() {
		for i := range batches {
			if err := p.Publish(t.Context(), keyed("cache", fmt.Sprint(i), 10<<10)); err != nil {
				sent <- err
				return
			}
		}
		sent <- p.Claim(t.Context(), at(200), noon)
	}()
	eventually(t, "the stream is full", func() bool { return p.Blocked() == "stream_full" })
	last, _, _, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.Equal(t, at(100), last.Position, "no claim of what is not stored")
	require.Equal(t, at(100), board.Get(published))
	require.Positive(t, p.BlockedFor()["stream_full"])
	require.Zero(t, p.BlockedFor()["nats_unreachable"])

	background(t, NewTrimmer(s, p, c.Floor, quiet).Run)
	seen := map[string]bool{}
	for {
		m := next(t, c)
		require.NoError(t, c.Ack(m.Seq))
		if m.Batch != nil {
			seen[short(m)] = true
		} else if m.Claim.Position == at(200) {
			break
		}
	}
	require.Len(t, seen, batches)
	require.NoError(t, <-sent)
	eventually(t, "unblocked", func() bool { return p.Blocked() == "" && board.Get(published) == at(200) })
}

// A dead server must not be mistaken for a full stream, and what was handed
// over while it was away is stored when it is back.
func TestWithoutAServerThePublisherWaits(t *testing.T) {
	s := open(t, Config{})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	c := consumer(t, s, "cache")
	next(t, c)
	require.NoError(t, s.js.DeleteStream(t.Context(), streamName("shop")))
	require.NoError(t, p.Publish(t.Context(), keyed("cache", "a", 0)))
	eventually(t, "blocked", func() bool { return p.Blocked() == "nats_unreachable" })
	_, err := s.js.CreateStream(t.Context(), jetstream.StreamConfig{Name: streamName("shop"), Subjects: []string{"walpurge.shop.purge.*", "walpurge.shop.progress"}})
	require.NoError(t, err)
	require.NoError(t, p.Flushed(t.Context()))
	require.Empty(t, p.Blocked())
	require.Equal(t, "a", short(next(t, consumer(t, s, "cache"))))
}

func TestPublisherObeysItsContexts(t *testing.T) {
	s := open(t, Config{})
	p := NewPublisher(s, watermark.NewBoard(), quiet)                    // which does not run
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // short: expires on purpose
	defer cancel()
	require.ErrorIs(t, p.Flushed(ctx), context.DeadlineExceeded)
	require.ErrorIs(t, p.Begin(ctx, cdc.Claim{Epoch: 1, Position: at(1)}, 0), context.DeadlineExceeded)
	for range window {
		_ = p.Claim(t.Context(), at(1), noon)
		if len(p.queue) == window {
			break
		}
	}
	require.ErrorIs(t, p.Publish(ctx, keyed("cache", "a", 0)), context.DeadlineExceeded, "a full window blocks")
}
