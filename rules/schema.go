package rules

import (
	_ "embed" // for the schema
	"encoding/json"
	"strings"

	"github.com/walpurge/walpurge/rules/invalidation"
)

//go:embed schema.json
var schema string

// Schema returns the JSON Schema (2020-12) of a rules file, for editors. It has every
// key that the loader knows, and knows less: what templates, conditions and
// names mean is for Load to judge.
func Schema() string { return SchemaOf(schema, invalidation.InRules()) }

// SchemaOf returns a schema with each line that has KIND repeated for the kinds. KIND becomes the
// name of the kind in files, ABOUT its description, and FORM the form of its values: text, field or
// flag.
func SchemaOf(text string, kinds []invalidation.Kind) string {
	forms := [...]string{invalidation.FormText: "text", invalidation.FormField: "field", invalidation.FormFlag: "flag"}
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.Contains(line, "KIND") {
			out.WriteString(line)
			continue
		}
		for i, k := range kinds {
			about, _ := json.Marshal(k.About()) // a text never fails
			one := strings.NewReplacer("KIND", k.Plural(), `"ABOUT"`, string(about), "FORM", forms[k.Form()]).Replace(line)
			if head, last := strings.CutSuffix(one, "}\n"); last && i+1 < len(kinds) {
				one = head + "},\n"
			}
			out.WriteString(one)
		}
	}
	return out.String()
}
