package config

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(Schema()))
	require.NoError(t, err)
	c := jsonschema.NewCompiler()
	require.NoError(t, c.AddResource("config.json", doc))
	s, err := c.Compile("config.json")
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
	const head = "pipeline: shop\nrules: [a.yaml]\nsinks: {cache: {valkey: {url: 'valkey://a'"
	for _, text := range []string{
		head + ", sentinel_master: m, sentinel_tls: true}}}", head + ", sentinel_master: m, sentinel_tls: {ca_file: a}}}}", head + ", username: 7}}}",
		head + ", scan: {enabled: \"${SCAN}\", keys_per_second: \"${RATE}\"}}, second_purge: 0, max_backlog: 1048576}}",
		head + "}}}\npostgres: {failover: false, replicas: auto}\n", head + "}}}\nnats:\nhttp: {}\nretired:\n",
		head + "}}}\npostgres: {failover: auto, replicas: ['postgres://r'], heartbeat: 1m30s, max_retained: 20 GiB}\n",
	} {
		require.NoError(t, validate(s, []byte(text)), text)
	}
}

// meaning are the bad files whose structure is right: only Load knows what is wrong about them.
var meaning = strings.Fields(`after_cycle after_itself after_unknown cloudfront_tags flush_kind flush_pace flush_prefix_cloudfront flush_prefix_unable
	flush_prefix_varnish flush_prefix_zone flush_tag_form formerly glob_form glob_of_nothing heartbeat max_backlog max_wait missing_variable nats_both
	nats_credentials nats_empty nats_replicas_embedded nats_token nats_token_url retired second_purge short_age slot small_size takes_kind takes_needs_scan
	two_zone_keys valkey_sentinel valkey_tag_sets valkey_tls valkey_url varnish_flush varnish_nodes varnish_takes webhook_http webhook_json
	webhook_json_type webhook_variable zones_host cloudfront_headers fastly_headers varnish_headers warm_after_warm warm_age
	warm_hot warm_hot_kind warm_inner warm_takes`)

func TestSchemaRefusesBadStructure(t *testing.T) {
	s := compiledSchema(t)
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		if only := slices.Contains(meaning, name); only == (validate(s, text) != nil) {
			t.Errorf("%s: the schema refuses it: %v, which is not as listed. Give the key its shape in shapes (schema.go), or add the file to meaning where no schema could tell", file, only)
		}
	}
	const head = "pipeline: shop\nrules: [a.yaml]\nsinks: {cache: {valkey: {url: 'valkey://a'"
	for _, text := range []string{
		"[]", "pipeline: shop", head + "}}}\nnats: []\n", head + "}}}\nhttp: {port: 1}\n", head + ", mode: proxy}}}", head + ", scan: {enabled: 7}}}}", head + "}, rollout: 101}}",
		head + "}, takes: [key]}}", head + "}, takes: keys}}", head + "}, flush: {everything: everything}}}", head + "}, varnish: {nodes: [a]}}}", head + ", sentinel_tls: maybe}}}",
		head + "}, max_wait: 30}}", head + "}, max_backlog: much}}", head + "}}}\npostgres: {visible: 1}\n", head + "}}}\npostgres: {url: true}\n",
	} {
		require.Error(t, validate(s, []byte(text)), text)
	}
}

// Editors show a description for each key.
func TestEveryKeyHasADescription(t *testing.T) {
	var root object
	require.NoError(t, json.Unmarshal([]byte(Schema()), &root))
	seen := map[string]bool{}
	var walk func(node object, path string)
	walk = func(node object, path string) {
		properties, _ := node["properties"].(object)
		for name, p := range properties {
			key := strings.TrimPrefix(path+"."+name, ".")
			seen[key] = true
			if p.(object)["description"] == nil {
				t.Errorf("the key %s has no description: add it to descriptions (descriptions.go), in the words of docs/config.md", key)
			}
			walk(p.(object), key)
		}
		if items, ok := node["items"].(object); ok {
			walk(items, path+".[]")
		}
		if free, ok := node["additionalProperties"].(object); ok {
			seen[path+".*"] = true
			walk(free, path+".*")
		}
		choices, _ := node["anyOf"].([]any)
		for _, c := range choices {
			walk(c.(object), path)
		}
	}
	walk(root, "")
	for _, named := range []map[string]bool{keysOf(descriptions), keysOf(required), keysOf(shapes)} {
		for _, key := range slices.Sorted(maps.Keys(named)) {
			if !seen[key] && key != "" && !strings.HasSuffix(key, "[]") {
				t.Errorf("schema.go or descriptions.go has %s, which is no key: remove it", key)
			}
		}
	}
}

func keysOf[V any](m map[string]V) map[string]bool {
	out := map[string]bool{}
	for k := range m {
		out[k] = true
	}
	return out
}
