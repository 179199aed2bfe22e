//go:build failpoints

package delivery

import (
	"testing"

	"github.com/walpurge/walpurge/cdc/failpoint/seeded"
)

func TestSeededBugsAreCaught(t *testing.T) {
	seeded.Caught(t, "ack_before_purge", "TestSchedules")
	seeded.Caught(t, "ack_on_failure", "TestSchedules")
	seeded.Caught(t, "visible_gate_ignored", "TestSchedules")
	seeded.Caught(t, "after_gate_ignored", "TestAnOuterLaneWaitsForTheInner")
	seeded.Caught(t, "join_in_flight", "TestJoiningOnlyBeforeTheStart")
	seeded.Caught(t, "flush_absorbs_later", "TestAFlushAbsorbsNothingThatCameLater")
}
