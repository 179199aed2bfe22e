package rules

import (
	"maps"
	"slices"
	"strings"

	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"
)

// rewrite gives an expression whose types are checked the meaning that it has
// beyond CEL's: a column whose text is asked for gives the text that a template
// would copy, columns are compared as SQL compares their types, what could make far more of a row than there is has a bound, and in
// a template NULLs pass through functions and JSON paths.
func (r *resolver) rewrite(tree *celast.AST, template bool) {
	w := &rewriter{resolver: r, template: template, strict: map[string]bool{}, texts: textFunctions(), accumulators: map[string]bool{}, elements: map[string]celast.Expr{}}
	for _, name := range strictFunctions() {
		w.strict[name] = template || amplifies(name)
	}
	if template {
		celast.PostOrderVisit(tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
			switch {
			case e.Kind() != celast.CallKind || !slices.Contains(urlForms(), e.AsCall().FunctionName()):
			case e.ID() == tree.Expr().ID():
				r.e.urlForm = e.AsCall().FunctionName()
			default:
				r.e.innerForm = e.AsCall().FunctionName()
			}
		}))
		w.asText(tree.Expr())
	}
	w.walk(tree.Expr())
}

type rewriter struct {
	*resolver
	template     bool
	strict       map[string]bool
	texts        map[string]func(string) (string, error)
	accumulators map[string]bool
	// elements are the variables of loops over a column, each with the column.
	elements map[string]celast.Expr
}

func (w *rewriter) isCall(e celast.Expr, function string) bool {
	return e.Kind() == celast.CallKind && e.AsCall().FunctionName() == function
}

// asText makes the columns whose values e may produce give their text form.
func (w *rewriter) asText(e celast.Expr) {
	switch e.Kind() {
	case celast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() && w.isRow(s.Operand()) {
			w.columnText(e, s.Operand(), s.FieldName())
		}
	case celast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.asText(x)
		}
	case celast.CallKind:
		args := e.AsCall().Args()
		switch e.AsCall().FunctionName() {
		case "_?_:_":
			w.asText(args[1])
			w.asText(args[2])
		case "_[_]":
			if name, ok := constantString(args[1]); ok && w.isRow(args[0]) {
				w.columnText(e, args[0], name)
			}
		}
	}
}

func (w *rewriter) isRow(e celast.Expr) bool {
	_, ok := w.rowOf(e)
	return ok
}

func (w *rewriter) columnText(e, row celast.Expr, column string) {
	e.SetKindCase(w.factory.NewCall(e.ID(), textFunction, row, w.factory.NewLiteral(w.id(), types.String(column))))
}

func (w *rewriter) walk(e celast.Expr) {
	switch e.Kind() {
	case celast.SelectKind:
		s := e.AsSelect()
		if w.isRow(s.Operand()) {
			return
		}
		w.walk(s.Operand())
		if w.template && !s.IsTestOnly() {
			key := w.factory.NewLiteral(w.id(), types.String(s.FieldName()))
			e.SetKindCase(w.factory.NewCall(e.ID(), atFunction, s.Operand(), key))
		}
	case celast.CallKind:
		w.call(e, e.AsCall())
	case celast.ListKind:
		for _, x := range e.AsList().Elements() {
			w.walk(x)
		}
	case celast.MapKind:
		for _, x := range e.AsMap().Entries() {
			w.walk(x.AsMapEntry().Key())
			w.walk(x.AsMapEntry().Value())
		}
	case celast.StructKind:
		for _, x := range e.AsStruct().Fields() {
			w.walk(x.AsStructField().Value())
		}
	case celast.ComprehensionKind:
		w.comprehension(e.AsComprehension())
	}
}

func (w *rewriter) call(e celast.Expr, c celast.CallExpr) {
	name, args := c.FunctionName(), c.Args()
	if c.IsMemberFunction() {
		if w.namespace(c) {
			name = c.Target().AsIdent() + "." + name
		} else {
			args = append([]celast.Expr{c.Target()}, args...)
		}
	}
	if name == "string" && len(args) == 1 {
		if row, column, ok := w.column(args[0]); ok {
			e.SetKindCase(w.factory.NewCall(e.ID(), printFunction, row, column))
			return
		}
	}
	if name == "string" || name == padFunction || w.texts[name] != nil {
		for _, x := range args {
			w.asText(x)
		}
	}
	if name == "format" {
		w.formatted(args)
	}
	for _, x := range args {
		if x.Kind() != celast.IdentKind { // an identifier has nothing to rewrite
			w.walk(x)
		}
	}
	if w.compares(e, name, args) {
		return
	}
	switch {
	case name == "string" && len(args) == 1 && (w.template || w.isCall(args[0], textFunction)):
		e.SetKindCase(w.factory.NewCall(e.ID(), stringFunction, args...))
	case w.template && name == "_[_]" && !w.isRow(args[0]):
		e.SetKindCase(w.factory.NewCall(e.ID(), atFunction, args...))
	case w.strict[name] && !w.accumulates(args[0]):
		e.SetKindCase(w.factory.NewCall(e.ID(), strictPrefix+name, args...))
	case slices.Contains(limitedFunctions(), name):
		e.SetKindCase(w.factory.NewCall(e.ID(), limitPrefix+name, args...))
	}
}

// accumulates reports whether e is the list that a macro like map() builds.
func (w *rewriter) accumulates(e celast.Expr) bool {
	return e.Kind() == celast.IdentKind && w.accumulators[e.AsIdent()]
}

