package router

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestStartBeginsAnEpoch(t *testing.T) {
	for _, c := range []struct {
		name  string
		f     fake
		start cdc.Session
		want  []string
	}{
		{"first", fake{}, cdc.Session{Start: at(100), End: 1000, SlotCreated: true},
			[]string{"flushed", "begin 1 1:0/64 after 0"}},
		{"again", fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(100)}}, cdc.Session{Start: at(100), End: 1000},
			[]string{"flushed", "begin 5 1:0/64 after 9"}},
		{"the slot is behind", fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(300), Own: true}}, cdc.Session{Start: at(100), End: 1000},
			[]string{"flushed", "begin 5 1:0/12C after 9"}},
		{"the slot is behind what another process has claimed", fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(300)}}, cdc.Session{Start: at(100), End: 1000},
			[]string{"flushed", "begin 5 1:0/64 after 9"}},
		{"promoted", fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(300)}}, cdc.Session{Start: position("s", 2, 100), History: []cdc.Ancestor{{Timeline: 1, End: 300}}},
			[]string{"flushed", "begin 5 2:0/64 after 9"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, _ := newRouter(t, &c.f, productRules)
			require.NoError(t, r.Start(t.Context(), c.start))
			require.Equal(t, c.want, c.f.calls)
		})
	}
}

// A claim of the session before may still be on its way when the next begins;
// compared with an older one, the new epoch would be refused.
func TestStartReadsTheClaimAfterThePublisherIsDone(t *testing.T) {
	f := &fake{found: true, seq: 5, last: cdc.Claim{Epoch: 1, Position: at(100), Own: true}}
	f.onFlushed = func() { f.seq, f.last.Position = 6, at(200) }
	r, _ := newRouter(t, f, productRules)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(150), End: 1000}))
	require.Equal(t, []string{"flushed", "begin 2 1:0/C8 after 6"}, f.calls)
}

func TestStartRefusesAFormerPrimary(t *testing.T) {
	f := &fake{found: true, seq: 5, last: cdc.Claim{Epoch: 1, Position: position("s", 2, 100)}}
	r, _ := newRouter(t, f, productRules)
	err := r.Start(t.Context(), cdc.Session{Start: at(500), End: 1000})
	require.ErrorContains(t, err, "the server is on timeline 1, and timeline 2 was streamed before")
	var halt *cdc.Halt
	require.NotErrorAs(t, err, &halt, "the primary may answer at the next attempt")
	require.Equal(t, []string{"flushed"}, f.calls)
}

func TestGapFlushesEverySinkBeforeItsClaim(t *testing.T) {
	f := &fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(50)}}
	r, reg := newRouter(t, f, productRules)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000, Open: []uint64{7, 9}}))
	require.Equal(t, []string{
		"flushed", "begin 5 1:0/32 after 9", "publish cache", "publish edge", "claim 0/64", "flushed",
	}, f.calls)
	for _, b := range f.batches {
		require.True(t, b.Flush)
		require.Equal(t, invalidation.FromGap, b.Origin)
		require.Equal(t, "stream_behind", b.Reason)
		require.Equal(t, at(100), b.Stamp.Position)
		require.Equal(t, []uint64{7, 9}, b.Stamp.XIDs, "they may have committed in the gap, and be visible only later")
		require.False(t, b.Stamp.FirstCommit.IsZero())
	}
	gaps, reasons := metric(t, reg, "walpurge_gaps_total", "stream_behind")
	require.InDelta(t, 1, gaps, 0)
	require.Equal(t, 12, reasons, "every reason is shown from the start")
}

// Until the flushes are in the stream, its newest claim must show the gap, so
// that a crash in between finds it again.
func TestGapIsFoundAgainAfterACrashInTheMiddle(t *testing.T) {
	for _, c := range []struct {
		name  string
		last  cdc.Claim
		found bool
		want  string
	}{
		{"behind", cdc.Claim{Epoch: 4, Position: at(50)}, true, "begin 5 1:0/32 after 9"},
		{"another cluster", cdc.Claim{Epoch: 4, Position: position("old", 3, 500)}, true, "begin 5 1:0/0 after 9"},
		{"no claim", cdc.Claim{}, false, "begin 1 1:0/0 after 9"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{found: c.found, seq: 9, last: c.last, fail: map[string]error{"publish": errFake}}
			r, _ := newRouter(t, f, productRules)
			require.ErrorIs(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}), errFake)
			require.Equal(t, []string{"flushed", c.want, "publish cache"}, f.calls)
		})
	}
}

