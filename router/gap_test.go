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
		gap, broken := findGap(cdc.Claim{Position: position("a", 1, 50)}, true, cdc.Session{Start: position("a", 1, 50), End: 100, Leapt: leapt})
		require.True(t, broken)
		require.Equal(t, leapt, gap.Reason)
	}
	// A slot that was made manually and never read: without a claim a first start, with
	// one a slot like any other.
	_, broken := findGap(cdc.Claim{}, false, cdc.Session{Start: position("a", 1, 10), End: 100, SlotUnread: true})
	require.False(t, broken)
	_, broken = findGap(cdc.Claim{Position: position("a", 1, 10)}, true, cdc.Session{Start: position("a", 1, 10), End: 100, SlotUnread: true})
	require.False(t, broken)
	_, broken = findGap(cdc.Claim{Position: position("a", 1, 5)}, true, cdc.Session{Start: position("a", 1, 10), End: 100, SlotUnread: true})
	require.True(t, broken)
	// Timeline 1 was left at 60, 2 at 80; 4 left 1 as 2 did.
	ancestors := map[uint32][]cdc.Ancestor{
		2: {{Timeline: 1, End: 60}},
		3: {{Timeline: 1, End: 60}, {Timeline: 2, End: 80}},
		4: {{Timeline: 1, End: 60}},
	}
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
		{"promoted, slot beyond the claim", position("a", 1, 50), true, position("a", 2, 55), false, cdc.GapStreamBehind},
		{"promoted, slot beyond the switch", position("a", 1, 50), true, position("a", 2, 70), false, cdc.GapStreamBehind},
		{"promoted, claim at the switch", position("a", 1, 60), true, position("a", 2, 60), false, ""},
		{"promoted, claim beyond the switch", position("a", 1, 61), true, position("a", 2, 40), false, cdc.GapTimelineForked},
		{"promoted, claim beyond the switch and the slot between", position("a", 1, 90), true, position("a", 2, 70), false, cdc.GapTimelineForked},
		{"promoted, slot made again", position("a", 1, 50), true, position("a", 2, 70), true, cdc.GapSlotLost},
		{"promoted twice", position("a", 1, 60), true, position("a", 3, 50), false, ""},
		{"promoted twice, claim between the switches", position("a", 1, 70), true, position("a", 3, 50), false, cdc.GapTimelineForked},
		{"promoted on a branch that the claim was never on", position("a", 2, 65), true, position("a", 4, 65), false, cdc.GapTimelineForked},
		{"an epoch was begun over a gap and no more", position("b", 3, 0), true, position("b", 3, 10), false, cdc.GapStreamBehind},
	} {
		t.Run(c.name, func(t *testing.T) {
			gap, broken := findGap(cdc.Claim{Position: c.last}, c.found, cdc.Session{Start: c.start, SlotCreated: c.created, End: 100, History: ancestors[c.start.Timeline]})
			require.Equal(t, c.want != "", broken)
			require.Equal(t, c.want, gap.Reason)
			if broken {
				require.Equal(t, c.last, gap.From)
				require.Equal(t, c.start, gap.To)
			}
		})
	}
}

// A server that has less than was streamed, without a new timeline, is not one to go on with.
func TestFormerStates(t *testing.T) {
	for _, c := range []struct {
		name        string
		last, start cdc.Position
		want        string
	}{
		{"the same", position("a", 2, 100), position("a", 2, 90), ""},
		{"put back", position("a", 2, 101), position("a", 2, 90), "the server's log ends at 0/64, and 0/65 was streamed before"},
		{"a former primary", position("a", 3, 50), position("a", 2, 90), "the server is on timeline 2, and timeline 3 was streamed before"},
		{"promoted", position("a", 1, 500), position("a", 2, 90), ""},
		{"another cluster", position("b", 3, 500), position("a", 2, 90), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: c.last}}
			r, _ := newRouter(t, f, productRules)
			err := r.Start(t.Context(), cdc.Session{Start: c.start, End: 100})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
			require.Equal(t, []string{"flushed"}, f.calls, "nothing is written")
		})
	}
}

