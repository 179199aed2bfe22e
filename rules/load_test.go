package rules

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Sinks of the tests, by index.
const (
	cache = iota
	edge
	keysonly
)

func testOptions() Options {
	return Options{Sinks: []SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.Tag, invalidation.KeyPattern, invalidation.Everything)},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.Everything), Caps: invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: 256}}},
		{Name: "keysonly", Takes: invalidation.Kinds(invalidation.Key)},
	}}
}

// all is a sink that takes whatever there is.
const all = keysonly + 1

func allOptions() Options {
	opts := testOptions()
	opts.Sinks = append(opts.Sinks, SinkSpec{Name: "all", Takes: invalidation.Kinds(invalidation.Key, invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.KeyPrefix, invalidation.Generation, invalidation.Field, invalidation.KeyPattern, invalidation.Everything)})
	return opts
}

func mustParse(t testing.TB, src string) *Set {
	t.Helper()
	s, err := Parse("rules.yaml", []byte(src), testOptions())
	require.NoError(t, err)
	return s
}

func TestLoadGood(t *testing.T) {
	s, err := Load([]string{"testdata/good/empty.yaml", "testdata/good/catalog.yaml"}, testOptions())
	require.NoError(t, err)
	var names []string
	for _, r := range s.Rules() {
		names = append(names, r.Name)
	}
	require.Equal(t, []string{"product", "renamed", "home_page"}, names)
	require.Equal(t, []Table{{Schema: "public", Name: "products"}, {Schema: "shop", Name: "banners"}}, s.Tables())
	product, home := s.Rules()[0], s.Rules()[2]
	require.Equal(t, "testdata/good/catalog.yaml", product.File)
	require.Equal(t, 3, product.Line)
	require.Equal(t, []int{cache, edge}, product.Sinks)
	require.Equal(t, []int{cache}, home.Sinks, "edge takes no keys")
}

func TestSinkListNarrows(t *testing.T) {
	s := mustParse(t, `{rules: [
		{name: a, table: p.t, keys: ["k"], tags: ["t"]},
		{name: b, table: p.t, keys: ["k"], tags: ["t"], sinks: [edge, keysonly]}]}`)
	require.Equal(t, []int{cache, edge, keysonly}, s.Rules()[0].Sinks)
	require.Equal(t, []int{edge, keysonly}, s.Rules()[1].Sinks)
}

func TestLoadMissingFile(t *testing.T) {
	_, err := Load([]string{"testdata/none.yaml"}, testOptions())
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, "testdata/none.yaml")
}

func TestLoadReportsAllFilesTogether(t *testing.T) {
	_, err := Load([]string{"testdata/bad/no_table.yaml", "testdata/good/catalog.yaml", "testdata/bad/unknown_key.yaml"}, testOptions())
	var errs strictyaml.Errors
	require.ErrorAs(t, err, &errs)
	require.Equal(t, []string{"testdata/bad/no_table.yaml", "testdata/bad/unknown_key.yaml"}, []string{errs[0].File, errs[1].File})
}

