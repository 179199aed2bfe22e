package rules

import (
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/walpurge/walpurge/cdc"
)

// comparison is how SQL compares the values of a type whose equality or order is not that of their
// text. A column of such a type is compared so in expressions; where the two texts do not say how
// SQL would decide, the comparison is undecided, which counts as true.
type comparison struct {
	// canonical brings a text to the one form that equal values have. ok is false for a text
	// that it cannot read.
	canonical func(text string) (form string, ok bool)
	// distinct is set where values with different canonical forms differ.
	distinct bool
	// ordered is set where canonical forms have the order of the values.
	ordered bool
	// number is set for types that are compared as numbers.
	number numberKind
}

type numberKind uint8

const (
	noNumber numberKind = iota
	exactNumber
	floatNumber
)

// comparisons are the types with a comparison of their own, by name; docs/rules.md has the same
// table. Types that are not listed are compared as CEL compares what they are in expressions.
var comparisons = map[string]*comparison{
	"bpchar":   blankPadded,
	"citext":   {canonical: caseless, distinct: true},
	"numeric":  {number: exactNumber},
	"float4":   {number: floatNumber},
	"float8":   {number: floatNumber},
	"uuid":     {canonical: uuidDigits, distinct: true, ordered: true},
	"bytea":    {canonical: byteaDigits, distinct: true, ordered: true},
	"bit":      {canonical: bits, distinct: true, ordered: true},
	"varbit":   {canonical: bits, distinct: true, ordered: true},
	"macaddr":  {canonical: macDigits(12), distinct: true, ordered: true},
	"macaddr8": {canonical: macDigits(16), distinct: true, ordered: true},
	"inet":     {canonical: address, distinct: true},
	"cidr":     {canonical: address, distinct: true},
	"time":     {canonical: clock, distinct: true, ordered: true},
	"oid":      {canonical: wholeNumber, distinct: true, ordered: true},
	"xid8":     {canonical: wholeNumber, distinct: true, ordered: true},
	"xid":      {canonical: wholeNumber, distinct: true},
	"cid":      {canonical: wholeNumber, distinct: true},
	"ltree":    {canonical: verbatim, distinct: true},
	"char":     {canonical: verbatim, distinct: true},
	// These are built in and compared as text is.
	"bool": nil, "int2": nil, "int4": nil, "int8": nil, "text": nil, "varchar": nil, "name": nil, "json": nil, "jsonb": nil,
	"date": nil, "timestamp": nil, "timestamptz": nil, "refcursor": nil, "cstring": nil,
}

// blankPadded: blanks at the end count for nothing.
var blankPadded = &comparison{canonical: func(text string) (string, bool) { return strings.TrimRight(text, " "), true }, distinct: true, ordered: true}

// labels: an enum's are what they are; their order is that of their declaration, which no text
// tells.
var labels = &comparison{canonical: verbatim, distinct: true}

// opaque is for all other types: equal texts are equal values, and nothing else is known. Of
// interval, money, ranges and others different texts can be one value.
var opaque = &comparison{canonical: verbatim}

// comparisonOf is how SQL compares values of a type; nil where CEL does the same.
func comparisonOf(t *cdc.DataType) *comparison {
	switch {
	case t.Enum:
		return labels
	case t.OID == 0 && t.Name == "":
		return nil // a text of a rule test
	}
	name := t.Name
	if t.OID != 0 && t.OID < cdc.FirstUserOID {
		name = cdc.BuiltinName(t.OID)
	}
	if c, listed := comparisons[name]; listed {
		return c
	}
	return opaque
}

func verbatim(text string) (string, bool) { return text, true }

// caseless folds as citext does, by the lower() of the database. That is sure for ASCII only.
func caseless(text string) (string, bool) {
	return strings.ToLower(text), strings.IndexFunc(text, func(c rune) bool { return c > unicode.MaxASCII }) < 0
}

func wholeNumber(text string) (string, bool) {
	n, err := strconv.ParseUint(text, 10, 64)
	return fmt.Sprintf("%020d", n), err == nil
}

func uuidDigits(text string) (string, bool) {
	digits := strings.ToLower(strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}"), "-", ""))
	return digits, len(digits) == 32 && isHex(digits)
}

func macDigits(length int) func(string) (string, bool) {
	return func(text string) (string, bool) {
		digits := strings.ToLower(strings.NewReplacer(":", "", "-", "", ".", "").Replace(text))
		return digits, len(digits) == length && isHex(digits)
	}
}

// byteaDigits reads the hex format, and the escape format where it has no escapes.
func byteaDigits(text string) (string, bool) {
	if digits, is := strings.CutPrefix(text, `\x`); is {
		return strings.ToLower(digits), len(digits)%2 == 0 && isHex(digits)
	}
	return hex.EncodeToString([]byte(text)), strings.IndexByte(text, '\\') < 0
}

func isHex(digits string) bool { return strings.Trim(digits, "0123456789abcdefABCDEF") == "" }

func bits(text string) (string, bool) { return text, strings.Trim(text, "01") == "" }

