package house

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// Every promise is in both documents, and names tests that fail without it; that
// these exist is TestNamedTestsRun's business.
func TestEveryPromiseNamesItsTests(t *testing.T) {
	page, design := read(t, "docs/guarantees.md"), read(t, "docs/architecture.md")
	named := regexp.MustCompile("`(Test|Fuzz)[A-Z]\\w*`")
	for n := 1; n <= 9; n++ {
		_, chapter, found := strings.Cut(page, fmt.Sprintf("\n## P%d: ", n))
		chapter, _, _ = strings.Cut(chapter, "\n## ")
		if !found || !named.MatchString(chapter) || !strings.Contains(chapter, "\nLimits") {
			t.Errorf("docs/guarantees.md: P%d needs a chapter with its tests and its limits", n)
		}
		_, row, found := strings.Cut(design, fmt.Sprintf("\n| P%d | ", n))
		row, _, _ = strings.Cut(row, "\n")
		if !found || !named.MatchString(row) {
			t.Errorf("docs/architecture.md: P%d needs a row with its tests", n)
		}
	}
}
