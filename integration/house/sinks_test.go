package house

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	loggedStatus = regexp.MustCompile(`^HTTP \d+: `)
	loggedNumber = regexp.MustCompile(`\d+`)
)

// Every kind of sink has a page with the same parts, and the errors that a page
// explains are ones that the sink's code can say.
func TestEverySinkHasAPage(t *testing.T) {
	code := map[string]string{}
	for _, name := range files(t, ".go") {
		if dir := path.Dir(name); strings.HasPrefix(dir, "sinks/") && !strings.HasSuffix(name, "_test.go") {
			code[path.Base(dir)] += read(t, name)
		}
	}
	for kind, text := range code {
		if slices.Contains([]string{"delivery", "history", "httpsink", "machine", "sinktest"}, kind) {
			continue
		}
		name := "docs/sinks/" + kind + ".md"
		page := read(t, name)
		require.Contains(t, anchors(page), "limits-and-costs", name)
		require.Contains(t, page, "`walpurge check`", "%s: what check asks", name)
		require.Contains(t, page, "\n```yaml\npipeline:", "%s: a configuration", name)
		require.Contains(t, read(t, "docs/config.md"), "(sinks/"+kind+".md)", "docs/config.md links to the page")
		errors := rows(page, "In the log", "What to do")
		require.Greater(t, len(errors), 2, name)
		for _, cells := range errors {
			said := spans(cells[0])
			require.NotEmpty(t, said, "%s: %s", name, cells[0])
			for _, s := range said {
				s = loggedNumber.ReplaceAllString(loggedStatus.ReplaceAllString(s, ""), "%d")
				if !strings.Contains(text+code["httpsink"], s) {
					t.Errorf("%s explains the error %q, which sinks/%s does not say", name, s, kind)
				}
			}
		}
	}
}
