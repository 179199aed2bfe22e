package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// fieldRel is a table whose columns are what rules of fields read.
func fieldRel() *cdc.Relation {
	return relation(cdc.IdentityFull, "*id:int", "*name", "*empty", "*list:json")
}

func TestFields(t *testing.T) {
	rel := fieldRel()
	insert := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "a\x00b\x01 ü", "", `["x", "y"]`)}
	field := func(key, field string) string { return "3 field " + invalidation.JoinField(key, field) }
	for rule, want := range map[string][]string{
		`fields: [{key: "products", field: "{id}"}]`:                                               {field("products", "7")},
		`fields: [{key: "p:{id}", field: price}]`:                                                  {field("p:7", "price")},
		`fields: [{key: products, field: 7}]`:                                                      {field("products", "7")},
		`fields: [{key: "{name}", field: "{name}"}]`:                                               {field("a\x00b\x01 ü", "a\x00b\x01 ü")},
		`fields: [{key: "{upper(name)}", field: "{id}"}]`:                                          {field("A\x00B\x01 Ü", "7")},
		`fields: [{key: products, field: "{empty}"}]`:                                              {field("products", "")},
		`fields: [{key: products, field: ""}]`:                                                     {field("products", "")},
		`fields: [{key: "a\0b", field: "c\x01"}]`:                                                  {field("a\x00b", "c\x01")},
		`fields: [{key: "h:{list + []}", field: "{list + []}"}]`:                                   {field("h:x", "x"), field("h:x", "y"), field("h:y", "x"), field("h:y", "y")},
		`fields: [{key: "products", field: "{gone}"}]` + "\nunknown: {keys: [products]}":           {"3 key products"},
		`fields: [{key: "products", field: "{gone}"}]`:                                             {"3 key products"},
		`fields: [{key: "p:{id}", field: "{gone}"}]`:                                               {"3 key_pattern p:*"},
		`fields: [{key: products, field: "{id}"}]` + "\nto: {all: {fields: [{key: h, field: x}]}}": {field("products", "7"), field("h", "x")},
	} {
		require.Equal(t, want, eval(t, allRule(t, rule), insert).values, rule)
	}
}

// A TRUNCATE and a flush purge whole hashes.
func TestFieldsOfATruncate(t *testing.T) {
	rel := fieldRel()
	for rule, want := range map[string][]string{
		`fields: [{key: products, field: "{id}"}]`:                                                    {"3 key products"},
		`fields: [{key: products, field: all}]`:                                                       {"3 field " + invalidation.JoinField("products", "all")},
		`fields: [{key: "p*:{id}", field: x}]`:                                                        {`3 key_pattern p\*:*`},
		`fields: [{key: "{name}", field: x}]`:                                                         {"3 everything "},
		`fields: [{key: p, field: "{id}"}]` + "\non_truncate: {fields: [{key: p, field: all}]}":       {"3 field " + invalidation.JoinField("p", "all")},
		`fields: [{key: p, field: "{id}"}]` + "\ncollapse: {over: 5, fields: [{key: p, field: all}]}": {"3 field " + invalidation.JoinField("p", "all")},
	} {
		require.Equal(t, want, eval(t, allRule(t, rule), cdc.Change{Op: cdc.Truncate, Rel: rel}).values, rule)
	}
	patterns, err := allRule(t, `fields: [{key: "p:{id}", field: x}, {key: "h[1]", field: "{id}"}]`).FlushPatterns(all)
	require.NoError(t, err)
	require.Equal(t, []string{`h\[1\]`, "p:*"}, patterns)
}

func TestFieldsInMessages(t *testing.T) {
	s, err := Parse("rules.yaml", []byte("rules: [{name: m, message: cache.purge, sinks: [all]}]"), allOptions())
	require.NoError(t, err)
	for content, want := range map[string][]string{
		`{"fields": [{"key": "products", "field": "7"}]}`:     {"3 field " + invalidation.JoinField("products", "7")},
		`{"fields": [{"key": "products", "field": ""}]}`:      {"3 field " + invalidation.JoinField("products", "")},
		`{"fields": [{"field": "a\u0000", "key": "\u0001"}]}`: {"3 field " + invalidation.JoinField("\x01", "a\x00")},
	} {
		out := &recorder{}
		require.NoError(t, s.Message("cache.purge", []byte(content), out), content)
		require.Equal(t, want, out.values, content)
	}
	for _, bad := range []string{`["products"]`, `[{"key": "products"}]`, `[{"key": "products", "field": 7}]`, `[{"key": null, "field": "7"}]`,
		`[{"key": "", "field": "7"}]`, `[{"key": "a", "field": "b", "more": 1}]`, `[["a", "b"]]`} {
		require.Error(t, s.Message("cache.purge", []byte(`{"fields": `+bad+`}`), &recorder{}), bad)
	}
}

func TestBadFields(t *testing.T) {
	for body, want := range map[string]string{
		`fields: [products]`:                           `rules.yaml:5:14: "products" is not a field; write it like {key: "products", field: "{id}"}`,
		`fields: [{key: products}]`:                    "this field has no `field`",
		`fields: [{field: "7"}]`:                       "this field has no `key`",
		`fields: [{key: "", field: "7"}]`:              "the `key` is empty",
		`fields: [{key: "{''}", field: "7"}]`:          "the key is empty; name the hash",
		`fields: [{key: products, feild: "7"}]`:        `did you mean "field"`,
		`fields: {key: products, field: "7"}`:          "rules.yaml:5",
		`fields: [{key: "products", field: "{id"}]`:    `rules.yaml:5:40: rule "x": field "products {id": a { without its }`,
		`fields: [{key: "{{id}}", field: "x"}]`:        `{{ is not a literal brace`,
		`fields: [{key: "a", field: "{vars.none}"}]`:   "none",
		`unknown: {fields: [{key: p, field: "{id}"}]}`: "here only fixed values can be named",
	} {
		_, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    sinks: [all]\n"+indent(body)), allOptions())
		require.ErrorContains(t, err, want, body)
	}
	_, err := Parse("rules.yaml", []byte("rules: [{name: x, table: public.t, sinks: [edge], fields: [{key: a, field: b}]}]"), allOptions())
	require.ErrorContains(t, err, "takes a field")
}
