package rules

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/walpurge/walpurge/cdc"
)

// errNotCarried is what a condition meets where the stream did not carry a
// value. CEL's logic then does the rest: error || true is true.
type errNotCarried struct{ column string }

func (e *errNotCarried) Error() string {
	return fmt.Sprintf("column %q was not carried by the stream", e.column)
}

// errNoImage is what a template meets where the operation has no such row:
// {old.x} of an insert.
var errNoImage = errors.New("the change has no such row")

// rowView is one row image as CEL sees it: a map from column to typed value.
// Values are converted when they are asked for, and once per change.
type rowView struct {
	plan *Plan
	// row is nil where the change has no such image.
	row   cdc.Tuple
	cache []ref.Val
	// fills is set where the view is for templates: there an image that the
	// operation lacks gives no value, and is not unknown.
	fills bool
}

func (v *rowView) reset(row cdc.Tuple) {
	v.row = row
	clear(v.cache)
}

func (v *rowView) notCarried(column string) ref.Val {
	if v.fills && v.row == nil {
		return types.WrapErr(errNoImage)
	}
	return types.WrapErr(&errNotCarried{column: column})
}

// Find implements the map lookup. A column that is not known is an error and
// not a missing key, so that has(row.x) is unknown too.
func (v *rowView) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	i, ok := v.plan.index[string(name)]
	if !ok || i >= len(v.row) || !v.row[i].Known() {
		return v.notCarried(string(name)), false
	}
	if v.cache[i] == nil {
		v.cache[i] = celValue(v.row[i], v.plan.types[i])
	}
	return v.cache[i], true
}

// text is a column in the form in which a template copies it. Of an array that is the list of its
// elements'; or, if printed is set, the text that PostgreSQL prints.
func (v *rowView) text(column types.String, printed bool) ref.Val {
	i, ok := v.plan.index[string(column)]
	if !ok || i >= len(v.row) || !v.row[i].Known() {
		return v.notCarried(string(column))
	}
	if v.row[i].Kind == cdc.Null {
		return types.NullValue
	}
	if len(v.row[i].Data) > maxOperand {
		return types.WrapErr(errLongOperand)
	}
	if t := v.plan.types[i]; t.elem != nil && !printed {
		return arrayTexts(v.row[i].Data, t)
	}
	return types.String(appendText(nil, v.row[i].Data, v.plan.types[i].form))
}

// differs tells whether any of the columns has another value in after. A side
// without an image (insert, delete) counts as different. A known difference
// wins over a column that is not known.
func (v *rowView) differs(after *rowView, names string) ref.Val {
	if v.row == nil || after.row == nil {
		return types.True
	}
	var unknown ref.Val
	for more := true; more; {
		var name string
		name, names, more = strings.Cut(names, nameSeparator)
		i, ok := v.plan.index[name]
		if !ok || i >= len(v.row) || i >= len(after.row) || !v.row[i].Known() || !after.row[i].Known() {
			unknown = v.notCarried(name)
			continue
		}
		if v.row[i].Kind != after.row[i].Kind || !bytes.Equal(v.row[i].Data, after.row[i].Data) {
			return types.True
		}
	}
	if unknown != nil {
		return unknown
	}
	return types.False
}

// whole converts the row to an ordinary map, or says which column hinders it.
func (v *rowView) whole() (traits.Mapper, ref.Val) {
	m := make(map[string]any, len(v.plan.rel.Columns))
	for i := range v.plan.rel.Columns {
		name := v.plan.rel.Columns[i].Name
		x, ok := v.Find(types.String(name))
		if !ok {
			return nil, x
		}
		m[name] = x
	}
	return types.NewStringInterfaceMap(types.DefaultTypeAdapter, m), nil
}

// Get implements the index operator.
func (v *rowView) Get(key ref.Val) ref.Val {
	x, _ := v.Find(key)
	return x
}

// Contains implements "name" in row: whether the table has the column.
func (v *rowView) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	_, ok = v.plan.index[string(name)]
	return types.Bool(ok)
}

// Size implements size(row): the number of the table's columns.
func (v *rowView) Size() ref.Val { return types.Int(len(v.plan.rel.Columns)) }

// Iterator runs over the column names.
func (v *rowView) Iterator() traits.Iterator {
	names := make([]string, len(v.plan.rel.Columns))
	for i := range names {
		names[i] = v.plan.rel.Columns[i].Name
	}
	return types.NewStringList(types.DefaultTypeAdapter, names).Iterator()
}

// Equal compares whole rows; a column that is not known makes it an error.
func (v *rowView) Equal(other ref.Val) ref.Val {
	mine, unknown := v.whole()
	if unknown != nil {
		return unknown
	}
	if o, ok := other.(*rowView); ok {
		theirs, unknown := o.whole()
		if unknown != nil {
			return unknown
		}
		return mine.Equal(theirs)
	}
	return mine.Equal(other)
}

// ConvertToNative implements ref.Val; nothing in a condition needs it.
func (v *rowView) ConvertToNative(reflect.Type) (any, error) {
	return nil, errors.New("a row cannot be converted")
}

// ConvertToType implements ref.Val.
func (v *rowView) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return types.MapType
	}
	return types.WrapErr(errors.New("a row cannot be converted"))
}

// Type implements ref.Val.
func (v *rowView) Type() ref.Type { return types.MapType }

// Value implements ref.Val.
func (v *rowView) Value() any { return v }
