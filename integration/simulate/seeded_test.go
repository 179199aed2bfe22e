//go:build failpoints

package simulate

import (
	"testing"

	"github.com/walpurge/walpurge/cdc/failpoint/seeded"
)

func TestSeededBugsAreCaught(t *testing.T) {
	for _, bug := range []string{
		"confirm_on_receive", "flush_zero", "keepalive_confirms_pending_work", "confirm_before_sync", "stream_discards_old",
		"ack_before_purge", "ack_on_failure", "visible_gate_ignored", "after_gate_ignored", "join_in_flight", "flush_absorbs_later",
	} {
		t.Run(bug, func(t *testing.T) { seeded.Caught(t, bug, "TestSimulation") })
	}
}
