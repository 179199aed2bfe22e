package rules

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// textFunctions are the functions of one argument that turn a value's text form
// into a text, or fail where they cannot. NULL stays NULL.
func textFunctions() map[string]func(string) (string, error) {
	out := map[string]func(string) (string, error){"rawpath": rawPath, "rawquery": rawQuery}
	for name, f := range map[string]func(string) string{
		"lower":     strings.ToLower,
		"upper":     strings.ToUpper,
		"md5":       func(s string) string { h := md5.Sum([]byte(s)); return hex.EncodeToString(h[:]) },
		"sha1":      func(s string) string { h := sha1.Sum([]byte(s)); return hex.EncodeToString(h[:]) },
		"sha256":    func(s string) string { h := sha256.Sum256([]byte(s)); return hex.EncodeToString(h[:]) },
		"base64":    func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) },
		"base64url": func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) },
		"hashtag":   func(s string) string { return "{" + s + "}" },
		"urlpath":   urlPath, "formquery": formQuery,
	} {
		out[name] = func(s string) (string, error) { return f(s), nil }
	}
	return out
}

// The names that expressions are rewritten to; no source text can spell them.
const (
	textFunction   = "@text"   // @text(row, "x"): a column in its text form, of an array a list
	printFunction  = "@print"  // @print(row, "x"): the same, but of an array as PostgreSQL prints it
	atFunction     = "@at"     // @at(x, key): x.key or x[key], and NULL of a NULL
	stringFunction = "@string" // string(x) in the one text form
	strictPrefix   = "@null:"  // f(...), and NULL where an argument is NULL

	typedFunction   = "@typed"   // @typed(row, "x"): a column to compare as SQL does
	elementFunction = "@element" // @element(t, row, "x"): the same of an element of the array x
	sameFunction    = "@same"    // a == b
	orderFunction   = "@order"   // less than, equal to or greater than 0, as a is to b
	amongFunction   = "@member"  // x in list
)

// strictFunctions are those of CEL that give NULL for a NULL in a template, as
// SQL's do. Comparisons are not among them: x == null must stay true.
func strictFunctions() []string {
	return []string{
		"_+_", "_-_", "_*_", "_/_", "_%_", "-_", "int", "uint", "double",
		"charAt", "format", "indexOf", "join", "lastIndexOf", "lowerAscii", "replace", "reverse", "split", "substring", "trim", "upperAscii",
		"math.ceil", "math.floor", "math.round", "math.trunc", "math.abs", "math.sign",
	}
}

// maxText bounds, in bytes, what joining and replacing may make of a row.
const maxText = 64 << 10

var (
	errTooLong = fmt.Errorf("an expression makes a text of more than %d bytes", maxText)
	errNoText  = errors.New("a map has no text form; name one of its fields")
)

// errMissingPath is what a JSON path meets that the document does not have.
type errMissingPath struct{ key string }

func (e *errMissingPath) Error() string { return fmt.Sprintf("the JSON value has no %q", e.key) }

// functionOptions declares our own functions. base has CEL's, which the strict
// ones call.
func functionOptions(base *cel.Env) ([]cel.EnvOption, error) {
	opts := []cel.EnvOption{
		cel.Function(textFunction, cel.Overload("column_text", dyns(2), cel.DynType, cel.BinaryBinding(columnText))),
		cel.Function(printFunction, cel.Overload("column_print", dyns(2), cel.DynType, cel.BinaryBinding(columnPrint))),
		cel.Function(atFunction, cel.Overload("at_path", dyns(2), cel.DynType, cel.BinaryBinding(atPath))),
		cel.Function(typedFunction, cel.Overload("typed_column", dyns(2), cel.DynType, cel.BinaryBinding(columnTyped))),
		cel.Function(elementFunction, cel.Overload("typed_element", dyns(3), cel.DynType, cel.FunctionBinding(elementTyped))),
		cel.Function(sameFunction, cel.Overload("sql_same", dyns(2), cel.BoolType, cel.BinaryBinding(sameAs))),
		cel.Function(orderFunction, cel.Overload("sql_order", dyns(2), cel.IntType, cel.BinaryBinding(orderOf))),
		cel.Function(amongFunction, cel.Overload("sql_member", dyns(2), cel.BoolType, cel.BinaryBinding(amongOf))),
		cel.Function(stringFunction, cel.Overload("string_text", dyns(1), cel.DynType,
			cel.UnaryBinding(onText(func(s string) (string, error) { return s, nil })))),
	}
	for name, f := range textFunctions() {
		opts = append(opts, cel.Function(name, cel.Overload("text_"+name, dyns(1), cel.DynType, cel.UnaryBinding(onText(f)))))
	}
	opts = append(opts, cel.Function(padFunction, cel.Overload("text_rpad", []*cel.Type{cel.DynType, cel.IntType}, cel.DynType, cel.BinaryBinding(padText))))
	for _, name := range strictFunctions() {
		f, err := binding(base, name)
		if err != nil {
			return nil, err
		}
		strict := strict(name, limited(name, f))
		var overloads []cel.FunctionOpt
		for n := 1; n <= 4; n++ {
			overloads = append(overloads, cel.Overload(fmt.Sprintf("null_%s_%d", name, n), dyns(n), cel.DynType, cel.FunctionBinding(strict)))
		}
		opts = append(opts, cel.Function(strictPrefix+name, overloads...))
	}
	limits, err := limitOptions(base)
	return append(opts, limits...), err
}

