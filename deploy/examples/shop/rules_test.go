package shop

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/rulestest"
)

// The shop's own rule tests pass.
func TestRuleTests(t *testing.T) {
	s, err := rulestest.Load("rules_test.yaml", rulestest.Options{})
	require.NoError(t, err)
	results := s.Run()
	require.Greater(t, len(results), 5)
	for _, r := range results {
		require.True(t, r.Passed(), "%s\n%s", r.Name, strings.Join(r.Diff, "\n"))
	}
}
