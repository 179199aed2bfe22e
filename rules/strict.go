package rules

import (
	"strings"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// strict makes a function of CEL give NULL where an argument is NULL, and
// refuse to make far more of a row than there was.
func strict(name string, f func(...ref.Val) ref.Val) func(...ref.Val) ref.Val {
	return func(args ...ref.Val) ref.Val {
		for _, a := range args {
			if isNull(a) {
				return a
			}
			if name == "format" && holdsNull(a) {
				return types.NullValue
			}
		}
		if err := tooMuch(name, args); err != nil {
			return types.WrapErr(err)
		}
		if tooLong(name, args) {
			return types.WrapErr(errTooLong)
		}
		return f(args...)
	}
}

// amplifies reports whether the length of a function's result may be the product
// of two of its arguments', or more: such a function has a bound in conditions too.
func amplifies(name string) bool { return name == "replace" || name == "join" || name == "format" }

func holdsNull(v ref.Val) bool {
	list, ok := v.(traits.Lister)
	if !ok {
		return false
	}
	for it := list.Iterator(); it.HasNext() == types.True; {
		if isNull(it.Next()) {
			return true
		}
	}
	return false
}

// tooLong foresees the length of what a function is about to make, for those
// whose result may be the product of two lengths, or that loops may repeat.
func tooLong(name string, args []ref.Val) bool {
	switch name {
	case "_+_":
		if _, text := args[0].(types.String); text && len(args) == 2 {
			return textLen(args[0])+textLen(args[1]) > maxText
		}
	case "replace":
		if len(args) < 3 {
			return false
		}
		s, ok1 := args[0].(types.String)
		before, ok2 := args[1].(types.String)
		after, ok3 := args[2].(types.String)
		return ok1 && ok2 && ok3 && len(s)+strings.Count(string(s), string(before))*len(after) > maxText
	case "join", "format":
		return joined(args) > maxText
	}
	return false
}

// joined is the length of all texts in the arguments, a list's separator
// counted once per element.
func joined(args []ref.Val) int {
	total := 0
	for _, a := range args {
		list, ok := a.(traits.Lister)
		if !ok {
			total += textLen(a)
			continue
		}
		separator := 1
		if len(args) == 2 {
			separator += textLen(args[1])
		}
		for it := list.Iterator(); it.HasNext() == types.True && total <= maxText; {
			total += weight(it.Next(), maxText, maxNesting) + separator
		}
	}
	return total
}

func textLen(v ref.Val) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	}
	return 1
}

// costs charges calls by the bytes and elements that they read and write: CEL charges less for several of
// its own, such as comparisons of nested values.
type costs struct{}

// CallCost implements the interpreter's estimator.
func (costs) CallCost(function, _ string, args []ref.Val, result ref.Val) *uint64 {
	units := shallow(result)
	for _, v := range args {
		switch {
		case walks(function):
			units += weight(v, 10*maxCost, maxNesting)
		case function == changedFunction:
			units += rowWeight(v)
		default:
			units += shallow(v)
		}
	}
	cost := uint64(1 + units/10)
	return &cost
}

// walks reports whether a function reads all that is in its arguments.
func walks(function string) bool {
	switch function {
	case "_==_", "_!=_", "@in", "_<_", "_<=_", "_>_", "_>=_", sameFunction, orderFunction, amongFunction, strictPrefix + "join", strictPrefix + "format":
		return true
	}
	return false
}

// shallow is the length of a text, 1 for other values.
func shallow(v ref.Val) int {
	if t, ok := v.(*typedValue); ok {
		return len(t.text) + textLen(t.Val)
	}
	return textLen(v)
}

// rowWeight is the length of all values of a row.
func rowWeight(v ref.Val) int {
	total := 1
	if view, ok := v.(*rowView); ok {
		for i := range view.row {
			total += len(view.row[i].Data)
		}
	}
	return total
}
