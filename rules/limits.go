package rules

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
	"cel.dev/cel-go/interpreter"
)

// No value of a row makes an evaluation run for long. Loops have a limit of iterations and of cost
// (expression.go). A single call is not interrupted, so each function whose time is more than linear in
// the lengths of its arguments has a limit of its own, which is checked before the call; and a value that
// is longer than maxOperand is unknown to expressions, which bounds all others. Past a limit the
// expression is undecided: a condition counts as true, and a value takes what unknown: names.

const (
	// maxOperand is the longest text that expressions are given, in bytes.
	maxOperand = 4 << 20
	// maxJSON is the longest JSON text that is parsed, in bytes.
	maxJSON = 1 << 20
	// maxElements bounds the elements of an array, and the pieces of a split text.
	maxElements = 100_000
	// maxWork bounds one call, in steps that take about a nanosecond.
	maxWork = 32 << 20
	// maxNesting is how deep the values may nest that format() prints.
	maxNesting = 100
)

var (
	errLimit       = errors.New("the limit of work for one expression is exceeded")
	errLongOperand = fmt.Errorf("%w: a value is longer than %d bytes", errLimit, maxOperand)
	errLongJSON    = fmt.Errorf("%w: a JSON value is longer than %d bytes", errLimit, maxJSON)
	errElements    = fmt.Errorf("%w: there are more than %d elements", errLimit, maxElements)
	errWork        = fmt.Errorf("%w: its texts are too long together", errLimit)
)

// exceeded reports whether a limit is the reason for which an expression is undecided.
func exceeded(err error) bool {
	var canceled interpreter.EvalCancelledError
	return errors.Is(err, errLimit) || errors.Is(err, errTooLong) || errors.As(err, &canceled) ||
		errors.Is(err, context.Canceled) || errors.Is(err, interpreter.InterruptError{})
}

// limitPrefix begins the names of functions that have a limit; see functionOptions.
const limitPrefix = "@limit:"

// limitedFunctions are functions of CEL with a limit of their own, in conditions and templates.
func limitedFunctions() []string {
	return []string{"contains", "indexOf", "lastIndexOf", "matches", "split", "strings.quote"}
}

// tooMuch reports why a call is not carried out, nil if it is.
func tooMuch(name string, args []ref.Val) error {
	if len(args) == 0 {
		return nil
	}
	text, ok := args[0].(types.String)
	if !ok {
		return nil
	}
	switch name {
	case "contains", "indexOf", "lastIndexOf", "replace", "split":
		if len(args) < 2 {
			return nil
		}
		part, ok := args[1].(types.String)
		switch {
		case !ok:
		case searchWork(len(text), len(part)) > maxWork:
			return errWork
		case name == "split" && pieces(string(text), string(part)) > maxElements:
			return errElements
		}
	case "strings.quote":
		if len(text) > maxOperand {
			return errLongOperand
		}
	}
	return nil
}

// searchWork is how many steps it takes at most to find a text of m bytes in one of n bytes. Package
// strings compares short ones at every place, and long ones where a hash agrees, which a row can arrange
// for every few bytes; a comparison takes 16 bytes and more in a step.
func searchWork(n, m int) int {
	const short = 64
	if m <= short {
		return n
	}
	return n + n/short*m
}

// pieces is how many pieces split() makes.
func pieces(text, separator string) int {
	if separator == "" {
		return utf8.RuneCountInString(text)
	}
	return strings.Count(text, separator) + 1
}

// stateSteps is how many steps one instruction of a regular expression takes.
const stateSteps = 4

// states is an upper bound of the instructions that a regular expression is compiled to.
func states(re *syntax.Regexp) int {
	n := 2 + len(re.Rune)/2
	if re.Op == syntax.OpLiteral {
		n = 2 + len(re.Rune)
	}
	for _, sub := range re.Sub {
		n = min(n+states(sub), maxWork)
	}
	if re.Op == syntax.OpRepeat {
		n = min(n*max(re.Min+1, re.Max, 1), maxWork)
	}
	return n
}

