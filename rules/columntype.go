package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"

	"github.com/walpurge/walpurge/cdc"
)

// columnType is what rules make of a column's values.
type columnType struct {
	cdc.DataType
	form form
	// sql is how SQL compares values, nil where CEL compares them in the same way.
	sql *comparison
	// elem is the type of an array's elements, nil for other types.
	elem *columnType
	// maybe is set for a type of the user's own that is not known: if its text reads as an array,
	// it may be one.
	maybe bool
}

func newColumnType(t cdc.DataType) *columnType {
	c := &columnType{DataType: t, form: formOf(t.OID), sql: comparisonOf(&t)}
	switch {
	case t.Elem != nil:
		c.elem, c.form, c.sql = newColumnType(*t.Elem), asIs, nil
	case t.Unknown():
		c.maybe = true
	}
	return c
}

// columnTypesOf are the types of a table's columns, in their order.
func columnTypesOf(rel *cdc.Relation) []*columnType {
	out := make([]*columnType, len(rel.Columns))
	for i := range rel.Columns {
		out[i] = newColumnType(rel.Columns[i].DataType())
	}
	return out
}

// DataType is what the column's values are.
func (c *CatalogColumn) DataType() cdc.DataType {
	if c.OID != 0 {
		return cdc.BuiltinType(c.OID)
	}
	return printedType(c.BaseType(), c.Enum)
}

// printedType is a type by the name that PostgreSQL prints.
func printedType(name string, enum bool) cdc.DataType {
	if of, array := strings.CutSuffix(name, "[]"); array {
		elem := printedType(of, enum)
		return cdc.DataType{Name: bareName(name), Delimiter: ',', Elem: &elem}
	}
	if oid := cdc.PrintedOID(name); oid != 0 && !enum {
		return cdc.BuiltinType(oid)
	}
	return cdc.DataType{Name: bareName(name), Enum: enum}
}

// BaseType is the name of the type that the column's values are of, below domains.
func (c *CatalogColumn) BaseType() string {
	if c.Base != "" {
		return c.Base
	}
	return c.Type
}

// IsArray reports that the column's values are arrays.
func (c *CatalogColumn) IsArray() bool { t := c.DataType(); return t.Elem != nil }

// bareName takes the schema and the quotes off the name of a type.
func bareName(name string) string {
	return strings.Trim(name[strings.LastIndexByte(name, '.')+1:], `"`)
}

// columnTypes are the types that celValue gives, under the names of the variables
// that stand in for columns.
func columnTypes() map[string]*cel.Type {
	out := map[string]*cel.Type{
		"@bool": cel.BoolType, "@int": cel.IntType, "@double": cel.DoubleType, "@time": cel.TimestampType, "@text": cel.StringType, "@any": cel.DynType,
	}
	for name, t := range out {
		if !strings.HasPrefix(name, listStandIn) {
			out[listStandIn+name[1:]] = cel.ListType(t)
		}
	}
	return out
}

// listStandIn begins the names of the stand-ins for arrays.
const listStandIn = "@list_"

// standInFor names the stand-in for a column of a type. It says of a type what
// celValue does with its values.
func standInFor(t cdc.DataType) string {
	switch {
	case t.Elem != nil && t.Elem.Elem != nil: // of a domain over an array
		return listStandIn + "any"
	case t.Elem != nil:
		return listStandIn + standInFor(*t.Elem)[1:]
	}
	switch t.OID {
	case oidBool:
		return "@bool"
	case oidInt2, oidInt4, oidInt8:
		return "@int"
	case oidFloat4, oidFloat8, oidNumeric:
		return "@double"
	case oidJSON, oidJSONB:
		return "@any"
	case oidTimestamptz, oidTimestamp, oidDate:
		return "@time"
	}
	return "@text"
}

// mayEqual reports whether values of the types can be equal: numbers with
// numbers of any kind, everything with null, else only what is of one kind.
func mayEqual(a, b *cel.Type) bool {
	number := func(t *cel.Type) bool {
		return t.Kind() == types.IntKind || t.Kind() == types.UintKind || t.Kind() == types.DoubleKind
	}
	open := func(t *cel.Type) bool {
		switch t.Kind() {
		case types.BoolKind, types.BytesKind, types.DurationKind, types.ListKind, types.MapKind, types.StringKind, types.TimestampKind, types.TypeKind:
			return false
		}
		return !number(t)
	}
	switch {
	case open(a) || open(b) || number(a) && number(b):
		return true
	case a.Kind() != b.Kind():
		return false
	}
	return !slices.ContainsFunc([]int{0, 1}, func(i int) bool {
		return i < len(a.Parameters()) && i < len(b.Parameters()) && !mayEqual(a.Parameters()[i], b.Parameters()[i])
	})
}

// typeText says what a column's values are in expressions.
func (c *CatalogColumn) typeText() string {
	words := map[string]string{"bool": "bool", "int": "int", "double": "double", "time": "timestamp", "text": "string", "any": "of any type"}
	name, list := strings.CutPrefix(standInFor(c.DataType()), listStandIn)
	if list {
		return fmt.Sprintf("%s is %s, here a list (%s)", c.Name, c.typeName(), words[name])
	}
	return fmt.Sprintf("%s is %s, here %s", c.Name, c.typeName(), words[strings.TrimPrefix(name, "@")])
}

// typeName is the column's type, for a domain with what it is made from.
func (c *CatalogColumn) typeName() string {
	if c.Base != "" {
		return c.Type + " (" + c.Base + ")"
	}
	return c.Type
}
