package rules

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("rules.json", doc))
	s, err := c.Compile("rules.json")
	require.NoError(t, err)
	return s
}

func validate(s *jsonschema.Schema, text []byte) error {
	var v any
	if err := yaml.Unmarshal(text, &v); err != nil {
		return err
	}
	return s.Validate(v)
}

func TestSchemaTakesGoodFiles(t *testing.T) {
	s := compiledSchema(t)
	files, err := filepath.Glob("testdata/good/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, validate(s, text), file)
	}
	const head = "rules:\n  - name: x\n    table: public.t\n"
	for _, text := range []string{
		head + "    keys: [7, 'a']\n    every: 1h30m\n    rollout: 0\n    collapse: {over: 5, tags: [a]}\n",
		head + "    to: {edge: {urls: ['https://a/{id}']}}\n    collapse: [{over: 5, tags: [a]}, {over: 50, keys: [b]}]\n",
		head + "    keys: ['{m.id}']\n    unknown: {generations: [g]}\n    lookup: {m: {sql: SELECT 1, args: ['{id}'], limit: 5, timeout: 1s}}\n",
		"rules: [{name: x, table: 'tenant_{tenant}.orders', key_prefixes: ['a:{id}:'], url_prefixes: ['h/{id}/']}]\n",
		"rules: [{name: by-hand, message: cache.purge, sinks: [cache]}]\n",
		"vars: {a: 1, b: [x, 2.5]}\n",
	} {
		require.NoError(t, validate(s, []byte(text)), text)
	}
}

// What is wrong about keys and types an editor can say; the rest is the loader's.
func TestSchemaRefusesBadStructure(t *testing.T) {
	s := compiledSchema(t)
	for _, name := range []string{
		"bad_name", "bad_op", "empty_key", "no_name", "no_schema", "no_table", "no_values", "null_rule", "on_truncate_empty", "op_empty", "op_truncate",
		"sinks_empty", "to_empty", "to_unknown_key", "two_dots", "unknown_key", "unknown_nothing", "unquoted_template",
		"vars_empty", "vars_in_rule", "vars_name", "vars_nested", "vars_nested_list", "vars_null", "vars_twice",
	} {
		text, err := os.ReadFile("testdata/bad/" + name + ".yaml")
		require.NoError(t, err)
		require.Error(t, validate(s, text), name)
	}
	const head = "rules:\n  - name: x\n    table: public.t\n    keys: [a]\n"
	for _, text := range []string{
		"rule: []", "rules: {}", "[]", "defaults: {sink: [a]}", "defaults: {sinks: cache}", "vars: [a]",
		head + "    message: m", head + "    when: true", head + "    when: [a]", head + "    tags: {a: b}", head + "    tags: [[a]]", head + "    tags: [true]", head + "    urls: a",
		head + "    unknown: [a]", head + "    unknown: {key: [a]}", head + "    on_truncate: {tags: a}", head + "    sinks: cache", head + "    to: {edge: [a]}",
		head + "    collapse: {tags: [a]}", head + "    collapse: {over: 5}", head + "    collapse: []", head + "    collapse: {over: many, tags: [a]}", head + "    collapse: [{over: 0, tags: [a]}]",
		head + "    every: 30", head + "    every: soon", head + "    rollout: 101", head + "    rollout: half",
		head + "    lookup: {}", head + "    lookup: {m: {args: [a]}}", head + "    lookup: {m: {sql: a, arg: [a]}}", head + "    lookup: {m: {sql: a, timeout: 5}}", head + "    lookup: {1m: {sql: a}}",
		"rules: [{name: x, message: ''}]",
	} {
		require.Error(t, validate(s, []byte(text)), text)
	}
}

// The schema has the keys of the loader, at every level, and no others.
func TestSchemaHasTheLoadersKeys(t *testing.T) {
	var schema map[string]any
	require.NoError(t, json.Unmarshal([]byte(Schema()), &schema))
	inSchema := map[string]bool{}
	schemaKeys(schema, schema, "", inSchema)
	inLoader, opaque := map[string]bool{}, map[string]bool{}
	loaderKeys(reflect.TypeFor[rawFile](), "", inLoader, opaque)
	require.Contains(t, inLoader, ".rules.to.*.keys", "the walk gets as deep as this")

	// The loader knows it to say where it belongs.
	require.True(t, inLoader[".rules.vars"])
	delete(inLoader, ".rules.vars")

	for key := range inSchema {
		for path := range opaque { // read as it is, or refused
			if strings.HasPrefix(key, path+".") {
				delete(inSchema, key)
			}
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(inLoader)), slices.Sorted(maps.Keys(inSchema)))
}

// schemaKeys gathers the paths of properties; lists leave no trace in a path, and
// a * means a name that is free.
func schemaKeys(root, node map[string]any, path string, into map[string]bool) {
	if ref, ok := node["$ref"].(string); ok {
		schemaKeys(root, root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any), path, into)
	}
	properties, _ := node["properties"].(map[string]any)
	for name, p := range properties {
		into[path+"."+name] = true
		schemaKeys(root, p.(map[string]any), path+"."+name, into)
	}
	if items, ok := node["items"].(map[string]any); ok {
		schemaKeys(root, items, path, into)
	}
	if free, ok := node["additionalProperties"].(map[string]any); ok {
		schemaKeys(root, free, path+".*", into)
	}
	for _, word := range []string{"oneOf", "anyOf", "allOf"} {
		choices, _ := node[word].([]any)
		for _, c := range choices {
			schemaKeys(root, c.(map[string]any), path, into)
		}
	}
}

// loaderKeys gathers the same from the types that the loader decodes into. A
// struct without keys of its own decodes itself into one of its fields.
func loaderKeys(typ reflect.Type, path string, into, opaque map[string]bool) {
	switch {
	case typ == reflect.TypeFor[*strictyaml.Node]() || typ == reflect.TypeFor[strictyaml.Node]():
		opaque[path] = true
	case typ == reflect.TypeFor[rawLists]():
		for _, k := range invalidation.InRules() {
			into[path+"."+k.Plural()] = true
			if k.Form() == invalidation.FormField {
				loaderKeys(reflect.TypeFor[rawField](), path+"."+k.Plural(), into, opaque)
			}
		}
	case typ.Kind() == reflect.Pointer || typ.Kind() == reflect.Slice && !strings.HasPrefix(typ.Elem().Name(), "Entry["):
		loaderKeys(typ.Elem(), path, into, opaque)
	case typ.Kind() == reflect.Slice:
		value, _ := typ.Elem().FieldByName("Value")
		loaderKeys(value.Type, path+".*", into, opaque)
	case typ.Kind() == reflect.Struct && typ.PkgPath() == reflect.TypeFor[rawFile]().PkgPath():
		for i := range typ.NumField() {
			f := typ.Field(i)
			name, options, tagged := strings.Cut(f.Tag.Get("yaml"), ",")
			switch {
			case name != "":
				into[path+"."+name] = true
				loaderKeys(f.Type, path+"."+name, into, opaque)
			case tagged && options == "inline" || f.Type != reflect.TypeFor[*strictyaml.Node]():
				loaderKeys(f.Type, path, into, opaque)
			}
		}
	}
}
