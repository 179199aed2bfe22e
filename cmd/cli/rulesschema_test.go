package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/rulestest"
)

func TestRulesSchema(t *testing.T) {
	code, stdout, stderr := call("", "rules", "schema")
	require.Zero(t, code)
	require.Empty(t, stderr)
	require.Equal(t, rules.Schema(), stdout)
	code, _, stderr = call("", "rules", "schema", "--jsn")
	require.Equal(t, 2, code)
	require.Equal(t, "walpurge: unknown flag: --jsn; see walpurge rules schema --help\n", stderr)
}

func TestSchemaCommand(t *testing.T) {
	for name, want := range map[string]string{"config": config.Schema(), "rules": rules.Schema(), "tests": rulestest.Schema()} {
		code, stdout, stderr := call("", "schema", name)
		require.Zero(t, code)
		require.Empty(t, stderr)
		require.Equal(t, want, stdout)
		require.True(t, json.Valid([]byte(stdout)))
	}
	code, _, stderr := call("", "schema", "rule")
	require.Equal(t, 2, code)
	require.Contains(t, stderr, "rule")
}

// Every command below rules shows how it is called.
func TestRulesHelpHasExamples(t *testing.T) {
	for _, c := range rulesCommand().Commands() {
		code, stdout, _ := call("", "rules", c.Name(), "--help")
		require.Zero(t, code)
		_, examples, found := strings.Cut(stdout, "\nExamples:\n")
		require.True(t, found, c.Name())
		require.True(t, strings.HasPrefix(examples, "  walpurge rules "+c.Name()+" "), examples)
	}
}
