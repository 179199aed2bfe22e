//go:build full

package postgres

import "testing"

// TestGigabytesOfForeignMessages is TestForeignMessagesCostNoMemory with as many messages as would fill the
// memory of a small machine.
func TestGigabytesOfForeignMessages(t *testing.T) { foreignMessages(t, 1500) }
