package machine

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestFloorOfTheTracker(t *testing.T) {
	var tr tracker
	var entries []*Entry
	for seq := uint64(1); seq <= 4; seq++ {
		m := batch(seq)
		if seq == 2 || seq == 4 {
			m = claim(seq, 1)
		}
		e, again := tr.add(m)
		require.False(t, again)
		entries = append(entries, e)
	}
	require.Equal(t, uint64(1), tr.oldest().Stamp.XIDs[0])
	finish := func(ee ...*Entry) (uint64, *cdc.Claim) {
		tr.purge(ee...)
		return tr.finish(ee...)
	}
	floor, c := finish(entries[1], entries[3])
	require.Zero(t, floor, "one is still at work")
	require.Nil(t, c)
	floor, c = finish(entries[0])
	require.Equal(t, uint64(2), floor)
	require.Equal(t, cdc.LSN(2), c.Position.LSN)
	require.Equal(t, uint64(3), tr.oldest().Stamp.XIDs[0])
	floor, c = finish(entries[2])
	require.Equal(t, uint64(4), floor)
	require.Equal(t, cdc.LSN(4), c.Position.LSN)
	require.Nil(t, tr.oldest())
	_, again := tr.add(batch(3))
	require.True(t, again, "done already")
}

// A flush that replaces a backlog may be purged before the lane that stored it has said
// that claims wait for it. Nothing would lift that, on a line that is idle.
func TestHoldAfterThePurge(t *testing.T) {
	for _, late := range []bool{false, true} {
		var tr tracker
		flush, _ := tr.add(invalidation.Message{Seq: 5, Batch: &invalidation.Batch{Flush: true}})
		claim, _ := tr.add(invalidation.Message{Seq: 6, Claim: &cdc.Claim{Epoch: 1, Counter: 1}})
		if !late {
			tr.hold(5)
			require.NotZero(t, tr.held)
		}
		require.Nil(t, tr.purge(flush))
		if late {
			tr.hold(5)
		}
		require.Zero(t, tr.held)
		require.NotNil(t, tr.purge(claim))
		floor, done := tr.finish(flush, claim)
		require.Equal(t, uint64(6), floor)
		require.NotNil(t, done)
	}
}

// Messages that newer ones hold are acknowledged before they are purged, but not with the newest claim behind them: a
// lane that has it behind itself after a restart has purged all before it.
func TestTheNewestClaimIsNotAcknowledgedEarly(t *testing.T) {
	var tr tracker
	deferred, _ := tr.add(batch(1, "a"))
	said, _ := tr.add(claim(2, 1))
	require.Equal(t, uint64(1), tr.passOn(deferred))
	require.Nil(t, tr.purge(said))
	floor, _ := tr.finish(said)
	require.Zero(t, floor)
	require.NotNil(t, tr.purge(deferred))
	floor, _ = tr.finish(deferred)
	require.Equal(t, uint64(2), floor)
}
