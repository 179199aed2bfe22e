package rules

import (
	"strings"

	celast "cel.dev/cel-go/common/ast"
)

// resolver makes lone identifiers columns of row, and notes which columns an
// expression reads. It works on the parsed tree, before types are checked, so
// that a column called type or string is a column and not a name of CEL.
type resolver struct {
	factory celast.ExprFactory
	nextID  int64
	c       *condition
	bound   map[string]int // variables of the comprehensions around
	loops   bool
	dynamic int64
}

// resolveColumns reports whether the expression loops, and the id of a regular
// expression that is not a literal, or 0: one from a row could be made to take
// seconds.
func resolveColumns(tree *celast.AST, c *condition) (loops bool, dynamic int64) {
	r := &resolver{factory: celast.NewExprFactory(), c: c, bound: map[string]int{}}
	celast.PostOrderVisit(tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) { r.nextID = max(r.nextID, e.ID()) }))
	for id := range tree.SourceInfo().OffsetRanges() {
		r.nextID = max(r.nextID, id)
	}
	r.walk(tree.Expr())
	return r.loops, r.dynamic
}

func (r *resolver) use(name string, from image) {
	if from == eachImage {
		r.c.usesRow = true
	}
	use := columnUse{name: name, image: from}
	for _, seen := range r.c.columns {
		if seen == use {
			return
		}
	}
	r.c.columns = append(r.c.columns, use)
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
		if from, ok := r.rowOf(s.Operand()); ok {
			r.use(s.FieldName(), from)
			return
		}
		r.walk(s.Operand())
	case celast.CallKind:
		r.call(e.AsCall())
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
	if from, ok := r.rowOf(e); ok { // a row as a whole
		r.c.wholeRow = true
		r.c.usesRow = r.c.usesRow || from == eachImage
		return
	}
	r.use(name, eachImage)
	r.nextID++
	e.SetKindCase(r.factory.NewSelect(e.ID(), r.factory.NewIdent(r.nextID, "row"), name))
}

func (r *resolver) call(c celast.CallExpr) {
	args := c.Args()
	switch c.FunctionName() {
	case changedFunction:
		names, _ := constantString(args[2])
		for name := range strings.SplitSeq(names, nameSeparator) {
			r.use(name, bothImages)
		}
		return
	case "matches":
		if n := len(args); n > 0 && args[n-1].Kind() != celast.LiteralKind {
			r.dynamic = args[n-1].ID()
		}
	case "_[_]":
		if from, ok := r.rowOf(args[0]); ok {
			if name, ok := constantString(args[1]); ok {
				r.use(name, from)
				return
			}
		}
	}
	if c.IsMemberFunction() {
		r.walk(c.Target())
	}
	for _, x := range args {
		r.walk(x)
	}
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
