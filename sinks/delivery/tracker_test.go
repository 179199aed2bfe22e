package delivery

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// A flush that replaces a backlog may be purged before the lane that stored it has said
// that claims wait for it. Nothing would lift that, on a line that is idle.
func TestHoldAfterThePurge(t *testing.T) {
	for _, late := range []bool{false, true} {
		var tr tracker
		flush, _ := tr.add(invalidation.Message{Seq: 5, Batch: &invalidation.Batch{Flush: true}})
		claim, _ := tr.add(invalidation.Message{Seq: 6, Claim: &cdc.Claim{Epoch: 1, Counter: 1}})
		if !late {
			tr.hold(5)
			require.NotNil(t, tr.holding())
		}
		require.Nil(t, tr.purge(flush))
		if late {
			tr.hold(5)
		}
		require.Nil(t, tr.holding())
		require.NotNil(t, tr.purge(claim))
		floor, done := tr.finish(flush, claim)
		require.Equal(t, uint64(6), floor)
		require.NotNil(t, done)
	}
}
