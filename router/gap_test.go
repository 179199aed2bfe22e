package router

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func position(system string, timeline uint32, lsn cdc.LSN) cdc.Position {
	return cdc.Position{SystemID: system, Timeline: timeline, LSN: lsn}
}

func TestFindGap(t *testing.T) {
	for _, leapt := range []cdc.GapReason{cdc.GapSkipped, cdc.GapRetained} {
		// Even where nothing was left out: who asked for a flush gets one.
		gap, broken := findGap(cdc.Claim{Position: position("a", 1, 50)}, true, cdc.Session{Start: position("a", 1, 50), Leapt: leapt})
		require.True(t, broken)
		require.Equal(t, leapt, gap.Reason)
	}
	// A slot that was made by hand and never read: without a claim a first start, with
	// one a slot like any other.
	_, broken := findGap(cdc.Claim{}, false, cdc.Session{Start: position("a", 1, 10), SlotUnread: true})
	require.False(t, broken)
	_, broken = findGap(cdc.Claim{Position: position("a", 1, 10)}, true, cdc.Session{Start: position("a", 1, 10), SlotUnread: true})
	require.False(t, broken)
	_, broken = findGap(cdc.Claim{Position: position("a", 1, 5)}, true, cdc.Session{Start: position("a", 1, 10), SlotUnread: true})
	require.True(t, broken)
	for _, c := range []struct {
		name    string
		last    cdc.Position
		found   bool
		start   cdc.Position
		created bool
		want    cdc.GapReason
	}{
		{"first start", cdc.Position{}, false, position("a", 1, 10), true, ""},
		{"slot recreated", position("a", 1, 50), true, position("a", 1, 10), true, cdc.GapSlotLost},
		{"slot recreated on another cluster", position("a", 1, 50), true, position("b", 1, 10), true, cdc.GapSlotLost},
		{"stream recreated", cdc.Position{}, false, position("a", 1, 10), false, cdc.GapStreamBehind},
		{"another cluster", position("a", 1, 50), true, position("b", 1, 10), false, cdc.GapSystemChanged},
		{"another cluster, same numbers", position("a", 1, 50), true, position("b", 1, 50), false, cdc.GapSystemChanged},
		{"slot beyond the claim", position("a", 1, 50), true, position("a", 1, 51), false, cdc.GapStreamBehind},
		{"slot at the claim", position("a", 1, 50), true, position("a", 1, 50), false, ""},
		{"slot behind the claim", position("a", 1, 50), true, position("a", 1, 10), false, ""},
		{"promoted, slot behind", position("a", 1, 50), true, position("a", 2, 40), false, ""},
		{"promoted, slot at the claim", position("a", 1, 50), true, position("a", 2, 50), false, ""},
		{"promoted, slot beyond", position("a", 1, 50), true, position("a", 2, 60), false, cdc.GapStreamBehind},
		{"an epoch was begun over a gap and no more", position("b", 3, 0), true, position("b", 3, 10), false, cdc.GapStreamBehind},
	} {
		t.Run(c.name, func(t *testing.T) {
			gap, broken := findGap(cdc.Claim{Position: c.last}, c.found, cdc.Session{Start: c.start, SlotCreated: c.created})
			require.Equal(t, c.want != "", broken)
			require.Equal(t, c.want, gap.Reason)
			if broken {
				require.Equal(t, c.last, gap.From)
				require.Equal(t, c.start, gap.To)
			}
		})
	}
}
