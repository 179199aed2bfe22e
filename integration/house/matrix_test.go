package house

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The table of what walpurge is tried with has what the tests of the matrix have, and nothing else.
func TestTriedWith(t *testing.T) {
	found := map[string][]string{}
	for _, row := range rows(read(t, "docs/install.md"), "What", "Versions", "Forms", "Tried") {
		require.Len(t, row, 4, row)
		found[row[0]+", versions"], found[row[0]+", forms"] = listed(row[1]), listed(row[2])
	}
	function := func(name, begin string) string {
		_, rest, ok := strings.Cut(read(t, name), "\n"+begin)
		require.True(t, ok, "%s has no %s", name, begin)
		body, _, _ := strings.Cut(rest, "\n}\n")
		return body
	}
	names := func(body, form string) []string {
		var out []string
		for _, m := range regexp.MustCompile(form).FindAllStringSubmatch(body, -1) {
			out = append(out, m[1])
		}
		require.NotEmpty(t, out, form)
		return sorted(out)
	}
	const products, chart = "sinks/valkey/matrix_test.go", "deploy/helm/test/chart_test.go"
	nats := regexp.MustCompile(`(?m)nats-server/v2 v(\d+\.\d+)\.`).FindStringSubmatch(read(t, "go.mod"))
	require.NotNil(t, nats)
	for what, want := range map[string][]string{
		"Valkey, Redis, versions": names(function(products, "func products("), `"((?:Valkey|Redis) \d+)":`),
		"Valkey, Redis, forms":    names(function(products, "func TestSinkMatrix("), `t\.Run\("([^"]+)"`),
		"NATS, versions":          {nats[1]},
		"NATS, forms":             names(function("cmd/app/natsmatrix_test.go", "var natsMatrix = "), `(?m)^\t"([^"]+)": \{start`),
		"Helm chart, versions":    {"Kubernetes " + names(function(chart, "func TestLint("), `Version: "v(\d+\.\d+)\.`)[0]},
		"Helm chart, forms":       names(function(chart, "var good = "), `(?m)^\t"([^"]+)": \{`),
	} {
		assert.Equal(t, want, found[what], what)
	}
	major := regexp.MustCompile(`(?m)for major in ([\d ]+);`).FindStringSubmatch(read(t, "deploy/dev/test-parts.sh"))
	require.NotNil(t, major)
	assert.Equal(t, found["PostgreSQL, versions"], sorted(append(strings.Fields(major[1]), "15")), "15 is the server of Debian, with which each change is tested")
}

func listed(cell string) []string { return sorted(strings.Split(cell, ", ")) }

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}
