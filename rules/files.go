package rules

import (
	"path/filepath"
	"slices"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Files resolves the patterns of a `rules:` list, which are relative to the file
// that holds it, to the rules files they match, each once. A pattern that
// matches nothing is an error at its place.
func Files(file string, patterns []strictyaml.Text) ([]string, error) {
	var files []string
	var errs strictyaml.Errors
	for _, p := range patterns {
		pattern := Beside(file, p.Value)
		found, err := filepath.Glob(pattern)
		switch {
		case err != nil:
			errs.Addf(file, p.Pos(), "rules: %s: %v", p, err)
		case len(found) == 0:
			errs.Addf(file, p.Pos(), "rules: %s matches no file; patterns are relative to %s", p, filepath.Dir(file))
		}
		for _, f := range found {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files, errs.Err()
}

// Beside resolves a pattern that is relative to the file that holds it.
func Beside(file, pattern string) string {
	if filepath.IsAbs(pattern) {
		return pattern
	}
	return filepath.Join(filepath.Dir(file), pattern)
}
