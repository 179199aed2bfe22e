//go:build full

package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/bench"
)

// The drain of a backlog must stay near its goal: our time against that of
// pg_recvlogical for the same backlog in the same minutes, never a time by itself. a and b are
// read through SQL, and must be faster than the stream can be. c is streamed: at least three quarters of its goal are
// asked (docs/performance.md), or of what the reader alone gets, where the machine does not let even that reach
// the goal. A reader that gets slower must not lower the bar with it: it never falls below three
// quarters of what was once reached. It wants both cores to itself: make test-rate.
func TestDrainRate(t *testing.T) {
	const alternations = 5
	least := map[string]float64{"a": 1.2, "b": 2.3}
	const goal, reached = 1.6, 1.2 // of c
	program := filepath.Join(t.TempDir(), "walpurge")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/walpurge").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cfg := bench.Config{Walpurge: program, Rows: 600_000, Rounds: alternations, Out: t.Output(), Log: os.Stderr}
	for _, k := range bench.Kinds {
		if strings.Contains("abc", k.Name) {
			cfg.Kinds = append(cfg.Kinds, k)
		}
	}
	results, err := bench.Run(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, results, 3)
	for _, r := range results {
		require.Positive(t, r.Bound)
		if r.Kind == "c" {
			least["c"] = 0.75 * max(reached, min(goal, r.Bound))
		}
		require.GreaterOrEqual(t, r.Ratio, least[r.Kind], "backlog %s: median of %v, the reader alone %.2f", r.Kind, r.Ratios, r.Bound)
	}
}
