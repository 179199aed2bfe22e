package shop

import (
	"regexp"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

type rule struct {
	Name       string              `yaml:"name"`
	Table      string              `yaml:"table"`
	Ops        []string            `yaml:"ops"`
	When       string              `yaml:"when"`
	Keys       []string            `yaml:"keys"`
	Tags       []string            `yaml:"tags"`
	Sinks      []string            `yaml:"sinks"`
	Unknown    map[string][]string `yaml:"unknown"`
	OnTruncate map[string][]string `yaml:"on_truncate"`
}

var (
	tableSQL = regexp.MustCompile(`(?s)CREATE TABLE (\w+) \((.*?)\n\);`)
	braces   = regexp.MustCompile(`\{(\w+)\}`)
)

// The rules name tables and columns that the schema has.
func TestRulesFitTheSchema(t *testing.T) {
	columns := map[string]string{}
	for _, m := range tableSQL.FindAllStringSubmatch(SchemaSQL, -1) {
		columns["public."+m[1]] = m[2]
	}
	require.Len(t, columns, 4)

	raw, err := Rules.ReadFile("rules/catalog.yaml")
	require.NoError(t, err)
	var file struct {
		Rules []rule `yaml:"rules"`
	}
	require.NoError(t, yaml.UnmarshalWithOptions(raw, &file, yaml.Strict()))
	names := map[string]bool{}
	for _, r := range file.Rules {
		require.False(t, names[r.Name], "rule %s twice", r.Name)
		names[r.Name] = true
		require.Contains(t, columns, r.Table, r.Name)
		require.NotEmpty(t, r.Keys, r.Name)
		for _, m := range braces.FindAllStringSubmatch(strings.Join(append(r.Keys, r.Tags...), " "), -1) {
			require.Regexp(t, `(?m)^\s+`+m[1]+` `, columns[r.Table], "rule %s", r.Name)
		}
		for _, fixed := range append(r.Unknown["tags"], r.OnTruncate["tags"]...) {
			require.NotContains(t, fixed, "{", "rule %s", r.Name)
		}
	}
	require.Len(t, names, len(file.Rules))
}
