package house

import (
	"encoding/json"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/rulestest"
)

// Each recipe has a page that shows its rules as they are, says which versions it was checked with, and has tests
// that pass.
func TestRecipes(t *testing.T) {
	const dir = "docs/recipes"
	index := read(t, dir+"/README.md")
	entries, err := os.ReadDir(filepath.Join(top, dir))
	require.NoError(t, err)
	seen := 0
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		seen++
		t.Run(e.Name(), func(t *testing.T) {
			require.Contains(t, index, "("+e.Name()+"/README.md)", "the index links to the page")
			page, _ := blocks(read(t, path.Join(dir, e.Name(), "README.md")))
			require.NotEmpty(t, page)
			require.Equal(t, "yaml", page[0].lang)
			require.Equal(t, read(t, path.Join(dir, e.Name(), "rules.yaml")), page[0].text)
			_, checked, found := strings.Cut(read(t, path.Join(dir, e.Name(), "README.md")), "\n## Checked with\n")
			require.True(t, found, "the page says which versions it was checked with")
			require.Regexp(t, `\n\| .* \| How \|\n\|---\|---\|---\|\n\| .*[0-9]+\.[0-9]+`, checked)
			s, err := rulestest.Load(filepath.Join(top, dir, e.Name(), "rules_test.yaml"), rulestest.Options{})
			require.NoError(t, err)
			results := s.Run()
			require.NotEmpty(t, results)
			for _, r := range results {
				require.True(t, r.Passed(), "%s\n%s", r.Name, strings.Join(r.Diff, "\n"))
			}
		})
	}
	require.GreaterOrEqual(t, seen, 9)
}

// The pages name the versions that their frameworks have in the test that runs them.
func TestRecipesNameTheVersionsThatRun(t *testing.T) {
	var project struct{ Dependencies map[string]string }
	require.NoError(t, json.Unmarshal([]byte(read(t, "integration/testdata/recipes/package.json")), &project))
	require.NotEmpty(t, project.Dependencies)
	pages := read(t, "docs/recipes/nestjs/README.md") + read(t, "docs/recipes/yoga/README.md")
	for name, version := range project.Dependencies {
		if strings.Contains(pages, name+" ") {
			require.Contains(t, pages, version, name)
		}
	}
}
