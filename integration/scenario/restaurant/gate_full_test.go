//go:build full

package restaurant

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// TestGateIsRed runs the gate with one regression after the other: a rule removed, a lifetime halved,
// a query added. Each is found by the figure that it moves.
func TestGateIsRed(t *testing.T) {
	root, err := filepath.Abs("../../..")
	require.NoError(t, err)
	program := filepath.Join(t.TempDir(), "walpurge")
	cmd := exec.Command("go", "build", "-o", program, "./cmd/walpurge")
	cmd.Dir = root
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	raw, err := os.ReadFile(filepath.Join(root, "deploy/examples/restaurant/bounds.json"))
	require.NoError(t, err)
	bounds, err := results.ParseBounds(raw)
	require.NoError(t, err)
	for _, tt := range []struct {
		name string
		edit scenario.Edit
		want string
	}{
		{"a rule removed", scenario.Edit{File: "rules/restaurant.yaml", Old: "table: public.accounts\n    ops: [update, delete]", New: "table: public.accounts\n    ops: [delete]"}, "older than 1 s, at most 0: account:"},
		{"a lifetime halved", scenario.Edit{File: "app/cache.go", Old: "menuTTL    = 20 * time.Second", New: "menuTTL    = 10 * time.Second"}, "TTL only: hit rate"},
		{"a query added", scenario.Edit{File: "app/pages.go", Old: "	var version int64\n	var body string\n", New: "	var version int64\n	var body string\n	_ = a.db.QueryRow(ctx, \"SELECT 1\").Scan(&version)\n"}, "queries per request"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			measured, err := scenario.Gate(t.Context(), Scenario(), scenario.Options{
				Root: root, Walpurge: program, Version: "test", Out: t.Output(), Alternations: 1, Edits: []scenario.Edit{tt.edit},
			})
			require.NoError(t, err)
			verdict := results.Compare(bounds, measured)
			t.Log(verdict)
			require.Contains(t, strings.Join(verdict.Failed, "\n"), tt.want)
		})
	}
}
