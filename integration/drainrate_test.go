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

// The drain of a backlog must stay near what it was: our time against that of
// pg_recvlogical for the same backlog in the same minutes, never a time by itself. The
// least ratios are three quarters of the goal for c, and of what was reached for a
// (docs/performance.md); b is told only. It wants both cores to itself: make test-rate.
func TestDrainRate(t *testing.T) {
	if os.Getenv("WALPURGE_TEST_RATE") == "" {
		return
	}
	const alternations = 5
	least := map[string]float64{"a": 0.75 * 0.89, "c": 0.75 * 1.2}
	program := filepath.Join(t.TempDir(), "walpurge")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/walpurge").CombinedOutput()
	require.NoError(t, err, "%s", out)
	cfg := bench.Config{Walpurge: program, Rows: 200_000, Rounds: alternations, Out: t.Output(), Log: os.Stderr}
	for _, k := range bench.Kinds {
		if strings.Contains("abc", k.Name) {
			cfg.Kinds = append(cfg.Kinds, k)
		}
	}
	results, err := bench.Run(t.Context(), cfg)
	require.NoError(t, err)
	require.Len(t, results, 3)
	for _, r := range results {
		require.GreaterOrEqual(t, r.Ratio, least[r.Kind], "backlog %s: median of %v", r.Kind, r.Ratios)
	}
}
