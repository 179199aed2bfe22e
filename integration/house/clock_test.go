package house

import (
	"go/ast"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"
)

// hang is the shortest time after which a test may give up. A machine that is busy with
// something else takes seconds for what an idle one does at once.
const hang = 20 * time.Second

// A limit on the time of the wall that decides a test makes a slow machine red. Only the end
// of a hang is limited, and late. Inside synctest time is not that of the wall.
func TestNoShortLimits(t *testing.T) {
	byPackage := map[string][]source{}
	for _, s := range parsedWhere(t, func(name string) bool {
		return strings.HasSuffix(name, "_test.go") || path.Dir(name) == "sinks/sinktest"
	}) {
		byPackage[s.pkg()] = append(byPackage[s.pkg()], s)
	}
	for _, pkg := range byPackage {
		l := newLimits(pkg)
		for _, s := range pkg {
			for _, n := range l.short(s.file) {
				if excuse(s, n) == "" {
					t.Errorf("%s:%d: a limit below %s; wait for an event, use testing/synctest, or say at the end of the line why it is harmless: // short: REASON", s.name, s.line(n), hang)
				}
			}
		}
	}
}

// excuse is the reason given at the end of a node's first line, in a comment that begins
// with "short: ".
func excuse(s source, n ast.Node) string {
	for _, g := range s.file.Comments {
		for _, c := range g.List {
			if text, found := strings.CutPrefix(c.Text, "// short: "); found && s.line(c) == s.line(n) {
				return text
			}
		}
	}
	return ""
}

// limits knows the constants of a package's tests, which parameters of its helpers are limits
// (those named within), and which helpers run a test by synctest.
type limits struct {
	constants map[string]time.Duration
	within    map[string]int
	bubbles   map[string]bool
}

func newLimits(pkg []source) *limits {
	l := &limits{constants: map[string]time.Duration{}, within: map[string]int{}, bubbles: map[string]bool{}}
	for _, s := range pkg {
		ast.Inspect(s.file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for i, name := range n.Names {
					if i < len(n.Values) {
						if d, ok := l.duration(n.Values[i]); ok && d >= time.Microsecond {
							l.constants[name.Name] = d
						}
					}
				}
			case *ast.FuncDecl:
				ast.Inspect(n, func(inner ast.Node) bool {
					call, ok := inner.(*ast.CallExpr)
					if ok && name(call.Fun) == "synctest.Test" && !strings.HasPrefix(n.Name.Name, "Test") {
						l.bubbles[n.Name.Name] = true
					}
					return true
				})
				at := 0
				for _, p := range n.Type.Params.List {
					for _, name := range p.Names {
						if name.Name == "within" {
							l.within[n.Name.Name] = at
						}
						at++
					}
				}
			}
			return true
		})
	}
	return l
}

// duration evaluates literals such as 5 * time.Second, and constants made of them.
func (l *limits) duration(e ast.Expr) (time.Duration, bool) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return l.duration(e.X)
	case *ast.BasicLit:
		n, err := strconv.ParseFloat(e.Value, 64)
		return time.Duration(n), err == nil && e.Kind != token.STRING
	case *ast.Ident:
		d, ok := l.constants[e.Name]
		return d, ok
	case *ast.SelectorExpr:
		unit, ok := map[string]time.Duration{
			"time.Nanosecond": 1, "time.Microsecond": time.Microsecond, "time.Millisecond": time.Millisecond,
			"time.Second": time.Second, "time.Minute": time.Minute, "time.Hour": time.Hour,
		}[name(e)]
		return unit, ok
	case *ast.BinaryExpr:
		x, okX := l.duration(e.X)
		y, okY := l.duration(e.Y)
		return x * y, okX && okY && e.Op == token.MUL
	}
	return 0, false
}

// brief reports a time that is known, and shorter than hang.
func (l *limits) brief(e ast.Expr) bool {
	timed := false
	ast.Inspect(e, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			timed = timed || strings.HasPrefix(name(n), "time.")
		case *ast.Ident:
			_, constant := l.constants[n.Name]
			timed = timed || constant
		}
		return true
	})
	d, known := l.duration(e)
	return timed && known && d < hang
}

// deadline reports time.Now().Add(d) with a short d.
func (l *limits) deadline(e ast.Expr) bool {
	call, ok := e.(*ast.CallExpr)
	return ok && strings.HasSuffix(name(call.Fun), "time.Now().Add") && l.brief(call.Args[0])
}

// short finds the limits of a file that are too short.
func (l *limits) short(f *ast.File) (out []ast.Node) {
	found := func(n ast.Node, short bool) {
		if short {
			out = append(out, n)
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.CallExpr:
			called := name(n.Fun)
			arg := func(at int) bool { return at < len(n.Args) && l.brief(n.Args[at]) }
			switch method := called[strings.LastIndex(called, ".")+1:]; {
			case called == "synctest.Test" || l.bubbles[method]:
				return false // the time inside is not that of the wall
			case called == "context.WithTimeout" || called == "context.WithTimeoutCause":
				found(n, arg(1))
			case called == "context.WithDeadline":
				found(n, l.deadline(n.Args[1]))
			case method == "SetDeadline" || method == "SetReadDeadline" || method == "SetWriteDeadline":
				found(n, l.deadline(n.Args[0]))
			case method == "Eventually" || method == "Eventuallyf" || method == "EventuallyWithT":
				found(n, arg(1) || arg(2) && len(n.Args) > 3)
			case method == "Less" || method == "LessOrEqual" || method == "Lessf":
				found(n, arg(1) || arg(2))
			case method == "WithinDuration":
				found(n, arg(3) || arg(2))
			default:
				if at, is := l.within[method]; is {
					found(n, arg(at))
				}
			}
		case *ast.KeyValueExpr:
			if key := name(n.Key); key == "within" {
				found(n, l.brief(n.Value))
			}
		case *ast.AssignStmt:
			for _, value := range n.Rhs {
				call, ok := value.(*ast.CallExpr)
				found(n, ok && (name(call.Fun) == "time.After" || name(call.Fun) == "time.NewTimer") && l.brief(call.Args[0]) || l.deadline(value))
			}
		case *ast.BinaryExpr:
			if n.Op == token.GTR || n.Op == token.GEQ {
				found(n, strings.Contains(name(n.X), "time.Since(") && l.brief(n.Y))
			}
		case *ast.CommClause:
			found(n, l.failsAfter(n))
		}
		return true
	})
	return out
}

// failsAfter reports a case that receives from time.After and then fails the test.
func (l *limits) failsAfter(c *ast.CommClause) bool {
	receive, ok := c.Comm.(*ast.ExprStmt)
	if !ok {
		return false
	}
	from, ok := receive.X.(*ast.UnaryExpr)
	if !ok {
		return false
	}
	call, ok := from.X.(*ast.CallExpr)
	if !ok || name(call.Fun) != "time.After" || !l.brief(call.Args[0]) {
		return false
	}
	fails := false
	for _, s := range c.Body {
		ast.Inspect(s, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				called := name(call.Fun)
				fails = fails || strings.Contains(called, "Fail") || strings.Contains(called, "Fatal") || strings.Contains(called, "Error") || strings.HasPrefix(called, "require.")
			}
			return true
		})
	}
	return fails
}

// name is an expression's text, as far as it is made of names and calls.
func name(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return name(e.X) + "." + e.Sel.Name
	case *ast.CallExpr:
		return name(e.Fun) + "()"
	}
	return ""
}
