package rulestest

import _ "embed" // for the schema

// Schema is the JSON Schema (2020-12) of a rule test file, for editors. Which columns a row has, and which sinks there
// are, is for Load to say.
//
//go:embed schema.json
var Schema string
