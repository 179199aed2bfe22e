package house

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// dashboard is what is looked at of Grafana's format.
type dashboard struct {
	Panels []struct {
		ID      int    `json:"id"`
		Type    string `json:"type"`
		Title   string `json:"title"`
		GridPos struct {
			H, W, X, Y int
		} `json:"gridPos"`
		Targets []struct {
			Expr         string `json:"expr"`
			LegendFormat string `json:"legendFormat"`
		} `json:"targets"`
	} `json:"panels"`
}

var (
	legendForm = regexp.MustCompile(`\{\{(\w+)\}\}`)
	byForm     = regexp.MustCompile(`\bby \(([^)]*)\)`)
)

// Panels have their own places and numbers, queries are queries (Prometheus
// reads them, as recording rules), keep to the chosen pipeline, and keep the
// labels that legends show.
func TestDashboard(t *testing.T) {
	var d dashboard
	require.NoError(t, json.Unmarshal([]byte(read(t, "deploy/grafana/walpurge.json")), &d))
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	var rules []rule
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, p := range d.Panels {
		require.False(t, ids[p.ID], "two panels have the number %d", p.ID)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on another panel", p.Title)
				require.Less(t, x, 24, p.Title)
				taken[[2]int{x, y}] = p.Title
			}
		}
		if p.Type != "row" {
			require.NotEmpty(t, p.Targets, p.Title)
		}
		for _, q := range p.Targets {
			require.Contains(t, q.Expr, `pipeline="$pipeline"`, p.Title)
			kept := byForm.FindStringSubmatch(q.Expr)
			for _, label := range legendForm.FindAllStringSubmatch(q.LegendFormat, -1) {
				require.NotNil(t, kept, "%s: %s", p.Title, q.Expr)
				require.Regexp(t, `\b`+label[1]+`\b`, kept[1], "%s: the legend shows {{%s}}", p.Title, label[1])
			}
			expr := strings.NewReplacer("$__rate_interval", "1m", "$pipeline", "shop").Replace(q.Expr)
			rules = append(rules, rule{fmt.Sprintf("q:%d", len(rules)), expr})
		}
	}
	require.Greater(t, len(rules), 30)
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	require.NoError(t, err)
	file := filepath.Join(t.TempDir(), "rules.yaml")
	require.NoError(t, os.WriteFile(file, text, 0o600))
	out, err := exec.CommandContext(t.Context(), program(t, "promtool"), "check", "rules", file).CombinedOutput()
	require.NoError(t, err, "%s", out)
}
