package house

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

// refusedKeys are the keys of walpurge.yaml that are known and not supported, each
// with a value that asks for something, as lines below the part it belongs to.
var refusedKeys = map[string]string{
	"postgres.column_lists": "postgres: {url: $URL, column_lists: true}",
}

// docs/config.md lists the keys that are refused, and they are, by name.
func TestRefusedConfigKeys(t *testing.T) {
	var listed []string
	for _, cells := range rows(read(t, "docs/config.md"), "Refused key") {
		listed = append(listed, spans(cells[0])...)
	}
	slices.Sort(listed)
	require.Equal(t, slices.Sorted(maps.Keys(refusedKeys)), listed, "docs/config.md: the table of refused keys")
	for key, text := range refusedKeys {
		whole := "pipeline: shop\nrules: [rules/*.yaml]\n"
		if !strings.HasPrefix(text, "postgres:") {
			whole += "postgres: {url: $URL}\n"
		}
		if !strings.HasPrefix(text, "sinks:") {
			whole += "sinks: {cache: {valkey: {url: 'valkey://c'}}}\n"
		}
		_, err := load(t, strings.ReplaceAll(whole+text+"\n", "$URL", "'postgres://db'"))
		require.ErrorContains(t, err, "`"+key+"` is not supported by this version")
	}
}

// refusedInRules are the words of the rule language that are known and refused.
var refusedInRules = map[string]string{}

// docs/rules.md lists the keys of a rule that are refused, and they are.
func TestRefusedRuleKeys(t *testing.T) {
	var listed []string
	for _, cells := range rows(read(t, "docs/rules.md"), "Refused key") {
		listed = append(listed, spans(cells[0])...)
	}
	slices.Sort(listed)
	require.Equal(t, slices.Sorted(maps.Keys(refusedInRules)), listed, "docs/rules.md: the table of refused keys")
	for key, value := range refusedInRules {
		text := fmt.Sprintf("rules:\n  - name: a\n    table: public.a\n    keys: ['a:{id}']\n    %s: %s\n", key, value)
		_, err := rules.Parse("rules.yaml", []byte(text), rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: rules.Kinds(rules.Key)}}})
		require.ErrorContains(t, err, "`"+key+"` is not supported by this version")
	}
}

var tagForm = regexp.MustCompile("`yaml:\"([a-z_]+)\"`")

// Every key that a file may hold is in the document about it.
func TestEveryKeyIsDocumented(t *testing.T) {
	for doc, decoders := range map[string][]string{
		"docs/config.md": {"cmd/config/file.go", "sinks/valkey/config.go", "sinks/valkey/layout.go", "sinks/valkey/tls.go", "sinks/cloudflare/config.go", "sinks/cloudflare/limits.go", "sinks/fastly/config.go",
			"cmd/config/origins.go", "sinks/cloudfront/config.go", "sinks/varnish/config.go", "sinks/webhook/config.go"},
		"docs/rules.md": {"rules/file.go", "rules/steps.go", "rules/lookupfile.go", "rules/rulestest/file.go", "rules/rulestest/event.go"},
	} {
		text := read(t, doc)
		for _, decoder := range decoders {
			keys := tagForm.FindAllStringSubmatch(read(t, decoder), -1)
			require.NotEmpty(t, keys, decoder)
			for _, key := range keys {
				if !regexp.MustCompile("[`.]"+key[1]+"[`:]").MatchString(text) && !strings.Contains(text, "\n"+key[1]+":") {
					t.Errorf("%s reads the key %s, which is not in %s", decoder, key[1], doc)
				}
			}
		}
	}
}
