package rules

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	celast "cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/types"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// What stands in for columns and operators while types are checked; no source
// text can spell them.
const (
	typedEqual  = "@equal"
	typedAmong  = "@among"
	typedChoice = "@choice"
)

// typeEnv declares the stand-ins. Equality and ?: take any types there: CEL is
// stricter about both when it checks than when it runs, so what can never be equal
// is found by mayEqual instead.
func (e *celEnv) typeEnv() (*cel.Env, error) {
	if e.typed != nil {
		return e.typed, nil
	}
	anys := []*cel.Type{cel.DynType, cel.DynType}
	opts := []cel.EnvOption{
		cel.Function(typedEqual, cel.Overload("typed_equal", anys, cel.BoolType)),
		cel.Function(typedAmong, cel.Overload("typed_among", anys, cel.BoolType)),
		cel.Function(typedChoice, cel.Overload("typed_choice", []*cel.Type{cel.BoolType, cel.DynType, cel.DynType}, cel.DynType)),
	}
	for name, t := range columnTypes() {
		opts = append(opts, cel.Variable(name, t))
	}
	env, err := e.Extend(opts...)
	if err != nil {
		return nil, fmt.Errorf("set up the types of columns: %w", err)
	}
	e.typed = env
	return env, nil
}

// shapes are the catalogued tables that the rule at hand watches.
func (l *ruleLoader) shapes() []*CatalogTable {
	if l.r.pattern == nil {
		if t := l.opts.Catalog.Table(l.r.Table); t != nil {
			return []*CatalogTable{t}
		}
		return nil
	}
	var out []*CatalogTable
	for _, name := range l.opts.Catalog.Tables() {
		if l.r.pattern.matches(name) {
			out = append(out, l.opts.Catalog.Table(name))
		}
	}
	return out
}

// knows reports a column that a table of the rule does not have.
func (l *ruleLoader) knows(column string, at strictyaml.Pos, label string) bool {
	for _, t := range l.shapes() {
		if _, found := t.Column(column); found {
			continue
		}
		names := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			names[i] = c.Name
		}
		it := strings.Join(names[:min(len(names), 20)], ", ")
		if len(names) > 20 {
			it += ", ..."
		}
		near := ""
		if n := strictyaml.Nearest(column, names); n != "" {
			near = fmt.Sprintf("; did you mean %q?", n)
		}
		l.fail(at, "%stable %s has no column %q; it has %s%s%s", label, t.Table, column, it, near, l.stale())
		return false
	}
	return true
}

// stale reminds that a lock file may be older than its tables.
func (l *ruleLoader) stale() string {
	if l.opts.Catalog.File == "" {
		return ""
	}
	return fmt.Sprintf(" (by %s; if that is out of date, run `walpurge rules lock`)", l.opts.Catalog.File)
}

// typed checks an expression against the types of the columns, table by table. It
// only refuses: what runs is the same with and without a catalog, because a value
// may be something else than its column's type lets expect (a NULL, an infinite
// timestamp).
func (l *ruleLoader) typed(src source) bool {
	for _, t := range l.shapes() {
		if !l.typedFor(src, t) {
			return false
		}
	}
	return true
}

func (l *ruleLoader) typedFor(src source, table *CatalogTable) bool {
	env, err := l.env.typeEnv()
	if err != nil {
		l.fail(src.text.Pos(), "%s%v", src.label, err)
		return false
	}
	// A tree of its own: the other one is to be run.
	parsed, _ := l.env.Parse(src.expr)
	tree := parsed.NativeRep()
	r := l.resolve(tree, &expression{}, src.template)
	c := &typeChecker{ruleLoader: l, src: src, tree: tree, table: table, columns: map[int64]CatalogColumn{}}
	for _, use := range r.uses {
		at := c.place(use.node)
		if use.image == bothImages {
			at = c.named(use.node, use.name)
		}
		if !l.knows(use.name, at, src.label) {
			return false
		}
		if use.image != bothImages {
			c.columns[use.node], _ = table.Column(use.name)
		}
	}
	c.standIn(r.factory)
	checked, found := env.Check(parsed)
	if found.Err() != nil {
		for _, e := range found.Errors() {
			msg := strings.ReplaceAll(strings.ReplaceAll(e.Message, " (in container '')", ""), typedChoice, "_?_:_")
			c.refuse(e.ExprID, src.place(offset(src.expr, e.Location)), msg)
		}
		return false
	}
	return c.compare(checked)
}

// typeChecker checks one expression against one table.
type typeChecker struct {
	*ruleLoader
	src   source
	tree  *celast.AST
	table *CatalogTable
	// columns are the nodes that are columns, compared those whose operands are.
	columns  map[int64]CatalogColumn
	compared []celast.Expr
	// texts are the calls of functions that take a text form.
	texts []celast.Expr
}

