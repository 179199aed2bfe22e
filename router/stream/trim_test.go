package stream

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// bounds returns the first and last sequence of the stream.
func bounds(t *testing.T, s *Stream) (first, last uint64) {
	t.Helper()
	info, err := s.stream.Info(t.Context())
	require.NoError(t, err)
	return info.State.FirstSeq, info.State.LastSeq
}

func TestTheHeadIsTrimmed(t *testing.T) {
	s := open(t, Config{MaxBytes: 1 << 20})
	p, _ := publisher(t, s)
	require.NoError(t, p.Begin(t.Context(), cdc.Claim{Epoch: 1, Position: at(100)}, 0))
	floor := uint64(0)
	trimmer := NewTrimmer(s, p, func() uint64 { return floor }, quiet)
	publish := func(n int) {
		for range n {
			_, err := s.js.Publish(t.Context(), purgeSubject("shop", "cache"), make([]byte, 10<<10))
			require.NoError(t, err)
		}
	}
	publish(50) // half of it
	require.NoError(t, p.Claim(t.Context(), at(101), noon))
	require.NoError(t, p.Flushed(t.Context()))
	_, claim := bounds(t, s)
	floor = 20
	require.NoError(t, trimmer.trim(t.Context()))
	first, _ := bounds(t, s)
	require.Equal(t, uint64(1), first, "there is room")

	publish(25)
	require.NoError(t, trimmer.trim(t.Context()))
	first, _ = bounds(t, s)
	require.Equal(t, uint64(21), first, "up to the lowest floor, and nothing that is not acknowledged")

	publish(20)
	floor = 90
	require.NoError(t, trimmer.trim(t.Context()))
	first, _ = bounds(t, s)
	require.Equal(t, claim, first, "never past the newest claim")
	last, _, found, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, at(101), last.Position)

	publish(30)
	floor = 0
	require.NoError(t, trimmer.trim(t.Context()))
	first, _ = bounds(t, s)
	require.Equal(t, claim, first, "a lane that has done nothing keeps all")
}

func TestOpen(t *testing.T) {
	s := open(t, Config{})
	u, err := s.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, Usage{Limit: 16 << 20}, u)
	_, err = s.js.Publish(t.Context(), progressSubject("shop"), []byte("{}"))
	require.NoError(t, err)
	u, err = s.Usage(t.Context())
	require.NoError(t, err)
	require.Equal(t, uint64(1), u.Messages)
	require.Positive(t, u.Bytes)
	claim, seq, found, err := s.LastClaim(t.Context())
	require.NoError(t, err)
	require.True(t, found)
	require.Equal(t, uint64(1), seq)
	require.Zero(t, claim, "what is no claim says nothing")

	cfg := s.cfg
	cfg.MaxBytes = 8 << 20
	smaller, err := Open(t.Context(), s.nc, cfg)
	require.NoError(t, err, "limits follow the configuration")
	require.Equal(t, int64(8<<20), smaller.stream.CachedInfo().Config.MaxBytes)
	require.Equal(t, jetstream.DiscardNew, smaller.stream.CachedInfo().Config.Discard)

	_, err = s.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: "walpurge_loose", Subjects: []string{"walpurge.loose.>"}, PersistMode: jetstream.AsyncPersistMode,
	})
	require.NoError(t, err)
	cfg.Pipeline = "loose"
	_, err = Open(t.Context(), s.nc, cfg)
	require.ErrorContains(t, err, "stream walpurge_loose has asynchronous persistence")
}

func TestSyncedFollowsTheSync(t *testing.T) {
	synced := watermark.Mark{Stage: watermark.Synced}
	board := watermark.NewBoard()
	begun, finish := make(chan struct{}), make(chan error)
	s := &Stream{cfg: Config{Sync: func() error {
		begun <- struct{}{}
		return <-finish
	}}}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.RunSync(ctx, board) }()
	board.Advance(published, at(100))
	<-begun
	board.Advance(published, at(200)) // too late for the sync under way
	require.Zero(t, board.Get(synced))
	finish <- nil
	require.NoError(t, board.Wait(t.Context(), synced, at(100)))
	require.Equal(t, at(100), board.Get(synced))
	<-begun
	finish <- nil
	require.NoError(t, board.Wait(t.Context(), synced, at(200)))
	cancel()
	require.NoError(t, <-ended)
}

func TestAFailedSyncStopsTheDaemon(t *testing.T) {
	board := watermark.NewBoard()
	broken := errors.New("input/output error")
	s := &Stream{cfg: Config{Sync: func() error { return broken }}}
	board.Advance(published, at(100))
	err := s.RunSync(t.Context(), board)
	var halt *cdc.Halt
	require.ErrorAs(t, err, &halt)
	require.ErrorIs(t, err, broken)
	require.Zero(t, board.Get(watermark.Mark{Stage: watermark.Synced}))
}

func TestWithoutASyncThePublishedIsSynced(t *testing.T) {
	board := watermark.NewBoard()
	s := &Stream{}
	background(t, func(ctx context.Context) error { return s.RunSync(ctx, board) })
	for i := range 3 {
		board.Advance(published, at(cdc.LSN(100+i)))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		require.NoError(t, board.Wait(ctx, watermark.Mark{Stage: watermark.Synced}, at(cdc.LSN(100+i))), fmt.Sprint(i))
	}
}

// A stream without room refuses what is new. What it holds may not have been purged yet.
func TestAFullStreamKeepsWhatItHas(t *testing.T) {
	s := open(t, Config{MaxBytes: 64 << 10})
	var err error
	for range 100 {
		if _, err = s.js.Publish(t.Context(), purgeSubject("shop", "cache"), make([]byte, 1<<10)); err != nil {
			break
		}
	}
	require.True(t, isFull(err), "full means full: %v", err)
	first, _ := bounds(t, s)
	require.Equal(t, uint64(1), first)
}