// constantPattern compiles the pattern of matches(), which is a constant, once. A match takes as many steps for each
// byte as the pattern has instructions.
var constantPattern = &interpreter.RegexOptimization{
	Function: limitPrefix + "matches", RegexIndex: 1,
	Factory: func(call interpreter.InterpretableCall, pattern string) (interpreter.InterpretableCall, error) {
		compiled, err := regexp.Compile(pattern)
		if err != nil {
			return nil, err
		}
		parsed, err := syntax.Parse(pattern, syntax.Perl)
		if err != nil {
			return nil, err
		}
		longest := maxWork / (states(parsed) * stateSteps)
		return interpreter.NewCall(call.ID(), call.Function(), call.OverloadID(), call.Args(), func(args ...ref.Val) ref.Val {
			if len(args) != 2 {
				return types.NoSuchOverloadErr()
			}
			text, ok := args[0].(types.String)
			switch {
			case types.IsUnknownOrError(args[0]):
				return args[0]
			case !ok:
				return types.MaybeNoSuchOverloadErr(args[0])
			case len(text) > longest:
				return types.WrapErr(errWork)
			}
			return types.Bool(compiled.MatchString(string(text)))
		}), nil
	},
}

// limited gives a function of CEL its limit.
func limited(name string, f func(...ref.Val) ref.Val) func(...ref.Val) ref.Val {
	return func(args ...ref.Val) ref.Val {
		if err := tooMuch(name, args); err != nil {
			return types.WrapErr(err)
		}
		switch name {
		case "indexOf":
			if at, ok := index(args, strings.Index); ok {
				return at
			}
		case "lastIndexOf":
			if at, ok := index(args, strings.LastIndex); ok {
				return at
			}
		}
		return f(args...)
	}
}

// index is indexOf() and lastIndexOf() of two texts: CEL compares character by character at every place, which
// takes as many steps as the product of the lengths. ok is false where it is for CEL to find out, which it does within
// the limit.
func index(args []ref.Val, search func(text, part string) int) (at ref.Val, ok bool) {
	if len(args) < 2 {
		return nil, false
	}
	text, ok1 := args[0].(types.String)
	part, ok2 := args[1].(types.String)
	switch {
	case !ok1 || !ok2:
		return nil, false
	case len(args) == 2 && part != "" && utf8.ValidString(string(text)) && utf8.ValidString(string(part)):
		found := search(string(text), string(part))
		if found < 0 {
			return types.Int(-1), true
		}
		return types.Int(utf8.RuneCountInString(string(text[:found]))), true
	case len(text)*len(part) > maxWork:
		return types.WrapErr(errWork), true
	}
	return nil, false
}

// amongWork is tooMuch for x in list: an element may be compared by a form that is made of x each time.
func amongWork(list traits.Lister, x ref.Val) error {
	n, _ := list.Size().(types.Int)
	if int(n) > 1 && int(n)*textLen(untyped(x)) > maxWork {
		return errWork
	}
	return nil
}

// weight is the size of a value with all that is in it, in bytes and elements. It does not count beyond most.
func weight(v ref.Val, most, depth int) int {
	switch v := v.(type) {
	case types.String:
		return len(v)
	case types.Bytes:
		return len(v)
	case *typedValue:
		return weight(v.Val, most, depth) + len(v.text)
	case traits.Mapper:
		return weightOf(v, v, most, depth)
	case traits.Lister:
		return weightOf(v, nil, most, depth)
	}
	return 1
}

func weightOf(of traits.Iterable, values traits.Mapper, most, depth int) int {
	total := 1
	if depth == 0 {
		return most + 1
	}
	for it := of.Iterator(); it.HasNext() == types.True && total <= most; {
		x := it.Next()
		total += 1 + weight(x, most-total, depth-1)
		if values != nil {
			if value, found := values.Find(x); found {
				total += weight(value, most-total, depth-1)
			}
		}
	}
	return total
}

// limitOptions declares the functions that have a limit. base has CEL's, which they call.
func limitOptions(base *cel.Env) ([]cel.EnvOption, error) {
	var opts []cel.EnvOption
	for _, name := range limitedFunctions() {
		f, err := binding(base, name)
		if err != nil {
			return nil, err
		}
		var overloads []cel.FunctionOpt
		for n := 1; n <= 3; n++ {
			overloads = append(overloads, cel.Overload(fmt.Sprintf("limit_%s_%d", name, n), dyns(n), cel.DynType, cel.FunctionBinding(limited(name, f))))
		}
		opts = append(opts, cel.Function(limitPrefix+name, overloads...))
	}
	return opts, nil
}