// address leaves out a mask that has all bits.
func address(text string) (string, bool) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" {
		return netip.PrefixFrom(addr, addr.BitLen()).String(), true
	}
	p, err := netip.ParsePrefix(text)
	return p.String(), err == nil
}

var clockForm = regexp.MustCompile(`^([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?$`)

func clock(text string) (string, bool) {
	m := clockForm.FindStringSubmatch(text)
	if m == nil {
		return "", false
	}
	return m[1] + m[2] + (m[3] + "00")[:2] + (m[4] + "000000")[:6], true
}

// errUndecided is a comparison that SQL may decide either way.
var errUndecided = errors.New("the text of the values does not say how SQL would compare them")

// typedValue is a column's value with its type, as the operand of a comparison. Nothing else is
// given one.
type typedValue struct {
	ref.Val
	of *columnType
	// text is the value as PostgreSQL printed it, empty where only Val is known.
	text string
}

// columnTyped is @typed's run time: a column as the operand of a comparison.
func columnTyped(row, name ref.Val) ref.Val {
	view, ok1 := row.(*rowView)
	column, ok2 := name.(types.String)
	if !ok1 || !ok2 {
		return types.WrapErr(errors.New("want a column of the row"))
	}
	v := view.Get(column)
	if isNull(v) || types.IsUnknownOrError(v) {
		return v
	}
	i := view.plan.index[string(column)]
	return &typedValue{v, view.plan.types[i], string(view.row[i].Data)}
}

// elementTyped is @element's run time: what a loop over an array calls its element.
func elementTyped(args ...ref.Val) ref.Val {
	if len(args) != 3 || isNull(args[0]) {
		return types.NullValue
	}
	view, ok1 := args[1].(*rowView)
	column, ok2 := args[2].(types.String)
	if !ok1 || !ok2 {
		return types.WrapErr(errors.New("want a column of the row"))
	}
	if i, ok := view.plan.index[string(column)]; ok && view.plan.types[i].elem != nil {
		return &typedValue{args[0], view.plan.types[i].elem, ""}
	}
	return args[0]
}

// sameAs is @same's run time: a == b.
func sameAs(a, b ref.Val) ref.Val {
	if list, ok := untyped(a).(traits.Lister); ok {
		return sameList(a, list, b)
	}
	x, y := sides(a, b)
	if x == nil || isNull(untyped(a)) || isNull(untyped(b)) {
		return types.Equal(untyped(a), untyped(b))
	}
	c, err := x.compare(y)
	switch {
	case errors.Is(err, errOther):
		return types.Equal(untyped(a), untyped(b))
	case errors.Is(err, errUnordered):
		return types.False
	case err != nil:
		return types.WrapErr(err)
	}
	return types.Bool(c == 0)
}

// sameList compares arrays element by element.
func sameList(a ref.Val, list traits.Lister, b ref.Val) ref.Val {
	other, ok := untyped(b).(traits.Lister)
	if !ok {
		return types.Equal(untyped(a), untyped(b))
	}
	if list.Size() != other.Size() {
		return types.False
	}
	var undecided ref.Val
	n, _ := list.Size().(types.Int)
	for i := range n {
		switch is := sameAs(elementOf(a, list, i), elementOf(b, other, i)); {
		case is == types.False:
			return types.False
		case is != types.True:
			undecided = is
		}
	}
	if undecided != nil {
		return undecided
	}
	return types.True
}

// elementOf is an element of a list, with the type that it has as that of an array.
func elementOf(of ref.Val, list traits.Lister, i types.Int) ref.Val {
	v := list.Get(i)
	t, ok := of.(*typedValue)
	if !ok || t.of.elem == nil || isNull(v) {
		return v
	}
	if _, nested := v.(traits.Lister); nested && t.of.elem.OID != oidJSON && t.of.elem.OID != oidJSONB {
		return &typedValue{v, t.of, ""}
	}
	return &typedValue{v, t.of.elem, ""}
}

// orderOf is @order's run time: less than, equal to or greater than 0 as a is to b.
func orderOf(a, b ref.Val) ref.Val {
	x, y := sides(a, b)
	if x == nil || isNull(untyped(a)) || isNull(untyped(b)) {
		return compareCEL(untyped(a), untyped(b))
	}
	c, err := x.compare(y)
	switch {
	case errors.Is(err, errOther):
		return compareCEL(untyped(a), untyped(b))
	case errors.Is(err, errUnordered):
		return types.WrapErr(errUndecided)
	case err != nil:
		return types.WrapErr(err)
	}
	if x != a {
		c = -c
	}
	return types.Int(c)
}

func compareCEL(a, b ref.Val) ref.Val {
	if c, ok := a.(traits.Comparer); ok {
		return c.Compare(b)
	}
	return types.MaybeNoSuchOverloadErr(a)
}

