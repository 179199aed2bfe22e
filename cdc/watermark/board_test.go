package watermark

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

func at(timeline uint32, lsn cdc.LSN) cdc.Position {
	return cdc.Position{SystemID: "s", Timeline: timeline, LSN: lsn}
}

var (
	received = Mark{Stage: Received}
	cache    = Mark{Stage: Purged, Target: "cache"}
)

func TestMarksNeverMoveBackWithinACluster(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBoard()
		var highest cdc.Position
		for range rapid.IntRange(1, 50).Draw(t, "n") {
			p := at(rapid.Uint32Range(1, 3).Draw(t, "timeline"), cdc.LSN(rapid.Uint64Range(1, 9).Draw(t, "lsn")))
			moved := b.Advance(received, p)
			require.Equal(t, highest.Before(p), moved)
			if moved {
				highest = p
			}
			require.Equal(t, highest, b.Get(received))
		}
	})
}

func TestAnotherClusterReplaces(t *testing.T) {
	b := NewBoard()
	b.Advance(received, at(3, 100))
	require.True(t, b.Advance(received, cdc.Position{SystemID: "other", Timeline: 1, LSN: 5}))
}

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := NewBoard()
		done := make(chan error)
		go func() { done <- b.Wait(t.Context(), cache, at(1, 10)) }()
		b.Advance(cache, at(1, 9))
		synctest.Wait()
		select {
		case <-done:
			t.Fatal("woke before the mark passed")
		default:
		}
		b.Advance(cache, at(1, 10))
		require.NoError(t, <-done)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, b.Wait(ctx, cache, at(1, 11)), context.DeadlineExceeded)
	})
}

func TestSafe(t *testing.T) {
	edge, slow := Mark{Settled, "edge"}, Mark{Settled, "cache"}
	b := NewBoard(edge, slow)
	b.Advance(received, at(1, 9))
	b.Advance(Mark{Stage: Synced}, at(1, 7))
	b.Advance(Mark{Stage: Published}, at(1, 8))
	require.Equal(t, cdc.LSN(7), b.Safe(ConfirmSynced).LSN)
	require.Equal(t, cdc.LSN(8), b.Safe(ConfirmPublished).LSN)
	b.Advance(edge, at(1, 6))
	require.Zero(t, b.Safe(ConfirmSettled), "a sink that never advanced holds the slot")
	b.Advance(slow, at(1, 5))
	require.Equal(t, cdc.LSN(5), b.Safe(ConfirmSettled).LSN)

	// Whatever the other marks say, nothing is confirmed that was not received.
	for _, m := range []Mark{{Stage: Synced}, {Stage: Published}, edge, slow} {
		b.Advance(m, at(7, 1<<60))
	}
	for _, policy := range []Policy{ConfirmSynced, ConfirmPublished, ConfirmSettled} {
		require.Equal(t, at(1, 9), b.Safe(policy))
	}
	b = NewBoard()
	b.Advance(Mark{Stage: Synced}, at(1, 7))
	require.Zero(t, b.Safe(ConfirmSynced), "nothing was received")
}

func TestLagIsAnUpperBound(t *testing.T) {
	t0 := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	sec := func(n int) time.Time { return t0.Add(time.Duration(n) * time.Second) }
	b := NewBoard()
	require.Negative(t, b.Lag(received, t0), "nothing known yet")

	b.NoteServer(at(1, 100), sec(0))
	b.Advance(received, at(1, 100))
	b.Advance(cache, at(1, 100))
	require.Equal(t, 2*time.Second, b.Lag(cache, sec(2)), "as old as the last look at the server")

	b.NoteServer(at(1, 1000), sec(5))
	require.Equal(t, 6*time.Second, b.Lag(cache, sec(6)), "what lies beyond 100 was written after second 0")

	b.NoteCommits(at(1, 900), sec(4))
	require.Equal(t, 2*time.Second, b.Lag(cache, sec(6)), "the received commit says it better")

	b.Advance(received, at(1, 970))
	require.Equal(t, time.Second, b.Lag(received, sec(6)), "a page header is not a change")
	require.Equal(t, 95*time.Second, b.Lag(received, sec(100)), "it grows while the server is out of sight")
	require.Equal(t, uint64(900), b.LagBytes(cache))
}

func TestThinningNeverShrinksLag(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		t0 := time.Unix(0, 0)
		var bounded series
		var all []point
		n := rapid.IntRange(maxPoints, 3*maxPoints).Draw(t, "n")
		for i := range n {
			p := point{at: at(1, cdc.LSN(i*10+10)), since: t0.Add(time.Duration(i) * time.Second)}
			bounded.add(p.at, p.since)
			all = append(all, p)
		}
		require.LessOrEqual(t, len(bounded.points), maxPoints)
		i := rapid.IntRange(0, n-1).Draw(t, "probe")
		since, ok := bounded.after(at(1, all[i].at.LSN-1))
		require.True(t, ok)
		require.False(t, since.After(all[i].since))
	})
}
