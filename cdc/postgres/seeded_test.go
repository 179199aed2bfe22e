//go:build failpoints

package postgres

import (
	"testing"

	"github.com/walpurge/walpurge/cdc/failpoint/seeded"
)

func TestSeededBugsAreCaught(t *testing.T) {
	seeded.Caught(t, "confirm_on_receive", "TestStatusUpdate")
	seeded.Caught(t, "flush_zero", "TestStatusUpdate")
	seeded.Caught(t, "keepalive_confirms_pending_work", "TestKeepaliveConfirmsNothingByItself")
}
