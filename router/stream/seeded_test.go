//go:build failpoints

package stream

import (
	"testing"

	"github.com/walpurge/walpurge/cdc/failpoint/seeded"
)

func TestSeededBugsAreCaught(t *testing.T) {
	seeded.Caught(t, "stream_discards_old", "TestAFullStreamKeepsWhatItHas")
}
