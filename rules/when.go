package rules

import (
	"errors"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// changedFunction is what the macro changed(a, b) becomes; no source text can
// name it.
const changedFunction = "@changed"

// nameSeparator joins the macro's column names into one constant, so that an
// evaluation builds no list. PostgreSQL allows no NUL in a name.
const nameSeparator = "\x00"

// condition is a compiled when:.
type condition struct {
	*expression
	line int
	// terms are what the outermost && joins, for explanations; none without one.
	terms []*expression
}

// condition compiles a when:, or reports why it cannot and returns nil.
func (l *ruleLoader) condition(text strictyaml.Text) *condition {
	src := source{text: text, expr: text.Value, label: "when: ", noun: "condition"}
	e := l.expression(src)
	if e == nil {
		return nil
	}
	c := &condition{expression: e, line: text.Pos().Line}
	if e.conjunction {
		c.terms = l.terms(src)
	}
	return c
}

// terms compiles each of the operands of the outermost && for itself.
func (l *ruleLoader) terms(src source) []*expression {
	before := len(l.errs)
	var out []*expression
	for _, text := range conjuncts(src.expr) {
		src.expr = text
		e := l.expression(src)
		if e == nil {
			l.errs = l.errs[:before] // as a whole it is fine, so the cut was wrong
			return nil
		}
		out = append(out, e)
	}
	return out
}

// conjuncts cuts an expression at each && that is neither in parentheses nor in
// a quoted text.
func conjuncts(expr string) []string {
	var out []string
	depth, from := 0, 0
	for i := 0; i < len(expr); i++ {
		switch c := expr[i]; {
		case c == '\'' || c == '"':
			i = endQuote(expr, i)
		case strings.IndexByte("([{", c) >= 0:
			depth++
		case strings.IndexByte(")]}", c) >= 0:
			depth--
		case depth == 0 && strings.HasPrefix(expr[i:], "&&"):
			out = append(out, strings.TrimSpace(expr[from:i]))
			i++
			from = i + 1
		}
	}
	return append(out, strings.TrimSpace(expr[from:]))
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
			return nil, f.NewError(a.ID(), `changed() wants column names only, like changed(price, "Order ID")`)
		}
		names[i] = name
	}
	return f.NewCall(changedFunction, f.NewIdent("old"), f.NewIdent("new"),
		f.NewLiteral(types.String(strings.Join(names, nameSeparator)))), nil
}

// columnOf reads a, "a", row.a or row["a"]. A lone word is a column whatever it means elsewhere: there
// is nothing else that could have changed.
func columnOf(e celast.Expr) (string, bool) {
	isRow := func(e celast.Expr) bool { return e.Kind() == celast.IdentKind && e.AsIdent() == "row" }
	switch e.Kind() {
	case celast.IdentKind:
		return e.AsIdent(), true
	case celast.LiteralKind:
		name, ok := constantString(e)
		return name, ok && name != ""
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
