package house

import (
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/rulestest"
)

// Every good file of the repository, and every one in a document, is one to the schema that editors use.
func TestSchemasTakeAllFiles(t *testing.T) {
	schemas := map[string]*jsonschema.Schema{}
	for name, text := range map[string]string{"config": config.Schema(), "rules": rules.Schema(), "tests": rulestest.Schema()} {
		doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		require.NoError(t, err)
		c := jsonschema.NewCompiler()
		require.NoError(t, c.AddResource(name+".json", doc))
		schemas[name], err = c.Compile(name + ".json")
		require.NoError(t, err)
	}
	seen := map[string]int{}
	check := func(where, text string) {
		var v any
		if yaml.Unmarshal([]byte(text), &v) != nil {
			return
		}
		kind := ""
		top, _ := v.(map[string]any)
		switch {
		case top["pipeline"] != nil && top["sinks"] != nil:
			kind = "config"
		case top["tests"] != nil && top["rules"] != nil:
			kind = "tests"
		case isRules(v):
			kind = "rules"
		default:
			return
		}
		seen[kind]++
		if err := schemas[kind].Validate(v); err != nil {
			t.Errorf("%s: walpurge schema %s refuses it:\n%v", where, kind, err)
		}
	}
	for _, name := range files(t, ".yaml") {
		if !strings.Contains(name, "/testdata/") || strings.Contains(name, "/testdata/good") {
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
	require.Greater(t, seen["rules"], 12)
	require.Greater(t, seen["config"], 8)
	require.Greater(t, seen["tests"], 4)
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
