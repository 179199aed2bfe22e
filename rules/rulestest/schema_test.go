package rulestest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestSchema(t *testing.T) {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("tests.json", doc))
	s, err := c.Compile("tests.json")
	require.NoError(t, err)
	validate := func(text []byte) error {
		var v any
		if err := yaml.Unmarshal(text, &v); err != nil {
			return err
		}
		return s.Validate(v)
	}
	for _, pattern := range []string{"testdata/*_test.yaml", "testdata/typed/*_test.yaml"} {
		files, err := filepath.Glob(pattern)
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, validate(text), file)
		}
	}
	// Names of files, sinks and columns, and what is wrong in rules, only Load knows.
	meaning := map[string]bool{"rules_broken": true}
	files, err := filepath.Glob("testdata/bad/*_test.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(file), "_test.yaml")
		require.Equal(t, !meaning[name], validate(text) != nil, "%s: correct schema.json, or add the file to meaning if no schema could tell", file)
	}
	const head = "rules: [a.yaml]\ntests:\n  - {name: a, table: public.t, "
	for _, text := range []string{
		"tests: []", head + "insert: {id: 1}}", head + "insert: {id: 1}, update: {old: {}, new: {}}, expect: {}}", head + "truncate: false, expect: {}}", head + "insert: [1], expect: {}}",
		head + "insert: {id: 1}, expect: {keys: a}}", head + "insert: {id: 1}, expect: {cache: {kyes: [a]}}}", head + "insert: {id: 1}, repeat: 0, expect: {}}",
		head + "insert: {id: 1}, identity: nothing, expect: {}}", head + "message: {prefix: a}, expect: {}}", head + "insert: {id: 1}, lookup: {m: {a: 1}}, expect: {}}",
	} {
		require.Error(t, validate([]byte(text)), text)
	}
}

// The schema has the keys of the loader. A key that is missing here is added to schema.json with a description.
func TestSchemaHasTheLoadersKeys(t *testing.T) {
	var root map[string]any
	require.NoError(t, json.Unmarshal([]byte(Schema()), &root))
	test := root["$defs"].(map[string]any)["test"].(map[string]any)["properties"].(map[string]any)
	same := func(properties map[string]any, typ reflect.Type) {
		want := 0
		var walk func(reflect.Type)
		walk = func(typ reflect.Type) {
			for i := range typ.NumField() {
				name, options, _ := strings.Cut(typ.Field(i).Tag.Get("yaml"), ",")
				if options == "inline" {
					walk(typ.Field(i).Type)
				} else if name != "" {
					want++
					require.Contains(t, properties, name, "add the key to schema.json")
					require.NotEmpty(t, properties[name].(map[string]any)["description"], name)
				}
			}
		}
		walk(typ)
		require.Len(t, properties, want, "schema.json has a key that is not read")
	}
	same(root["properties"].(map[string]any), reflect.TypeFor[rawFile]())
	same(test, reflect.TypeFor[rawFields]())
	same(test["update"].(map[string]any)["properties"].(map[string]any), reflect.TypeFor[rawUpdate]())
	same(test["message"].(map[string]any)["properties"].(map[string]any), reflect.TypeFor[rawMessage]())
	for _, kind := range invalidation.All() {
		for _, kinds := range []any{test["expect"], root["$defs"].(map[string]any)["bySink"]} {
			require.Contains(t, kinds.(map[string]any)["properties"], kind.Plural())
		}
	}
}