// formatted makes the columns that "%s" prints give their text form.
func (w *rewriter) formatted(args []celast.Expr) {
	if len(args) != 2 || args[1].Kind() != celast.ListKind {
		return
	}
	pattern, _ := constantString(args[0])
	elements := args[1].AsList().Elements()
	for n := 0; ; {
		_, rest, more := strings.Cut(pattern, "%")
		if !more {
			return
		}
		verb := strings.TrimLeft(rest, ".0123456789")
		if verb == "" {
			return
		}
		if verb[0] == 's' && n < len(elements) {
			w.asText(elements[n])
		}
		if verb[0] != '%' {
			n++
		}
		pattern = verb[1:]
	}
}

// comparedBy are the operators that compare, with what they are of @order's result.
var comparedBy = map[string]string{"_==_": "", "_!=_": "", "@in": "", "_<_": "_<_", "_<=_": "_<=_", "_>_": "_>_", "_>=_": "_>=_"}

// compares makes an operator with a column on one side compare as SQL does.
func (w *rewriter) compares(e celast.Expr, name string, args []celast.Expr) bool {
	order, is := comparedBy[name]
	if !is || len(args) != 2 {
		return false
	}
	left, ok1 := w.operand(args[0])
	right, ok2 := w.operand(args[1])
	if name == "@in" && args[1].Kind() == celast.ListKind {
		elements := slices.Clone(args[1].AsList().Elements())
		for i := range elements {
			var typed bool
			elements[i], typed = w.operand(elements[i])
			ok2 = ok2 || typed
		}
		right = w.factory.NewList(w.id(), elements, nil)
	}
	if !ok1 && !ok2 {
		return false
	}
	for _, side := range args {
		if array, ok := w.elements[identOf(side)]; ok {
			side = array
		}
		if side.Kind() == celast.CallKind && len(side.AsCall().Args()) == 2 && !w.isRow(side.AsCall().Args()[0]) {
			side = side.AsCall().Args()[0] // an element by its index
		}
		if _, column, ok := w.column(side); ok {
			name, _ := constantString(column)
			w.e.compared = append(w.e.compared, comparedColumn{name, order != ""})
		}
	}
	call := func(function string) celast.Expr { return w.factory.NewCall(w.id(), function, left, right) }
	switch {
	case name == "_==_":
		e.SetKindCase(call(sameFunction))
	case name == "_!=_":
		e.SetKindCase(w.factory.NewCall(e.ID(), "!_", call(sameFunction)))
	case name == "@in":
		e.SetKindCase(call(amongFunction))
	default:
		e.SetKindCase(w.factory.NewCall(e.ID(), order, call(orderFunction), w.factory.NewLiteral(w.id(), types.Int(0))))
	}
	return true
}

// identOf is the name of an identifier, empty for other expressions.
func identOf(e celast.Expr) string {
	if e.Kind() == celast.IdentKind {
		return e.AsIdent()
	}
	return ""
}

// operand is a side of a comparison: a column, or an element of one, is given its type.
func (w *rewriter) operand(e celast.Expr) (operand celast.Expr, typed bool) {
	if row, column, ok := w.column(e); ok {
		return w.factory.NewCall(w.id(), typedFunction, row, column), true
	}
	if e.Kind() == celast.IdentKind {
		if array, ok := w.elements[e.AsIdent()]; ok {
			row, column, _ := w.column(array)
			return w.factory.NewCall(w.id(), elementFunction, e, row, column), true
		}
	}
	if e.Kind() == celast.CallKind && len(e.AsCall().Args()) == 2 {
		// An element by its index.
		if name := e.AsCall().FunctionName(); name == "_[_]" || name == atFunction {
			if row, column, ok := w.column(e.AsCall().Args()[0]); ok {
				return w.factory.NewCall(w.id(), elementFunction, e, row, column), true
			}
		}
	}
	return e, false
}

// column takes a read of a column apart.
func (w *rewriter) column(e celast.Expr) (row, column celast.Expr, ok bool) {
	switch e.Kind() {
	case celast.SelectKind:
		if s := e.AsSelect(); !s.IsTestOnly() && w.isRow(s.Operand()) {
			return w.factory.CopyExpr(s.Operand()), w.factory.NewLiteral(w.id(), types.String(s.FieldName())), true
		}
	case celast.CallKind:
		if c := e.AsCall(); c.FunctionName() == "_[_]" && len(c.Args()) == 2 && w.isRow(c.Args()[0]) {
			if name, ok := constantString(c.Args()[1]); ok {
				return w.factory.CopyExpr(c.Args()[0]), w.factory.NewLiteral(w.id(), types.String(name)), true
			}
		}
	}
	return nil, nil, false
}

func (w *rewriter) comprehension(c celast.ComprehensionExpr) {
	w.walk(c.IterRange())
	w.walk(c.AccuInit())
	names := []string{c.IterVar(), c.AccuVar()}
	if c.HasIterVar2() {
		names = append(names, c.IterVar2())
	}
	for _, n := range names {
		w.bound[n]++
	}
	was, outer := w.accumulators[c.AccuVar()], maps.Clone(w.elements)
	w.accumulators[c.AccuVar()] = true
	for _, n := range names {
		delete(w.elements, n)
	}
	if _, _, column := w.column(c.IterRange()); column && !c.HasIterVar2() {
		w.elements[c.IterVar()] = c.IterRange()
	}
	w.walk(c.LoopCondition())
	w.walk(c.LoopStep())
	w.walk(c.Result())
	w.accumulators[c.AccuVar()], w.elements = was, outer
	for _, n := range names {
		w.bound[n]--
	}
}
