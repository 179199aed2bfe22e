// Package shop is the sample shop: its tables and its rules, as the demo runs
// them and the compose file mounts them. It holds files and nothing else.
package shop

import "embed"

// SchemaSQL creates the shop's tables in an empty database, replica identities
// included. It may hold several statements, as psql and the simple query
// protocol take them.
//
//go:embed schema.sql
var SchemaSQL string

// Rules holds rules/catalog.yaml.
//
//go:embed rules/*.yaml
var Rules embed.FS
