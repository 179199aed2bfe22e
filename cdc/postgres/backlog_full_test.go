//go:build full

package postgres

import (
	"testing"

	"github.com/walpurge/walpurge/cdc/postgres/catchup"
)

// TestLargeBacklogOfOtherDatabase is TestBacklogOfOtherDatabase with the limits of a daemon.
func TestLargeBacklogOfOtherDatabase(t *testing.T) {
	backlogOfOtherDatabase(t, &catchup.Usual, 5<<10, CatchingUp)
}

// TestLargeBacklogWithOpenWriter is TestBacklogWithOpenWriter with the limits of a daemon.
func TestLargeBacklogWithOpenWriter(t *testing.T) { backlogWithOpenWriter(t, &catchup.Usual, 2400) }