func dyns(n int) []*cel.Type {
	args := make([]*cel.Type, n)
	for i := range args {
		args[i] = cel.DynType
	}
	return args
}

// binding returns what a function of CEL does.
func binding(base *cel.Env, name string) (func(...ref.Val) ref.Val, error) {
	bindings, err := base.Functions()[name].Bindings()
	if err != nil || len(bindings) == 0 {
		return nil, fmt.Errorf("the expression language has no function %q: %w", name, errors.Join(err))
	}
	f := bindings[len(bindings)-1]
	return func(args ...ref.Val) ref.Val {
		switch {
		case len(args) == 1 && f.Unary != nil:
			return f.Unary(args[0])
		case len(args) == 2 && f.Binary != nil:
			return f.Binary(args[0], args[1])
		case f.Function != nil:
			return f.Function(args...)
		}
		return types.MaybeNoSuchOverloadErr(args[0])
	}, nil
}

func isNull(v ref.Val) bool { return v == types.NullValue }

// onText lifts a text function to values: NULL stays NULL, others in text form.
func onText(f func(string) (string, error)) func(ref.Val) ref.Val {
	return func(v ref.Val) ref.Val {
		if isNull(v) {
			return v
		}
		text, err := textOf(v)
		switch {
		case err != nil:
		case len(text) > maxOperand:
			err = errLongOperand
		default:
			text, err = f(text)
		}
		if err != nil {
			return types.WrapErr(err)
		}
		return types.String(text)
	}
}

// padFunction is rpad(text, length), as SQL has it for texts that are not longer: it gives a char(n)
// its blanks back.
const padFunction = "rpad"

func padText(v, length ref.Val) ref.Val {
	n, ok := length.(types.Int)
	if !ok || n > maxText {
		return types.WrapErr(fmt.Errorf("rpad() takes a length of at most %d", maxText))
	}
	return onText(func(s string) (string, error) {
		return s + strings.Repeat(" ", max(0, int(n)-utf8.RuneCountInString(s))), nil
	})(v)
}

// columnText is @text's run time.
func columnText(row, name ref.Val) ref.Val {
	view, ok1 := row.(*rowView)
	column, ok2 := name.(types.String)
	if !ok1 || !ok2 {
		return types.WrapErr(errors.New("want a column of the row"))
	}
	return view.text(column, false)
}

// columnPrint is @print's run time.
func columnPrint(row, name ref.Val) ref.Val {
	view, ok1 := row.(*rowView)
	column, ok2 := name.(types.String)
	if !ok1 || !ok2 {
		return types.WrapErr(errors.New("want a column of the row"))
	}
	return view.text(column, true)
}

// atPath is @at's run time. A NULL has only NULLs in it, as in SQL; what
// a document lacks is unknown.
func atPath(of, key ref.Val) ref.Val {
	switch of := of.(type) {
	case types.Null:
		return of
	case traits.Mapper:
		x, found := of.Find(key)
		if found || types.IsUnknownOrError(x) {
			return x
		}
		return types.WrapErr(&errMissingPath{key: fmt.Sprint(key.Value())})
	case traits.Lister:
		i, ok := key.(types.Int)
		size, _ := of.Size().(types.Int)
		if ok && (i < 0 || i >= size) {
			return types.WrapErr(&errMissingPath{key: fmt.Sprint(i)})
		}
		return of.Get(key)
	}
	return types.MaybeNoSuchOverloadErr(of)
}