// TestBad has every fixture of testdata/bad with its exact message, without the
// file's name.
func TestBad(t *testing.T) {
	want := map[string]string{
		"collapse_empty":         "6:5: rule \"x\": `collapse` is empty; write a step like {over: 500, tags: [products]}, or remove it",
		"collapse_falls":         "8:16: rule \"x\": `collapse`: over: 500 comes behind over: 500; steps rise, so that each is for more values than the one before",
		"collapse_no_over":       "6:15: rule \"x\": `collapse`: this step does not say past how many values it is taken; add `over`, like {over: 500, tags: [products]}",
		"collapse_no_values":     "6:15: rule \"x\": `collapse`: this step has no values, so nothing would be purged instead; name `tags`, `generations` or other values",
		"collapse_not_taken":     "7:39: rule \"x\": `collapse.generations`: none of the sinks that this rule's own values go to (cache, edge) takes a generation",
		"collapse_other_sink":    "5:32: rule \"x\": `collapse.tags`: none of the sinks that this rule's own values go to (keysonly) takes a tag",
		"collapse_over_zero":     "6:22: rule \"x\": `collapse`: over: 0; write a number from 1 to 1000000",
		"collapse_own":           "6:32: rule \"x\": `collapse`: tag \"p-{id}\" is one of the rule's own values, so it covers no more than one; name something that many rows share",
		"collapse_template":      "6:40: rule \"x\": `collapse`: tag \"m-{lowr(m)}\": unknown function \"lowr\"; did you mean \"lower\"?",
		"collapse_unknown_key":   "6:16: unknown key \"ovr\"; did you mean \"over\"?",
		"every_long":             "6:12: rule \"x\": `every`: 25h0m0s; write a time above 0 and up to 24h, like 30s",
		"every_zero":             "6:12: rule \"x\": `every`: 0s; write a time above 0 and up to 24h, like 30s",
		"rollout_over":           "6:14: rule \"x\": `rollout`: 101; write a percentage from 0 to 100",
		"key_prefix_end":         "5:20: rule \"x\": key_prefix \"product:{id}\": want a literal delimiter at its end, like the last : of product:{id}:, so that 1 is not taken for the beginning of 12",
		"key_prefix_letter":      "5:20: rule \"x\": key_prefix \"product\": want a literal delimiter at its end, like the last : of product:{id}:, so that 1 is not taken for the beginning of 12",
		"key_prefix_start":       "5:20: rule \"x\": key_prefix \"{tenant}:{id}:\": want literal text at its beginning, like product:{id}:",
		"on_truncate_url":        "6:26: rule \"x\": `on_truncate`: url \"/products\": want scheme and host as literal text, like https://shop.example/p/{slug}",
		"prefix_host":            "5:20: rule \"x\": url_prefix \"{host}/p/\": want the host and a / as literal text, like shop.example/m/{merchant_id}/",
		"prefix_no_slash":        "5:20: rule \"x\": url_prefix \"shop.example\": want the host and a / as literal text, like shop.example/m/{merchant_id}/",
		"prefix_query":           "5:20: rule \"x\": url_prefix \"shop.example/p?id={id}\": a prefix ends before the query; remove the ?",
		"prefix_scheme":          "5:20: rule \"x\": url_prefix \"https://shop.example/p/{slug}/\": a prefix has no scheme; write it like shop.example/m/{merchant_id}/",
		"url_dots":               "5:12: rule \"x\": url \"https://shop.example/p/../{slug}\": a segment of dots (. or ..) has no place in its path",
		"url_fragment":           "5:12: rule \"x\": url \"https://shop.example/p/{slug}#top\": \"#\" in the literal text has no place in a URL; percent-encode it",
		"url_host":               "5:12: rule \"x\": url \"https://{host}/p/{slug}\": want scheme and host as literal text, like https://shop.example/p/{slug}",
		"url_inner_path":         "5:12: rule \"x\": url \"https://shop.example/{urlpath(path) + slug}\": in {urlpath(path) + slug}, urlpath() must be the outermost call: what it gives would be escaped again",
		"url_long_host":          "5:12: rule \"x\": url \"https://shop.example{path}\": want a / behind the host, so that no value can lengthen it, like https://shop.example/p/{slug}",
		"url_no_scheme":          "5:12: rule \"x\": url \"shop.example/p/{slug}\": want scheme and host as literal text, like https://shop.example/p/{slug}",
		"url_percent":            "5:12: rule \"x\": url \"https://shop.example/%2{slug}\": \"%2\" in the literal text has no place in a URL; percent-encode it",
		"url_space":              "5:12: rule \"x\": url \"https://shop.example/a b/{slug}\": \" \" in the literal text has no place in a URL; percent-encode it",
		"url_userinfo":           "5:12: rule \"x\": url \"https://shop.example@evil.example/{path}\": want a / behind the host, so that no value can lengthen it, like https://shop.example/p/{slug}",
		"url_wildcard":           "5:12: rule \"x\": url \"https://shop.example/p/*\": \"*\" in the literal text has no place in a URL; percent-encode it",
		"to_empty":               "6:5: rule \"x\": `to` is empty; name a sink and its values, or remove it",
		"to_kind":                "6:35: rule \"x\": `to.edge.keys`: edge does not take a key",
		"to_other_sink":          "6:10: rule \"x\": `to`: all is not among its sinks (cache, edge); add it there",
		"to_sink_empty":          "6:10: rule \"x\": `to.edge` is empty; name `keys`, `tags` or other values, or remove it",
		"to_template":            "6:30: rule \"x\": `to.edge`: tag \"{lowr(id)}\": unknown function \"lowr\"; did you mean \"lower\"?",
		"to_unknown_key":         "6:17: unknown key \"tgas\"; did you mean \"tags\"?",
		"to_unknown_sink":        "6:10: rule \"x\": `to`: there is no sink \"egde\"; did you mean \"edge\"?",
		"unknown_key":            `4:5: unknown key "kesy"; did you mean "keys"?`,
		"repeated_key":           `5:5: key "keys" is repeated; it was first given in line 4`,
		"no_name":                "2:5: this rule has no name; add `name:`, it shows in metrics and logs",
		"bad_name":               `2:11: rule "a b": a rule's name has letters, digits, _ and - only`,
		"same_name":              `5:11: rule "x": the name is taken by the rule at FILE:2; names are unique over all files`,
		"no_table":               "2:5: rule \"x\": `table` is missing; write it with its schema, like public.products",
		"no_schema":              `3:12: rule "x": table "products" has no schema; write it with one, like public.products`,
		"two_dots":               `3:12: rule "x": table "a.b.c": want schema.name with one dot, like public.products`,
		"no_values":              "2:5: rule \"x\": it has no `keys`, `tags` or other values, so nothing would be purged; add some",
		"bad_op":                 "4:19: rule \"x\": `ops`: \"updte\" is not an operation; did you mean \"update\"?",
		"op_truncate":            "4:11: rule \"x\": `ops`: a truncate is always handled; remove it here and see `on_truncate`",
		"op_empty":               "2:1: rule \"x\": `ops` is empty; remove it for all of insert, update and delete",
		"bare_no":                `4:12: bare no is a bool to some readers of YAML and a text to others; quote it: "no"`,
		"unknown_sink":           `5:13: rule "x": there is no sink "cahce"; did you mean "cache"?`,
		"unknown_default_sink":   `1:20: defaults: there is no sink "egde"; did you mean "edge"?`,
		"sinks_empty":            "2:5: rule \"x\": `sinks` is empty, so nothing would be purged; name one or remove it",
		"kind_not_taken":         "4:12: rule \"x\": `tags`: none of its sinks (keysonly) takes a tag",
		"unknown_kind_not_taken": "5:22: rule \"x\": `unknown.tags`: none of its sinks (keysonly) takes a tag",
		"double_brace":           `4:18: rule "x": key "user:{{id}}": {{ is not a literal brace; write {'{'}, so that {'{'}{id}{'}'} gives {42}`,
		"open_brace":             `4:18: rule "x": key "user:{id": a { without its }; a literal one is written {'{'}`,
		"close_brace":            `4:20: rule "x": key "user:id}": a } without its {; a literal one is written {'}'}`,
		"empty_braces":           `4:18: rule "x": key "user:{}": {} names no column; a literal brace is written {'{'}`,
		"expression":             `4:23: rule "x": key "user:{lowr(name)}": unknown function "lowr"; did you mean "lower"?`,
		"expression_fixed":       "5:26: rule \"x\": `on_truncate`: key \"all:{lower(name)}\" reads the row, but here only fixed values can be named",
		"expression_format":      `4:14: rule "x": key "{pattern.format([id])}": format() wants its pattern as a literal, not from a row`,
		"expression_pattern":     `4:12: rule "x": key "{slug.matches(pattern) ? \"a\" : \"b\"}": matches() wants its pattern as a literal, not from a row`,
		"expression_syntax":      `4:29: rule "x": key "user:{lower(name}": Syntax error: missing ')' at '<EOF>'`,
		"expression_types":       `4:28: rule "x": key "user:{name}:{5 + op}": found no matching overload for '_+_' applied to '(int, string)'`,
		"expression_var":         "5:29: rule \"x\": key \"user:{lower(vars.locale)}\": `vars` has no \"locale\"; did you mean \"locales\"?",
		"vars_unknown":           "5:19: rule \"x\": key \"user:{vars.locale}\": `vars` has no \"locale\"; did you mean \"locales\"?",
		"vars_alone":             `5:25: rule "x": key "user:{lower(vars)}": vars is written with a name behind it, like vars.locales`,
		"vars_in_rule":           "5:5: rule \"x\": `vars` belongs to the top of the file, beside `rules`",
		"vars_nested":            `1:11: a mapping is not a text or a number; vars are those, or lists of them`,
		"vars_nested_list":       `1:15: a list is not a text or a number; vars are those, or lists of them`,
		"vars_null":              `1:8: nothing is not a text or a number; vars are those, or lists of them`,
		"vars_empty":             `1:11: the list is empty, so nothing would come of a template with it`,
		"vars_twice":             `1:20: "en" is in the list twice`,
		"vars_name":              "1:8: `vars`: \"a b\" is no name; want letters, digits and _, like locales",
		"vars_product":           `5:12: rule "x": key "{vars.a}{vars.a}{vars.a}": its lists make more than 1000 values`,
		"variable":               `4:18: rule "x": key "user:{op}": {op} is not a column but a word of the rule language; a column of that name is written {row["op"]}`,
		"unquoted_template":      `4:17: not valid YAML: ',' or ']' must be specified; inside [ ] and { } a value with braces must be quoted: ["product:{id}"]`,
		"empty_key":              `4:12: rule "x": an empty key purges nothing; remove it`,
		"long_tag":               "4:12: rule \"x\": a value of 257 bytes is too long for edge, which takes at most 256; shorten it, or name it under `to` for the sinks that take it",
		"literal_with_column":    "5:22: rule \"x\": `unknown`: key \"all:{id}\" reads the row, but here only fixed values can be named",
		"on_truncate_empty":      "5:5: rule \"x\": `on_truncate` is empty; name `keys`, `tags` or other values, or remove it",
		"unknown_nothing":        "5:5: rule \"x\": `unknown` is empty; name `keys`, `tags` or other values, or remove it",
		"null_rule":              `2:5: there is no rule here; write one or remove the dash`,
		"when_syntax":            `4:22: rule "x": when: Syntax error: the condition ends too early`,
		"when_function":          `4:18: rule "x": when: unknown function "chagned"; did you mean "changed"?`,
		"when_not_bool":          `4:11: rule "x": when: the condition gives string, want true or false`,
		"when_types":             `4:14: rule "x": when: found no matching overload for '_==_' applied to '(string, int)'`,
		"when_row_pattern":       `4:24: rule "x": when: matches() wants its pattern as a literal, not from a row`,
		"when_bad_pattern":       `4:24: rule "x": when: the pattern of matches() is not a regular expression (RE2 syntax)`,
		"when_single_equals": strings.Join([]string{
			`4:22: rule "x": when: Syntax error: a single = means nothing here; == compares`,
			`4:24: rule "x": when: Syntax error: extraneous input '"published"' expecting <EOF>`,
		}, "\n"),
		"changed_nothing":    `4:11: rule "x": when: changed() wants at least one column, like changed(price, stock)`,
		"changed_expression": `4:35: rule "x": when: changed() wants column names only, like changed(price, "Order ID")`,
		"later_all": strings.Join([]string{
			"5:5: rule \"x\": `vars` belongs to the top of the file, beside `rules`",
		}, "\n"),
		"kinds_not_taken": strings.Join([]string{
			"5:12: rule \"x\": `urls`: none of its sinks (keysonly) takes a url; and 1 more place: 10",
			"6:20: rule \"x\": `url_prefixes`: none of its sinks (keysonly) takes a url_prefix",
			"7:20: rule \"x\": `key_prefixes`: none of its sinks (keysonly) takes a key_prefix",
			"8:19: rule \"x\": `generations`: none of its sinks (keysonly) takes a generation; and 1 more place: 9",
		}, "\n"),
	}
	files, err := filepath.Glob("testdata/bad/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(want), "every fixture has its message, and every message its fixture")
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			_, err := Load([]string{file}, allOptions())
			require.Error(t, err)
			got := strings.ReplaceAll(strings.ReplaceAll(err.Error(), file+":2;", "FILE:2;"), file+":", "")
			require.Equal(t, want[name], got)
		})
	}
}
