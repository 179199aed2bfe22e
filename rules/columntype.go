package rules

import (
	"fmt"
	"slices"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
)

// columnTypes are the types that celValue gives, under the names of the variables
// that stand in for columns.
func columnTypes() map[string]*cel.Type {
	return map[string]*cel.Type{
		"@bool": cel.BoolType, "@int": cel.IntType, "@double": cel.DoubleType, "@time": cel.TimestampType, "@text": cel.StringType, "@any": cel.DynType,
	}
}

// columnType names the stand-in for a column of a type. It says of a type what
// celValue does with its values.
func columnType(oid uint32) string {
	switch oid {
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
func (c CatalogColumn) typeText() string {
	return fmt.Sprintf("%s is %s, here %s", c.Name, c.Type,
		map[string]string{"@bool": "bool", "@int": "int", "@double": "double", "@time": "timestamp", "@text": "string", "@any": "of any type"}[columnType(c.OID)])
}
