package rules

import (
	"fmt"
	"strings"

	celast "cel.dev/cel-go/common/ast"
)

// resolver makes lone identifiers columns of row, puts the file's vars in their
// place, and notes which columns an expression reads. It works on the parsed
// tree, before types are checked, so that a column called type or string is
// a column and not a name of CEL.
type resolver struct {
	factory   celast.ExprFactory
	nextID    int64
	e         *expression
	vars      vars
	rule      *Rule
	template  bool // what stands between braces
	functions func(name string) bool
	bound     map[string]int // variables of the comprehensions around
	loops     bool
	wrong     []mistake
	uses      []columnNode
}

// columnNode is a node that reads a column.
type columnNode struct {
	node int64
	columnUse
}

// mistake is a finding about one node.
type mistake struct {
	id  int64
	msg string
}

func (l *ruleLoader) resolve(tree *celast.AST, e *expression, template bool) *resolver {
	r := &resolver{factory: celast.NewExprFactory(), e: e, vars: l.vars, rule: l.r, template: template, functions: l.env.HasFunction, bound: map[string]int{}}
	celast.PostOrderVisit(tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) { r.nextID = max(r.nextID, e.ID()) }))
	for id := range tree.SourceInfo().OffsetRanges() {
		r.nextID = max(r.nextID, id)
	}
	r.walk(tree.Expr())
	if e.lookup != "" && (len(e.columns) > 0 || e.wholeRow) {
		r.fail(tree.Expr(), "an expression reads either the row or the lookup %q, because they are known at different times; write two pairs of braces", e.lookup)
	}
	return r
}

func (r *resolver) id() int64 {
	r.nextID++
	return r.nextID
}

func (r *resolver) fail(e celast.Expr, format string, args ...any) {
	r.wrong = append(r.wrong, mistake{id: e.ID(), msg: fmt.Sprintf(format, args...)})
}

func (r *resolver) use(e celast.Expr, name string, from image) {
	if from == eachImage {
		r.e.usesRow = true
	}
	use := columnUse{name: name, image: from}
	r.uses = append(r.uses, columnNode{e.ID(), use})
	for _, seen := range r.e.columns {
		if seen == use {
			return
		}
	}
	r.e.columns = append(r.e.columns, use)
}

// rowOf reports whether e is one of the row variables.
func (r *resolver) rowOf(e celast.Expr) (image, bool) {
	if e.Kind() != celast.IdentKind || r.bound[e.AsIdent()] > 0 {
		return 0, false
	}
	switch e.AsIdent() {
	case "row":
		return eachImage, true
	case "old":
		return oldImage, true
	case "new":
		return newImage, true
	}
	return 0, false
}

func (r *resolver) walk(e celast.Expr) {
	switch e.Kind() {
	case celast.IdentKind:
		r.ident(e)
	case celast.SelectKind:
		s := e.AsSelect()
		if r.isVars(s.Operand()) {
			r.putVar(e, s.FieldName())
			return
		}
		if r.answer(e, s.Operand(), s.FieldName()) {
			return
		}
		if from, ok := r.rowOf(s.Operand()); ok {
			r.use(e, s.FieldName(), from)
			return
		}
		r.walk(s.Operand())
	case celast.CallKind:
		r.call(e, e.AsCall())
	case celast.ListKind:
		for _, x := range e.AsList().Elements() {
			r.walk(x)
		}
	case celast.MapKind:
		for _, x := range e.AsMap().Entries() {
			r.walk(x.AsMapEntry().Key())
			r.walk(x.AsMapEntry().Value())
		}
	case celast.StructKind:
		for _, x := range e.AsStruct().Fields() {
			r.walk(x.AsStructField().Value())
		}
	case celast.ComprehensionKind:
		r.comprehension(e.AsComprehension())
	}
}

func (r *resolver) ident(e celast.Expr) {
	name := e.AsIdent()
	if r.bound[name] > 0 || name == "op" {
		return
	}
	if r.isVars(e) {
		r.fail(e, "vars is written with a name behind it, like vars.locales")
		return
	}
	if from, ok := r.rowOf(e); ok { // a row as a whole
		r.e.wholeRow = true
		r.e.usesRow = r.e.usesRow || from == eachImage
		return
	}
	if r.rule.pattern.captures(name) {
		r.rule.uses(name)
		e.SetKindCase(r.factory.NewSelect(e.ID(), r.factory.NewIdent(r.id(), captureVariable), name))
		return
	}
	if r.rule.lookup(name) != nil {
		r.fail(e, "%s is a lookup; name a column of it, like %s.id, or write row.%s for the column", name, name, name)
		return
	}
	r.use(e, name, eachImage)
	e.SetKindCase(r.factory.NewSelect(e.ID(), r.factory.NewIdent(r.id(), "row"), name))
}

