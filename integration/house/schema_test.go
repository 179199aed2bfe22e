package house

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

// Every good rules file of the repository, and every one in a document, is one to
// the schema that editors use.
func TestSchemaTakesAllRules(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(rules.Schema))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("rules.json", doc))
	schema, err := c.Compile("rules.json")
	require.NoError(t, err)
	seen := 0
	check := func(where, text string) {
		var v any
		if yaml.Unmarshal([]byte(text), &v) != nil || !isRules(v) {
			return
		}
		seen++
		if err := schema.Validate(v); err != nil {
			t.Errorf("%s: the schema in rules/schema.json refuses it:\n%v", where, err)
		}
	}
	for _, name := range files(t, ".yaml") {
		if !strings.Contains(name, "/testdata/bad") {
			check(name, read(t, name))
		}
	}
	for _, name := range files(t, ".md") {
		found, _ := blocks(read(t, name))
		for _, b := range found {
			if b.lang == "yaml" {
				check(name, b.text)
			}
		}
	}
	require.Greater(t, seen, 12)
}

// isRules tells a rules file from a configuration or a test file, which name
// rules files.
func isRules(v any) bool {
	top, _ := v.(map[string]any)
	list, ok := top["rules"].([]any)
	if !ok || len(list) == 0 {
		return false
	}
	_, ok = list[0].(map[string]any)
	return ok
}