func (c *typeChecker) place(node int64) strictyaml.Pos {
	return c.src.place(offset(c.src.expr, c.tree.SourceInfo().GetStartLocation(node)))
}

// named is where a column stands in the call of changed() at the node.
func (c *typeChecker) named(node int64, column string) strictyaml.Pos {
	from := offset(c.src.expr, c.tree.SourceInfo().GetStartLocation(node))
	if from < 0 {
		return c.place(node)
	}
	// The call's own place is its parenthesis.
	for i := from; i < len(c.src.expr); {
		n := strings.Index(c.src.expr[i:], column)
		if n < 0 {
			break
		}
		i += n
		after := i + len(column)
		if !wordAt(c.src.expr, i-1) && !wordAt(c.src.expr, after) {
			return c.src.place(i)
		}
		i = after
	}
	return c.place(node)
}

func wordAt(text string, i int) bool {
	return i >= 0 && i < len(text) && (text[i] == '_' || text[i] >= '0' && text[i] <= '9' || text[i]|0x20 >= 'a' && text[i]|0x20 <= 'z')
}

// standIn puts the stand-ins in their places.
func (c *typeChecker) standIn(factory celast.ExprFactory) {
	celast.PostOrderVisit(c.tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if column, ok := c.columns[e.ID()]; ok {
			if e.Kind() == celast.SelectKind && e.AsSelect().IsTestOnly() {
				e.SetKindCase(factory.NewLiteral(e.ID(), types.True))
				return
			}
			e.SetKindCase(factory.NewIdent(e.ID(), standInFor(column.DataType())))
			return
		}
		if e.Kind() != celast.CallKind {
			return
		}
		if _, text := textFunctions()[e.AsCall().FunctionName()]; text && len(e.AsCall().Args()) == 1 {
			c.texts = append(c.texts, e)
		}
		function := map[string]string{"_==_": typedEqual, "_!=_": typedEqual, "@in": typedAmong, "_?_:_": typedChoice}[e.AsCall().FunctionName()]
		if function == "" {
			return
		}
		if function != typedChoice {
			was := factory.CopyExpr(e)
			c.compared = append(c.compared, was)
		}
		e.SetKindCase(factory.NewCall(e.ID(), function, e.AsCall().Args()...))
	}))
}

// compare finds the comparisons that cannot be true whatever the row holds, and a
// expression that is no condition.
func (c *typeChecker) compare(checked *cel.Ast) bool {
	ok := true
	of := func(e celast.Expr) *cel.Type { return checked.NativeRep().GetType(e.ID()) }
	for _, e := range c.compared {
		call := e.AsCall()
		left, right := of(call.Args()[0]), of(call.Args()[1])
		fits := mayEqual(left, right)
		if call.FunctionName() == "@in" {
			fits = right.Kind() == types.DynKind || len(right.Parameters()) > 0 && mayEqual(left, right.Parameters()[0])
		}
		if !fits {
			c.refuse(e.ID(), c.place(e.ID()), fmt.Sprintf("found no matching overload for '%s' applied to '(%s, %s)'", call.FunctionName(), left, right))
			ok = false
		}
	}
	for _, e := range c.texts {
		function := e.AsCall().FunctionName()
		if of(e.AsCall().Args()[0]).Kind() == types.ListKind {
			c.refuse(e.ID(), c.place(e.ID()), fmt.Sprintf("%s() takes a text and not a list; write it for each element, like {tags.map(t, %s(t))}", function, function))
			ok = false
		}
	}
	if out := checked.OutputType(); ok && !c.src.template && !out.IsExactType(cel.BoolType) && !out.IsExactType(cel.DynType) {
		c.refuse(c.tree.Expr().ID(), c.src.text.Pos(), fmt.Sprintf("the %s gives %s, want true or false", c.src.noun, out))
		ok = false
	}
	return ok
}

// refuse reports a finding with the types of the columns that it is about.
func (c *typeChecker) refuse(node int64, at strictyaml.Pos, msg string) {
	var about []string
	celast.PreOrderVisit(c.tree.Expr(), celast.NewExprVisitor(func(e celast.Expr) {
		if e.ID() != node {
			return
		}
		celast.PreOrderVisit(e, celast.NewExprVisitor(func(e celast.Expr) {
			if column, ok := c.columns[e.ID()]; ok {
				about = append(about, column.typeText())
			}
		}))
	}))
	slices.Sort(about)
	for _, text := range slices.Compact(about) {
		msg += "; " + text
	}
	switch {
	case strings.Contains(msg, "(double, int)") || strings.Contains(msg, "(int, double)"):
		msg += "; with a double, whole numbers are written 10.0"
	case strings.Contains(msg, "(timestamp, string)") || strings.Contains(msg, "(string, timestamp)"):
		msg += `; a moment is written timestamp("2026-11-20T00:00:00Z")`
	}
	c.fail(at, "%s%s%s", c.src.label, msg, c.stale())
}
