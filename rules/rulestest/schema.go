package rulestest

import (
	_ "embed" // for the schema

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

//go:embed schema.json
var schema string

// Schema returns the JSON Schema (2020-12) of a rule test file, for editors. Which columns a row has, and which sinks
// there are, is for Load to say.
func Schema() string { return rules.SchemaOf(schema, invalidation.All()) }
