package cdc

// Table names a table without a relation at hand.
type Table struct {
	Schema string
	Name   string
}

// String prints schema.name.
func (t Table) String() string { return t.Schema + "." + t.Name }