func (r *resolver) call(e celast.Expr, c celast.CallExpr) {
	args := c.Args()
	switch c.FunctionName() {
	case changedFunction:
		names, _ := constantString(args[2])
		for name := range strings.SplitSeq(names, nameSeparator) {
			if r.rule.pattern.captures(name) {
				r.fail(e, "changed(): {%s} is a part of the table's name, which does not change", name)
			}
			r.use(e, name, bothImages)
		}
		return
	case "matches":
		if n := len(args); n > 0 && args[n-1].Kind() != celast.LiteralKind {
			// One from a row could be made to take seconds.
			r.fail(args[n-1], "matches() wants its pattern as a literal, not from a row")
		}
	case "format":
		if c.IsMemberFunction() && c.Target().Kind() != celast.LiteralKind {
			r.fail(c.Target(), "format() wants its pattern as a literal, not from a row")
		}
	case "_[_]":
		if name, ok := constantString(args[1]); ok && r.isVars(args[0]) {
			r.putVar(e, name)
			return
		}
		if name, ok := constantString(args[1]); ok && r.answer(e, args[0], name) {
			return
		}
		if from, ok := r.rowOf(args[0]); ok {
			if name, ok := constantString(args[1]); ok {
				r.use(e, name, from)
				return
			}
		}
	}
	if c.IsMemberFunction() && !r.namespace(c) {
		r.walk(c.Target())
	}
	for _, x := range args {
		r.walk(x)
	}
}

// namespace reports whether the call's target is the first half of a function's
// name, as in math.ceil(x), and no column.
func (r *resolver) namespace(c celast.CallExpr) bool {
	target := c.Target()
	return target.Kind() == celast.IdentKind && r.bound[target.AsIdent()] == 0 && r.functions(target.AsIdent()+"."+c.FunctionName())
}

func (r *resolver) isVars(e celast.Expr) bool {
	return e.Kind() == celast.IdentKind && e.AsIdent() == "vars" && r.bound["vars"] == 0
}

// putVar replaces an expression by the value of a variable of the file.
func (r *resolver) putVar(e celast.Expr, name string) {
	v, ok := r.vars.Get(name)
	if !ok {
		r.fail(e, "%s", missingVar(r.vars, name))
		return
	}
	if len(v.values) == 0 {
		return // refused where it is written
	}
	literals := make([]celast.Expr, len(v.values))
	for i := range v.values {
		literals[i] = r.factory.NewLiteral(r.id(), v.value(i))
	}
	if v.list {
		e.SetKindCase(r.factory.NewList(e.ID(), literals, nil))
		return
	}
	e.SetKindCase(literals[0])
}

// answer makes a column of a lookup's answer one of the row that the expression
// will be shown. of is what stands before the column's name.
func (r *resolver) answer(e, of celast.Expr, column string) bool {
	if of.Kind() != celast.IdentKind || r.bound[of.AsIdent()] > 0 || r.rule.lookup(of.AsIdent()) == nil {
		return false
	}
	name := of.AsIdent()
	switch {
	case !r.template:
		r.fail(e, "a condition cannot read the lookup %q, which is asked once the rule has matched; put the condition into its `sql`", name)
	case r.e.lookup != "" && r.e.lookup != name:
		r.fail(e, "it reads the lookups %q and %q; a value can wait for one", r.e.lookup, name)
	}
	r.e.lookup = name
	r.rule.lookup(name).reads(column)
	test := e.Kind() == celast.SelectKind && e.AsSelect().IsTestOnly()
	row := r.factory.NewIdent(r.id(), "row")
	if test {
		e.SetKindCase(r.factory.NewPresenceTest(e.ID(), row, column))
	} else {
		e.SetKindCase(r.factory.NewSelect(e.ID(), row, column))
	}
	return true
}

func (r *resolver) comprehension(c celast.ComprehensionExpr) {
	r.loops = true
	r.walk(c.IterRange())
	r.walk(c.AccuInit())
	names := []string{c.IterVar(), c.AccuVar()}
	if c.HasIterVar2() {
		names = append(names, c.IterVar2())
	}
	for _, n := range names {
		r.bound[n]++
	}
	r.walk(c.LoopCondition())
	r.walk(c.LoopStep())
	r.walk(c.Result())
	for _, n := range names {
		r.bound[n]--
	}
}
