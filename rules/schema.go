package rules

import _ "embed" // for the schema

// Schema is the JSON Schema (2020-12) of a rules file, for editors. It has every
// key that the loader knows, and knows less: what templates, conditions and
// names mean is for Load to judge.
//
//go:embed schema.json
var Schema string
