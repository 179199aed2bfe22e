package rules

import (
	"cmp"
	"slices"
	"strings"

	"github.com/walpurge/walpurge/cdc"
)

// Catalog is what can be known of tables before a row is seen: their columns, and
// what of an old row the stream carries. It is immutable and safe for concurrent
// use; a nil Catalog knows no table.
type Catalog struct {
	// File is the lock file that it was read from, empty for a live database.
	File   string
	tables map[Table]*CatalogTable
}

// CatalogTable is one table.
type CatalogTable struct {
	Table
	Identity cdc.Identity
	// Index names the index of IdentityIndex.
	Index string
	// Columns are in the order of the table.
	Columns []CatalogColumn
}

// CatalogColumn is one column.
type CatalogColumn struct {
	Name string
	// Type is the type as PostgreSQL's format_type prints it, numeric(12,2).
	Type string
	// Base is the type that values are of, where that is another: domains are replaced by what
	// they are made from, those of an array's elements too.
	Base string
	// OID is that type, 0 for one whose OID differs from server to server.
	OID uint32
	// Enum reports that the values, or the elements, are labels of an enum.
	Enum    bool
	NotNull bool
	// Identity reports that old rows carry the column.
	Identity bool
	// Toastable reports that a value may be so large that PostgreSQL stores it
	// apart from its row. Such a value is not sent with an UPDATE that leaves it as
	// it was, unless the old row carries it.
	Toastable bool
	// Generated reports that PostgreSQL computes the column; the stream does not
	// carry it.
	Generated bool
}

// NewCatalog makes a catalog of tables; of two with one name the last counts.
func NewCatalog(tables []CatalogTable) *Catalog {
	c := &Catalog{tables: make(map[Table]*CatalogTable, len(tables))}
	for _, t := range tables {
		t.Columns = slices.Clone(t.Columns)
		for i := range t.Columns {
			col := &t.Columns[i]
			col.Identity = t.Identity == cdc.IdentityFull || t.Identity != cdc.IdentityNothing && col.Identity
			if col.OID >= cdc.FirstUserOID {
				col.OID = 0
			}
			if col.Base == col.Type {
				col.Base = ""
			}
		}
		c.tables[t.Table] = &t
	}
	return c
}

// Table returns what is known of a table, nil if it is not in the catalog. The
// caller must not change what it points to.
func (c *Catalog) Table(t Table) *CatalogTable {
	if c == nil {
		return nil
	}
	return c.tables[t]
}

// Tables lists the tables by schema and name.
func (c *Catalog) Tables() []Table {
	if c == nil {
		return nil
	}
	out := make([]Table, 0, len(c.tables))
	for t := range c.tables {
		out = append(out, t)
	}
	slices.SortFunc(out, func(a, b Table) int {
		return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
	})
	return out
}

// Column returns a column by name.
func (t *CatalogTable) Column(name string) (CatalogColumn, bool) {
	i := slices.IndexFunc(t.Columns, func(c CatalogColumn) bool { return c.Name == name })
	if i < 0 {
		return CatalogColumn{}, false
	}
	return t.Columns[i], true
}

// Key lists the columns that an old row carries, none where that is all of them
// or none.
func (t *CatalogTable) Key() []string {
	if t.Identity != cdc.IdentityDefault && t.Identity != cdc.IdentityIndex {
		return nil
	}
	var out []string
	for _, c := range t.Columns {
		if c.Identity {
			out = append(out, c.Name)
		}
	}
	return out
}

// Relation is the shape that the stream announces for the table.
func (t *CatalogTable) Relation() *cdc.Relation {
	rel := &cdc.Relation{Schema: t.Schema, Name: t.Name, Identity: t.Identity}
	for _, c := range t.Columns {
		if !c.Generated {
			col := cdc.Column{Name: c.Name, TypeOID: c.OID, TypeMod: -1, Key: c.Identity}
			if c.OID == 0 {
				of := c.DataType()
				col.Type = &of
			}
			rel.Columns = append(rel.Columns, col)
		}
	}
	return rel
}

// String describes the column as its definition in SQL would.
func (c CatalogColumn) String() string {
	out := c.typeName()
	if c.Enum {
		out += " ENUM"
	}
	if c.NotNull {
		out += " NOT NULL"
	}
	if c.Generated {
		out += " GENERATED"
	}
	if c.Toastable {
		out += " (stored apart when large)"
	}
	return out
}

// identityText describes what an old row carries.
func (t *CatalogTable) identityText() string {
	out := t.Identity.String()
	if t.Index != "" {
		out += " " + t.Index
	}
	if key := t.Key(); len(key) > 0 {
		out += " (" + strings.Join(key, ", ") + ")"
	}
	return out
}
