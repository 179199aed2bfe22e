//go:build failpoints

package rules

import (
	"testing"

	"github.com/walpurge/walpurge/cdc/failpoint/seeded"
)

func TestSeededBugsAreCaught(t *testing.T) {
	seeded.Caught(t, "discard_old", "TestImages")
	seeded.Caught(t, "unchanged_as_empty", "TestImages")
	seeded.Caught(t, "unknown_as_false", "TestWhenWithoutTheOldRow")
}
