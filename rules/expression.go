package rules

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/ext"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Limits on one evaluation of an expression with a loop (exists, all, map, ...)
// over a JSON value: its iterations, counted over all loops, and its cost in
// CEL's units (about one per operation and one per ten bytes searched). Past
// them the expression is undecided. Without a loop the work is bounded by the
// expression's length and by the limits of each call (limits.go).
const (
	maxIterations = 5_000
	maxCost       = 100_000
)

// expression is a compiled condition, or what stands between the braces of
// a template. It is safe for concurrent use.
type expression struct {
	program cel.Program
	source  string
	// usesRow tells whether the row tried matters: if not, one try is enough.
	usesRow bool
	// wholeRow is set where the expression uses a row other than by column
	// name, so that every column must be at hand.
	wholeRow bool
	// stopped is set where the expression has a loop: a context that has
	// already ended. CEL looks at it once per maxIterations, so it bounds the
	// iterations without a clock.
	stopped context.Context
	columns []columnUse
	// compared are the columns on a side of a comparison.
	compared []comparedColumn
	// urlForm is the function whose result the expression is, where that needs no further escaping
	// in a URL; innerForm one of which another call is inside.
	urlForm, innerForm string
	// lookup names the lookup whose answer is the row here; then no other row is
	// read.
	lookup string
	// conjunction is set where the outermost operator is &&, changed where it is changed().
	conjunction, changed bool
}

type columnUse struct {
	name  string
	image image
}

// source is an expression where it stands in a file.
type source struct {
	text strictyaml.Text
	at   int // byte offset of expr in text
	expr string
	// label begins every message about it, noun says what it is.
	label, noun string
	// template asks for the meaning between braces: NULLs pass through, and the
	// result is a text.
	template bool
}

type celEnv struct {
	*cel.Env
	functions []string
	// typed is made when a catalog asks for it.
	typed *cel.Env
}

func newCELEnv() (*celEnv, error) {
	row := cel.MapType(cel.StringType, cel.DynType)
	base, err := cel.NewEnv(
		cel.Variable("row", row), cel.Variable("old", row), cel.Variable("new", row), cel.Variable("op", cel.StringType),
		cel.Variable(captureVariable, cel.MapType(cel.StringType, cel.StringType)),
		// The rows are dyn here: for a map type CEL looks into the map before the
		// call, and would stumble over a column that was not carried.
		cel.Function(changedFunction, cel.Overload("changed_columns",
			[]*cel.Type{cel.DynType, cel.DynType, cel.StringType}, cel.BoolType, cel.FunctionBinding(changed))),
		cel.Macros(cel.GlobalVarArgMacro("changed", expandChanged)),
		ext.Strings(ext.StringsVersion(5)), ext.Math(),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
		cel.ParserRecursionLimit(strictyaml.MaxDepth),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the expression language: %w", err)
	}
	own, err := functionOptions(base)
	if err != nil {
		return nil, fmt.Errorf("set up the expression language: %w", err)
	}
	env, err := base.Extend(own...)
	if err != nil {
		return nil, fmt.Errorf("set up the expression language: %w", err)
	}
	e := &celEnv{Env: env, functions: []string{"changed"}}
	for name := range env.Functions() {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == "" {
			e.functions = append(e.functions, name)
		}
	}
	slices.Sort(e.functions)
	return e, nil
}

// expression compiles a source, or reports why it cannot and returns nil.
func (l *ruleLoader) expression(src source) *expression {
	if l.env == nil {
		env, err := newCELEnv()
		if err != nil {
			l.fail(src.text.Pos(), "%s%v", src.label, err)
			return nil
		}
		l.env = env
	}
	before := len(l.errs)
	parsed, found := l.env.Parse(src.expr)
	if found.Err() != nil {
		l.findings(src, found)
		return nil
	}
	tree := parsed.NativeRep()
	e := &expression{source: src.expr}
	r := l.resolve(tree, e, src.template)
	at := func(id int64) strictyaml.Pos {
		return src.place(offset(src.expr, tree.SourceInfo().GetStartLocation(id)))
	}
	for _, w := range r.wrong {
		l.fail(at(w.id), "%s%s", src.label, w.msg)
	}
	if len(l.errs) > before {
		return nil
	}
	checked, found := l.env.Check(parsed)
	if found.Err() != nil {
		l.findings(src, found)
		return nil
	}
	if out := checked.OutputType(); !src.template && !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		l.fail(src.text.Pos(), "%sthe %s gives %s, want true or false", src.label, src.noun, out)
		return nil
	}
	// Nothing is known of a lookup's answer before it is asked.
	if e.lookup == "" && !l.typed(src) {
		return nil
	}
	root := tree.Expr()
	if root.Kind() == celast.CallKind {
		e.conjunction, e.changed = root.AsCall().FunctionName() == "_&&_", root.AsCall().FunctionName() == changedFunction
	}
	r.rewrite(tree, src.template)
	checked, found = l.env.Check(parsed)
	if found.Err() != nil {
		l.findings(src, found)
		return nil
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize), cel.OptimizeRegex(constantPattern)}
	if r.loops {
		options = append(options, cel.InterruptCheckFrequency(maxIterations), cel.CostLimit(maxCost), cel.CostTracking(costs{}))
		var stop context.CancelFunc
		e.stopped, stop = context.WithCancel(context.Background())
		stop()
	}
	program, err := l.env.Program(checked, options...)
	if err != nil {
		l.fail(src.text.Pos(), "%s%v", src.label, err)
		return nil
	}
	e.program = program
	return e
}

// place is where a byte offset of the expression stands in the file.
func (s *source) place(offset int) strictyaml.Pos {
	if offset < 0 {
		return s.text.At(-1)
	}
	return s.text.At(s.at + offset)
}

// findings reports the compiler's findings, each at its character.
func (l *ruleLoader) findings(src source, found *cel.Issues) {
	for _, e := range found.Errors() {
		msg := strings.ReplaceAll(e.Message, " (in container '')", "")
		msg, _, _ = strings.Cut(msg, " expecting {")
		if msg == "invalid matches argument" {
			msg = "the pattern of matches() is not a regular expression (RE2 syntax)"
		}
		if strings.Contains(msg, "token recognition error at: '=") {
			msg = "Syntax error: a single = means nothing here; == compares"
		}
		if strings.HasSuffix(msg, "input '<EOF>'") {
			msg = "Syntax error: the " + src.noun + " ends too early"
		}
		if _, rest, ok := strings.Cut(msg, "undeclared reference to '"); ok {
			name, _, _ := strings.Cut(rest, "'")
			msg = fmt.Sprintf("unknown function %q", name)
			if near := strictyaml.Nearest(name, l.env.functions); near != "" {
				msg += fmt.Sprintf("; did you mean %q?", near)
			}
		}
		l.fail(src.place(offset(src.expr, e.Location)), "%s%s", src.label, msg)
	}
}

// offset turns CEL's place (line from 1, character from 0) into a byte offset;
// -1 for one in a later line.
func offset(text string, at common.Location) int {
	if at == nil || at.Line() != 1 || at.Column() < 0 {
		return -1
	}
	seen := 0
	for i := range text {
		if seen == at.Column() {
			return i
		}
		seen++
	}
	return len(text)
}