// A stream that others may use belongs to one database.
func TestForeign(t *testing.T) {
	seven := cdc.Owner{SystemID: "7", Database: 16384}
	unknown := cdc.Owner{SystemID: "7"} // of a claim from before claims named the database
	for _, c := range []struct {
		name      string
		last, now cdc.Owner
		formerly  string
		want      string
	}{
		{"its own", seven, seven, "", ""},
		{"its own, by an older version", unknown, seven, "", ""},
		{"another cluster that replaced it", seven, cdc.Owner{SystemID: "8", Database: 16384}, "7", ""},
		{"a database that replaced it", seven, cdc.Owner{SystemID: "7", Database: 16999}, "7/16384", ""},
		{"another cluster", seven, cdc.Owner{SystemID: "8", Database: 16384}, "",
			`belongs to the database cluster with the system identifier 7, and postgres.url is that with 8`},
		{"another cluster, and the present one as the former", seven, cdc.Owner{SystemID: "8", Database: 5}, "8", "write `formerly: \"7\"` under `postgres`"},
		{"another cluster, and a third as the former", seven, cdc.Owner{SystemID: "8", Database: 5}, "9/5", "write `formerly: \"7\"` under `postgres`"},
		{"another database", seven, cdc.Owner{SystemID: "7", Database: 16999}, "",
			`belongs to the database with the OID 16384, and postgres.url is that with the OID 16999 of the same cluster`},
		{"another database, and a third as the former", seven, cdc.Owner{SystemID: "7", Database: 16999}, "7/5", "write `formerly: \"7/16384\"` under `postgres`"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Foreign("shop", c.last, c.now, c.formerly)
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, `the stream of pipeline "shop" on this NATS server `)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// Another database of the same cluster, and a first start beside what another pipeline left.
func TestGapOfAnotherOwner(t *testing.T) {
	last := cdc.Claim{Position: position("a", 1, 50), Database: 16384}
	gap, broken := findGap(last, true, cdc.Session{Start: position("a", 1, 10), Database: 16999})
	require.True(t, broken)
	require.Equal(t, cdc.GapDatabaseChanged, gap.Reason)
	_, broken = findGap(last, true, cdc.Session{Start: position("a", 1, 10), End: 100, Database: 16384})
	require.False(t, broken)
	last.Database = 0
	_, broken = findGap(last, true, cdc.Session{Start: position("a", 1, 10), End: 100, Database: 16384})
	require.False(t, broken, "a claim from before claims named the database")

	left := []string{"walpurge_old"}
	for _, s := range []cdc.Session{{SlotCreated: true}, {SlotUnread: true}} {
		s.Start, s.Inactive = position("a", 1, 10), left
		gap, broken = findGap(cdc.Claim{}, false, s)
		require.True(t, broken)
		require.Equal(t, cdc.GapRenamed, gap.Reason)
	}
	_, broken = findGap(cdc.Claim{Position: position("a", 1, 50)}, true, cdc.Session{Start: position("a", 1, 10), End: 100, SlotUnread: true, Inactive: left})
	require.False(t, broken, "the stream goes on")
}

// What an epoch begins with names the database, also over a gap.
func TestEpochsNameTheDatabase(t *testing.T) {
	for _, f := range []*fake{
		{found: true, last: cdc.Claim{Epoch: 1, Position: position("a", 1, 10), Database: 16384}},
		{found: true, last: cdc.Claim{Epoch: 1, Position: position("a", 1, 10), Database: 16999}},
	} {
		r, _ := newRouter(t, f, productRules)
		require.NoError(t, r.Start(t.Context(), cdc.Session{Start: position("a", 1, 10), End: 100, Database: 16384}))
		require.Equal(t, uint32(16384), f.begun.Database)
	}
}
