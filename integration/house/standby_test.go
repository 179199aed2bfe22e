package house

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Each route of the listener has a row in the table of what a process answers that stands by, and is called there by
// a test with two daemons.
func TestEveryRouteIsTriedAtAStandby(t *testing.T) {
	var routes []string
	for _, s := range productCode(t) {
		if s.pkg() != "cmd/admin" {
			continue
		}
		text := read(t, s.name)
		for _, m := range regexp.MustCompile(`"((?:GET|POST|PUT|DELETE|PATCH) /[^"]*)"`).FindAllStringSubmatch(text, -1) {
			routes = append(routes, m[1])
		}
		for _, m := range regexp.MustCompile(`"(/api/v1/[a-z]+)": (?:true|false)`).FindAllStringSubmatch(text, -1) {
			routes = append(routes, "POST "+m[1])
		}
		require.LessOrEqual(t, strings.Count(text, `mux.Handle("POST "+path`), 1, "a route whose path is no literal is not seen here")
	}
	slices.Sort(routes)
	require.NotEmpty(t, routes)

	var tried []string
	for _, m := range regexp.MustCompile(`(?m)^\t\{"((?:GET|POST) [^"]*)"`).FindAllStringSubmatch(read(t, "integration/standby_test.go"), -1) {
		tried = append(tried, m[1])
	}
	slices.Sort(tried)
	require.Equal(t, routes, tried, "integration/standby_test.go")

	var documented []string
	for _, row := range rows(read(t, "docs/operations.md"), "Call to a process that stands by") {
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[0], -1) {
			documented = append(documented, m[1])
		}
	}
	for i, route := range documented {
		if route == "GET /" {
			documented[i] = "GET /{$}"
		}
	}
	slices.Sort(documented)
	require.Equal(t, routes, documented, "docs/operations.md")
}