func TestStopOnGapHalts(t *testing.T) {
	f := &fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(50)}}
	r, _ := newRouter(t, f, productRules)
	r.cfg.StopOnGap = true
	err := r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000})
	var halt *cdc.Halt
	require.ErrorAs(t, err, &halt)
	require.ErrorContains(t, err, "postgres.on_gap is stop")
	require.Equal(t, []string{"flushed"}, f.calls, "nothing is written that would hide the gap")
}

func TestStartPassesFailuresOn(t *testing.T) {
	for _, call := range []string{"last", "flushed", "begin", "claim"} {
		f := &fake{found: true, last: cdc.Claim{Position: at(50)}, fail: map[string]error{call: errFake}}
		r, _ := newRouter(t, f, productRules)
		require.ErrorIs(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}), errFake, call)
	}
}

func TestStartDropsAnUnfinishedTransaction(t *testing.T) {
	r, f := started(t, productRules)
	require.NoError(t, r.Change(t.Context(), begin(5, 200), insert(1)))
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	f.reset()
	tx := begin(5, 200)
	require.NoError(t, r.Change(t.Context(), tx, insert(2)))
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/D0"}, f.calls)
	require.Equal(t, []string{"product:2"}, f.batches[0].Items[0].Values[invalidation.Key], "it comes again whole")
}

// What comes again after a restart lies below the newest claim. A claim of it
// would put the newest claim behind what may be confirmed already, which the
// next start takes for a gap.
func TestClaimsNeverGoBack(t *testing.T) {
	f := &fake{found: true, seq: 9, last: cdc.Claim{Epoch: 4, Position: at(300), Own: true}}
	r, _ := newRouter(t, f, productRules)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	f.reset()
	for _, commit := range []cdc.LSN{150, 292, 310} {
		tx := begin(uint64(commit), commit)
		require.NoError(t, r.Change(t.Context(), tx, insert(1)))
		require.NoError(t, r.Commit(t.Context(), end(tx)))
		require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	}
	require.Equal(t, []string{
		"publish cache", "publish edge", "publish cache", "publish edge", "publish cache", "publish edge", "claim 0/13E",
	}, f.calls)
}

// On a stream that others can publish to, a message in the place of the newest claim, or a claim beyond the
// server's log, is a gap, and is believed in nothing.
func TestUnprovenClaims(t *testing.T) {
	for _, c := range []struct {
		name string
		last cdc.Claim
		want string
	}{
		{"far in the future", cdc.Claim{Epoch: 4, Position: at(1 << 60)}, `begin 5 1:0/0 after 9`},
		{"a little beyond the log", cdc.Claim{Epoch: 4, Position: at(1001)}, `begin 5 1:0/0 after 9`},
		{"no claim", cdc.Claim{}, `begin \d{10} 1:0/0 after 9`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{found: true, seq: 9, last: c.last}
			r, reg := newRouter(t, f, productRules)
			r.cfg.Pipeline = "shop"
			require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
			require.Regexp(t, c.want, f.calls[1])
			require.Equal(t, []string{"publish cache", "publish edge", "claim 0/64", "flushed"}, f.calls[2:])
			require.Equal(t, string(cdc.GapUnprovenClaim), f.batches[0].Reason)
			gaps, _ := metric(t, reg, "walpurge_gaps_total", "unproven_claim")
			require.InDelta(t, 1, gaps, 0)
		})
	}
}

// TestUnprovenIsNotClaimed: what may lack changes is published and not claimed, in the middle of a transaction, at its
// end, and at the end of the session. It is claimed at the Rest that proves it.
func TestUnprovenIsNotClaimed(t *testing.T) {
	r, f := started(t, productRules)
	unproven := cdc.Rest{Unproven: true}
	open := begin(5, 200)
	require.NoError(t, r.Change(t.Context(), open, insert(1)))
	require.NoError(t, r.Rest(t.Context(), unproven))
	require.NoError(t, r.Commit(t.Context(), end(open)))
	require.Empty(t, f.calls)
	require.NoError(t, r.Rest(t.Context(), unproven))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{Unproven: true, Last: true}))
	require.Equal(t, []string{"publish cache", "publish edge"}, f.calls)

	f.reset()
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{Idle: 500, Urgent: true}))
	require.Equal(t, []string{"claim 0/1F4"}, f.calls)
}