// amongOf is @among's run time: x in list.
func amongOf(x, of ref.Val) ref.Val {
	list, ok := untyped(of).(traits.Lister)
	if !ok {
		if c, ok := untyped(of).(traits.Container); ok {
			return c.Contains(untyped(x))
		}
		return types.MaybeNoSuchOverloadErr(untyped(of))
	}
	if err := amongWork(list, x); err != nil {
		return types.WrapErr(err)
	}
	var undecided ref.Val
	n, _ := list.Size().(types.Int)
	for i := range n {
		switch is := sameAs(elementOf(of, list, i), x); {
		case is == types.True:
			return is
		case is != types.False:
			undecided = is
		}
	}
	if undecided != nil {
		return undecided
	}
	return types.False
}

func untyped(v ref.Val) ref.Val {
	if t, ok := v.(*typedValue); ok {
		return t.Val
	}
	return v
}

// sides are the operands, the one first that says how SQL compares; x is nil where none does.
func sides(a, b ref.Val) (x *typedValue, y ref.Val) {
	if x, ok := a.(*typedValue); ok && x.of.sql != nil {
		return x, b
	}
	if x, ok := b.(*typedValue); ok && x.of.sql != nil {
		return x, a
	}
	return nil, b
}

var (
	// errOther: CEL compares as well as SQL would, or there is nothing in SQL to compare.
	errOther = errors.New("not compared as SQL does")
	// errUnordered: the values differ, and which is less is not known.
	errUnordered = errors.New("different, in no known order")
)

// compare compares as SQL does.
func (x *typedValue) compare(y ref.Val) (int, error) {
	other, _ := y.(*typedValue)
	if x.of.sql.number != noNumber {
		return x.compareNumbers(untyped(y), other)
	}
	theirs, ok1 := untyped(y).(types.String)
	mine, ok2 := x.Val.(types.String)
	if !ok1 || !ok2 {
		return 0, errOther
	}
	read := x.of.sql.canonical
	if other != nil && other.of.sql != x.of.sql {
		if x.of.sql != blankPadded || other.of.sql != nil {
			if mine == theirs {
				return 0, nil
			}
			return 0, errUndecided
		}
		read = verbatim // beside a text, a char(n) is a text without blanks
	}
	form, known := x.of.sql.canonical(string(mine))
	against, readable := read(string(theirs))
	switch {
	case mine == theirs || known && readable && form == against:
		return 0, nil
	case !known || !readable || !x.of.sql.distinct:
		return 0, errUndecided
	case !x.of.sql.ordered:
		return 0, errUnordered
	}
	return strings.Compare(form, against), nil
}

func (x *typedValue) compareNumbers(y ref.Val, other *typedValue) (int, error) {
	mine, ok := x.Val.(types.Double)
	if !ok {
		return 0, errOther
	}
	float := x.of.sql.number == floatNumber || other != nil && other.of.sql != nil && other.of.sql.number == floatNumber
	var theirs float64
	var digits string
	switch y := y.(type) {
	case types.Double:
		theirs, digits = float64(y), strconv.FormatFloat(float64(y), 'f', -1, 64)
		if other != nil && other.text != "" {
			digits = other.text
		}
	case types.Int:
		theirs, digits = float64(y), strconv.FormatInt(int64(y), 10)
	case types.Uint:
		theirs, digits = float64(y), strconv.FormatUint(uint64(y), 10)
	default:
		return 0, errOther
	}
	if x.of.OID == oidFloat4 && other == nil && float32(mine) == float32(theirs) && float64(mine) != theirs {
		return 0, errUndecided // 0.1 is the real '0.1', and another number than the double precision 0.1
	}
	if float || !decimal(x.text) || !decimal(digits) {
		return compareFloats(float64(mine), theirs), nil
	}
	c := compareDecimals(x.text, digits)
	const exactDigits = 15 // that a double keeps of a number as it was written
	if _, double := y.(types.Double); double && other == nil && float64(mine) == theirs && (c != 0 || len(strings.Trim(digits, "-.0")) > exactDigits) {
		return 0, errUndecided
	}
	return c, nil
}

// decimal reports whether a text is a number in digits: not NaN, and no infinity.
func decimal(text string) bool { return text != "" && strings.Trim(text, "-.0123456789") == "" }

// compareFloats: NaN is equal to itself and greater than all other numbers, as in PostgreSQL.
func compareFloats(a, b float64) int {
	switch {
	case math.IsNaN(a) && math.IsNaN(b) || a == b:
		return 0
	case math.IsNaN(a) || a > b:
		return 1
	}
	return -1
}

// compareDecimals compares numbers without exponents exactly.
func compareDecimals(a, b string) int {
	parts := func(s string) (sign int, whole, fraction string) {
		s, negative := strings.CutPrefix(s, "-")
		whole, fraction, _ = strings.Cut(s, ".")
		whole, fraction = strings.TrimLeft(whole, "0"), strings.TrimRight(fraction, "0")
		switch {
		case whole == "" && fraction == "":
			return 0, "", ""
		case negative:
			return -1, whole, fraction
		}
		return 1, whole, fraction
	}
	sign, w1, f1 := parts(a)
	other, w2, f2 := parts(b)
	switch {
	case sign != other:
		return sign - other
	case len(w1) != len(w2):
		return sign * (len(w1) - len(w2))
	}
	return sign * slices.Compare([]string{w1, f1}, []string{w2, f2})
}
