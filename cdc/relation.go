package cdc

// Identity is a table's REPLICA IDENTITY: which columns of the old row
// PostgreSQL sends with an UPDATE or a DELETE.
type Identity byte

// The identities as the protocol writes them (Relation message of the
// logical streaming replication protocol; pg_class.relreplident).
const (
	IdentityDefault Identity = 'd' // primary key
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f'
	IdentityIndex   Identity = 'i'
)

// String prints the identity in SQL's word.
func (i Identity) String() string {
	switch i {
	case IdentityDefault:
		return "DEFAULT"
	case IdentityNothing:
		return "NOTHING"
	case IdentityFull:
		return "FULL"
	case IdentityIndex:
		return "USING INDEX"
	}
	return "unknown"
}

// Relation is one version of a published table's shape. A new version arrives
// after every DDL and after every reconnect; a Relation never changes once made,
// so a pointer to it is a key for whatever was derived from it.
type Relation struct {
	OID uint32
	// Ancestor is set where rows of one table are handed over as rows of another that it inherits
	// from: it is the OID of that table, which Schema and Name name.
	Ancestor uint32
	Schema   string
	Name     string
	// Identity of a partitioned table is what its partitions agree on, as Column.Key says.
	Identity Identity
	// Partitioned reports that rows come from partitions. An UPDATE that moves a row to another
	// partition then comes as a Delete and an Insert.
	Partitioned bool
	Columns     []Column
}

// Column is one column of a Relation, in the order in which tuples carry it.
type Column struct {
	Name    string
	TypeOID uint32
	TypeMod int32
	// Type is what the values are, for a type that is not built in; nil where TypeOID says it,
	// or nothing more is known.
	Type *DataType
	// Key reports that the column belongs to the replica identity: of a partitioned table, to
	// that of every partition of which rows may come.
	Key bool
}

// String prints schema.name.
func (r *Relation) String() string { return r.Schema + "." + r.Name }

// Index returns the place of a column, or -1.
func (r *Relation) Index(column string) int {
	for i := range r.Columns {
		if r.Columns[i].Name == column {
			return i
		}
	}
	return -1
}
