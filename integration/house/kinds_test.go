package house

import (
	"go/ast"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// The kinds of values are listed in one place, so that a new one needs no other: no program text
// outside of rules/invalidation names several of them.
func TestKindsAreListedOnce(t *testing.T) {
	word := regexp.MustCompile(`[A-Za-z_]+`)
	byWord := map[string]invalidation.Kind{}
	for _, k := range invalidation.All() {
		if strings.Contains(k.Plural(), "_") || k == invalidation.Generation { // the others are common words
			byWord[strings.ReplaceAll(k.Plural(), "_", "")] = k
		}
	}
	require.Len(t, byWord, 4, "the words that name no other thing")
	lists := 0
	for _, src := range sources(t) {
		named := map[invalidation.Kind]bool{}
		note := func(text string) {
			for _, w := range word.FindAllString(text, -1) {
				if k, found := byWord[strings.ToLower(strings.ReplaceAll(w, "_", ""))]; found {
					named[k] = true
				}
			}
		}
		ast.Inspect(src.file, func(n ast.Node) bool {
			switch x := n.(type) {
			case *ast.BasicLit:
				note(x.Value)
			case *ast.Ident:
				note(x.Name)
			}
			return true
		})
		if src.pkg() == "rules/invalidation" {
			lists += len(named)
			continue
		}
		if len(named) > 1 {
			t.Errorf("%s lists kinds of values: derive the list from rules/invalidation", src.name)
		}
	}
	require.Positive(t, lists, "the walk finds the table itself")
}
