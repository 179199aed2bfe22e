package rules

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// Limits on one evaluation of a condition with a loop (exists, all, map, ...)
// over a JSON value: its iterations, counted over all loops, and its cost in
// CEL's units (about one per operation and one per ten bytes searched). Past
// them the condition is undecided. Without a loop the work is bounded by the
// expression's length times the row's, and needs no limit.
const (
	maxIterations = 5_000
	maxCost       = 100_000
)

// changedFunction is what the macro changed(a, b) becomes; no source text can
// name it.
const changedFunction = "@changed"

// nameSeparator joins the macro's column names into one constant, so that an
// evaluation builds no list. PostgreSQL allows no NUL in a name.
const nameSeparator = "\x00"

// condition is a compiled when:. It is safe for concurrent use.
type condition struct {
	program cel.Program
	line    int
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
}

type columnUse struct {
	name  string
	image image
}

type celEnv struct {
	*cel.Env
	functions []string
}

func newCELEnv() (*celEnv, error) {
	row := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(
		cel.Variable("row", row), cel.Variable("old", row), cel.Variable("new", row), cel.Variable("op", cel.StringType),
		// The rows are dyn here: for a map type CEL looks into the map before the
		// call, and would stumble over a column that was not carried.
		cel.Function(changedFunction, cel.Overload("changed_columns",
			[]*cel.Type{cel.DynType, cel.DynType, cel.StringType}, cel.BoolType, cel.FunctionBinding(changed))),
		cel.Macros(cel.GlobalVarArgMacro("changed", expandChanged)),
		cel.CrossTypeNumericComparisons(true),
		cel.DefaultUTCTimeZone(true),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateTimestampLiterals(), cel.ValidateDurationLiterals()),
		cel.ParserRecursionLimit(strictyaml.MaxDepth),
	)
	if err != nil {
		return nil, fmt.Errorf("set up the expression language: %w", err)
	}
	e := &celEnv{Env: env, functions: []string{"changed"}}
	for name := range env.Functions() {
		if strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") == "" {
			e.functions = append(e.functions, name)
		}
	}
	return e, nil
}

// condition compiles a when:, or reports why it cannot and returns nil.
func (l *ruleLoader) condition(text strictyaml.Text) *condition {
	if l.env == nil {
		env, err := newCELEnv()
		if err != nil {
			l.fail(text.Pos(), "%v", err)
			return nil
		}
		l.env = env
	}
	parsed, found := l.env.Parse(text.Value)
	if found.Err() != nil {
		l.findings(text, found)
		return nil
	}
	c := &condition{line: text.Pos().Line}
	loops, dynamic := resolveColumns(parsed.NativeRep(), c)
	if dynamic != 0 {
		at := parsed.NativeRep().SourceInfo().GetStartLocation(dynamic)
		l.fail(text.At(offset(text.Value, at)), "when: matches() wants its pattern as a literal, not from a row")
		return nil
	}
	checked, found := l.env.Check(parsed)
	if found.Err() != nil {
		l.findings(text, found)
		return nil
	}
	if out := checked.OutputType(); !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		l.fail(text.Pos(), "when: the condition gives %s, want true or false", out)
		return nil
	}
	options := []cel.ProgramOption{cel.EvalOptions(cel.OptOptimize)}
	if loops {
		options = append(options, cel.InterruptCheckFrequency(maxIterations), cel.CostLimit(maxCost))
		var stop context.CancelFunc
		c.stopped, stop = context.WithCancel(context.Background())
		stop()
	}
	program, err := l.env.Program(checked, options...)
	if err != nil {
		l.fail(text.Pos(), "when: %v", err)
		return nil
	}
	c.program = program
	return c
}

// findings reports the compiler's findings, each at its character.
func (l *ruleLoader) findings(text strictyaml.Text, found *cel.Issues) {
	for _, e := range found.Errors() {
		msg := strings.ReplaceAll(e.Message, " (in container '')", "")
		msg, _, _ = strings.Cut(msg, " expecting {")
		if msg == "invalid matches argument" {
			msg = "the pattern of matches() is not a regular expression (RE2 syntax)"
		}
		if strings.HasSuffix(msg, "input '<EOF>'") {
			msg = "Syntax error: the condition ends too early"
		}
		if _, rest, ok := strings.Cut(msg, "undeclared reference to '"); ok {
			name, _, _ := strings.Cut(rest, "'")
			msg = fmt.Sprintf("unknown function %q", name)
			if near := strictyaml.Nearest(name, l.env.functions); near != "" {
				msg += fmt.Sprintf("; did you mean %q?", near)
			}
		}
		l.fail(text.At(offset(text.Value, e.Location)), "when: %s", msg)
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

// expandChanged turns changed(a, row.b) into a call that compares both rows.
func expandChanged(f cel.MacroExprFactory, _ celast.Expr, args []celast.Expr) (celast.Expr, *cel.Error) {
	if len(args) == 0 {
		return nil, f.NewError(0, "changed() wants at least one column, like changed(price, stock)")
	}
	names := make([]string, len(args))
	for i, a := range args {
		name, ok := columnOf(a)
		if !ok {
			return nil, f.NewError(a.ID(), "changed() wants column names only, like changed(price, stock)")
		}
		names[i] = name
	}
	return f.NewCall(changedFunction, f.NewIdent("old"), f.NewIdent("new"),
		f.NewLiteral(types.String(strings.Join(names, nameSeparator)))), nil
}

// columnOf reads a, row.a or row["a"].
func columnOf(e celast.Expr) (string, bool) {
	isRow := func(e celast.Expr) bool { return e.Kind() == celast.IdentKind && e.AsIdent() == "row" }
	switch e.Kind() {
	case celast.IdentKind:
		return e.AsIdent(), !isVariable(e.AsIdent())
	case celast.SelectKind:
		s := e.AsSelect()
		return s.FieldName(), isRow(s.Operand()) && !s.IsTestOnly()
	case celast.CallKind:
		if c := e.AsCall(); c.FunctionName() == "_[_]" && len(c.Args()) == 2 && isRow(c.Args()[0]) {
			return constantString(c.Args()[1])
		}
	}
	return "", false
}

func constantString(e celast.Expr) (string, bool) {
	if e.Kind() != celast.LiteralKind {
		return "", false
	}
	s, ok := e.AsLiteral().(types.String)
	return string(s), ok
}

// changed is the macro's run time: old row, new row, names.
func changed(args ...ref.Val) ref.Val {
	if len(args) != 3 {
		return types.WrapErr(errors.New("changed: want three arguments"))
	}
	before, ok1 := args[0].(*rowView)
	after, ok2 := args[1].(*rowView)
	names, ok3 := args[2].(types.String)
	if !ok1 || !ok2 || !ok3 {
		return types.WrapErr(errors.New("changed: want columns of the row"))
	}
	return before.differs(after, string(names))
}
