package shape

import (
	"cmp"
	"slices"
)

// Table is a description of a watched table.
type Table struct {
	OID uint32
	// Kind, Persistence and Identity are relkind, relpersistence and relreplident of pg_class.
	Kind, Persistence, Identity byte
	// File is relfilenode, which TRUNCATE and every rewrite replace; 0 where there is no storage.
	File uint32
	// Named is the xmin of the table's row in pg_type. A rename and SET SCHEMA write a new row, and so
	// does another Owner. SchemaNamed is the xmin of the schema's row in pg_namespace, and SchemaGrants a
	// digest of what else is altered there. Named is 0 in descriptions of older versions, which
	// have none of the fields from here to Encoding.
	Named, Owner uint32
	SchemaNamed  uint32
	SchemaGrants string
	// Inherited is relhassubclass, which the server sets for the first node and leaves set after the last
	// one until ANALYZE.
	Inherited bool
	// Encoding is that of the database.
	Encoding int32
	Columns  []Column
	// Nodes are the partitions of all levels, and the tables that inherit from this one, sorted by OID.
	Nodes []Node
}

// PartitionedKind is the relkind of partitioned tables, ForeignKind that of foreign tables, and Logged the relpersistence of tables
// whose changes are in the log.
const (
	PartitionedKind = 'p'
	ForeignKind     = 'f'
	Logged          = 'p'
)

// Node is a table in the tree below a watched one.
type Node struct {
	OID, Parent                 uint32
	Kind, Persistence, Identity byte
	File                        uint32
	// Attached is the xmin of the node's row in pg_inherits. ATTACH and INHERIT write a new row.
	Attached uint32
}

// Column is a column that is not dropped.
type Column struct {
	// Number is attnum, which no other column of the table ever gets.
	Number int16
	Name   string
	// Type, Mod and Collation are atttypid, atttypmod and attcollation.
	Type      uint32
	Mod       int32
	Collation uint32
	// Generated is attgenerated and Expression a digest of what is computed; 0 and empty for an
	// ordinary column.
	Generated  byte
	Expression string
	// Filled reports that rows which are older than the column have a value other than NULL in it.
	Filled bool
	// Written is the xmin of the column's row in pg_attribute. ALTER COLUMN TYPE writes a new row,
	// as other commands do that change no value.
	Written uint32
	// Labels are the labels of the enum types that the type is made of.
	Labels []Label
	// Fields is a digest of the fields of composite types that the type is made of.
	Fields string
}

// Label is a label of an enum type. Its OID stays when it is renamed.
type Label struct {
	OID  uint32
	Text string
	// Written is the xmin of the label's row in pg_enum, which tells a label that was renamed and
	// renamed back.
	Written uint32
}

// HasForeign reports whether a table below it is a foreign table.
func (t *Table) HasForeign() bool {
	return slices.ContainsFunc(t.Nodes, func(n Node) bool { return n.Kind == ForeignKind })
}

// Has reports whether the table has a node with this OID.
func (t *Table) Has(node uint32) bool {
	_, found := slices.BinarySearchFunc(t.Nodes, node, func(n Node, oid uint32) int { return cmp.Compare(n.OID, oid) })
	return found
}
