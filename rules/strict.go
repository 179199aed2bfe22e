package rules

import (
	"strings"

	"cel.dev/cel-go/common/functions"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// strict makes a function of CEL give NULL where an argument is NULL, and
// refuse to make far more of a row than there was.
func strict(name string, f *functions.Overload) func(...ref.Val) ref.Val {
	return func(args ...ref.Val) ref.Val {
		for _, a := range args {
			if isNull(a) {
				return a
			}
			if name == "format" && holdsNull(a) {
				return types.NullValue
			}
		}
		if tooLong(name, args) {
			return types.WrapErr(errTooLong)
		}
		switch {
		case len(args) == 1 && f.Unary != nil:
			return f.Unary(args[0])
		case len(args) == 2 && f.Binary != nil:
			return f.Binary(args[0], args[1])
		case f.Function != nil:
			return f.Function(args...)
		}
		return types.MaybeNoSuchOverloadErr(args[0])
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
		separator := 0
		if len(args) == 2 {
			separator = textLen(args[1])
		}
		for it := list.Iterator(); it.HasNext() == types.True && total <= maxText; {
			total += textLen(it.Next()) + separator
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

// costs charges our functions by the bytes that they read and write, as CEL does
// for its own.
type costs struct{}

// CallCost implements the interpreter's estimator; nil leaves the call to CEL.
func (costs) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	if !strings.HasPrefix(function, "@") && !strings.HasPrefix(overload, "text_") {
		return nil
	}
	bytes := textLen(result)
	for _, v := range args {
		bytes += textLen(v)
	}
	cost := uint64(1 + bytes/10)
	return &cost
}
