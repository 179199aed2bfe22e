package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/rulestest"
)

// The rules of each example are taken by the sinks of its walpurge.yaml, their tests pass, and so do those of
// its alarms.
func TestExampleSystems(t *testing.T) {
	tests, err := filepath.Glob(filepath.Join(top, "deploy/examples/*/rules_test.yaml"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(tests), 2)
	for _, file := range tests {
		dir := filepath.Dir(file)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			s, err := rulestest.Load(file, rulestest.Options{})
			require.NoError(t, err)
			results := s.Run()
			require.Greater(t, len(results), 5)
			for _, r := range results {
				require.True(t, r.Passed(), "%s\n%s", r.Name, strings.Join(r.Diff, "\n"))
			}

			env := map[string]string{"SECOND_PURGE": "200ms", "ROLLOUT": "50", "VALKEY_URL": "valkey://cache", "LISTEN": "127.0.0.1:0"}
			cfg, err := config.Load(filepath.Join(dir, "walpurge.yaml"), config.Options{Offline: true, Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
			require.NoError(t, err)
			_, err = rules.Load(cfg.Rules, rules.Options{Sinks: cfg.Specs()})
			require.NoError(t, err)

			alarms, err := filepath.Glob(filepath.Join(dir, "alerts_test.yaml"))
			require.NoError(t, err)
			for _, alarm := range alarms {
				cmd := exec.CommandContext(t.Context(), program(t, "promtool"), "test", "rules", filepath.Base(alarm))
				cmd.Dir, cmd.Stderr = dir, os.Stderr
				out, err := cmd.Output()
				require.NoError(t, err, "%s", out)
			}
		})
	}
}
