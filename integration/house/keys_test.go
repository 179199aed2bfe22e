package house

import (
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var tagForm = regexp.MustCompile("`yaml:\"([a-z_]+)\"`")

// Every key that a file may hold is in the document about it.
func TestEveryKeyIsDocumented(t *testing.T) {
	for doc, decoders := range map[string][]string{
		"docs/config.md": {"cmd/config/file.go", "sinks/valkey/config.go", "sinks/valkey/layout.go", "sinks/valkey/tls.go", "sinks/cloudflare/config.go", "sinks/cloudflare/limits.go", "sinks/fastly/config.go", "sinks/bunny/config.go",
			"cmd/config/kinds.go", "sinks/cloudfront/config.go", "sinks/varnish/config.go", "sinks/webhook/config.go", "sinks/warm/config.go"},
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
