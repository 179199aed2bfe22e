package house

import (
	"go/ast"
	"go/build"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// suite is what a target runs, by its build tags. mark is what a document writes behind the
// name of a test that no suite before it compiles.
type suite struct {
	target, mark string
	tags         []string
}

// suites begins with the one that every change goes through.
var suites = []suite{
	{"test", "", []string{"failpoints"}},
	{"test-full", " (full)", []string{"failpoints", "full"}},
	{"test-page", " (full)", []string{"failpoints", "browser"}},
	{"soak-hours", " (soak)", []string{"soak"}},
}

// chart is a module of its own, with the tests of the Helm chart.
var chart = suite{target: "test-helm", mark: " (full)"}

var testForm = regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)[A-Z]\w*)\(`)

// compiled returns the suites that compile each test, by its name.
func compiled(t *testing.T) map[string][]suite {
	t.Helper()
	out, err := compile()
	require.NoError(t, err)
	return out
}

var compile = sync.OnceValues(func() (map[string][]suite, error) {
	names, err := list("_test.go")
	if err != nil {
		return nil, err
	}
	out := map[string][]suite{}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(top, name))
		if err != nil {
			return nil, err
		}
		tests := testForm.FindAllSubmatch(text, -1)
		if len(tests) == 0 {
			continue
		}
		var in []suite
		for _, s := range suites {
			ctx := build.Default
			ctx.BuildTags = s.tags
			match, err := ctx.MatchFile(filepath.Join(top, filepath.Dir(name)), filepath.Base(name))
			if err != nil {
				return nil, err
			}
			if match {
				in = append(in, s)
			}
		}
		if strings.HasPrefix(name, "deploy/helm/test/") {
			in = []suite{chart}
		}
		for _, m := range tests {
			out[string(m[1])] = append(out[string(m[1])], in...)
		}
	}
	return out, nil
})

// A test that a document names is compiled by a suite, and marked if that is not make test.
func TestNamedTestsRun(t *testing.T) {
	in := compiled(t)
	named := regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w*)`( \\((?:full|soak)\\))?")
	for _, name := range files(t, ".md") {
		_, prose := blocks(read(t, name))
		for _, m := range named.FindAllStringSubmatch(strings.Join(strings.Fields(prose), " "), -1) {
			switch by := in[m[1]]; {
			case len(by) == 0:
				t.Errorf("%s names the test %s, which no suite compiles", name, m[1])
			case by[0].mark != m[2]:
				t.Errorf("%s names the test %s with the mark %q, want %q: it is run by make %s", name, m[1], m[2], by[0].mark, by[0].target)
			}
		}
	}
}

// The Makefile and the linter compile what the suites compile.
func TestSuitesAreVettedAndLinted(t *testing.T) {
	makefile := read(t, "Makefile")
	runners := makefile + read(t, "deploy/dev/test-parts.sh")
	vetted := regexp.MustCompile(`\nVET_FLAGS \?=.* -tags (\S+)`).FindStringSubmatch(makefile)
	linted := regexp.MustCompile(`\n  build-tags: \[(.*)\]`).FindStringSubmatch(read(t, ".golangci.yml"))
	require.NotNil(t, vetted)
	require.NotNil(t, linted)
	for _, s := range suites {
		require.Contains(t, runners, "-tags "+strings.Join(s.tags, ","), "make %s", s.target)
		require.Subset(t, strings.Split(vetted[1], ","), s.tags)
		require.Subset(t, strings.Split(linted[1], ", "), s.tags)
	}
	for name, by := range compiled(t) {
		require.NotEmpty(t, by, "no suite compiles %s", name)
	}
}

// A test that returns before it has called anything but its log passes without testing.
// What the short suite has no time for belongs into a file with the build tag full.
func TestNoTestReturnsEarly(t *testing.T) {
	for _, s := range parsedWhere(t, func(name string) bool { return strings.HasSuffix(name, "_test.go") }) {
		for _, d := range s.file.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok || fn.Recv != nil || !strings.HasPrefix(fn.Name.Name, "Test") || fn.Name.Name == "TestMain" {
				continue
			}
			for _, pos := range earlyReturns(fn.Body) {
				t.Errorf("%s: a return in %s before anything was tested; give the file the build tag full, or let the test fail", s.fset.Position(pos), fn.Name.Name)
			}
		}
	}
}

// earlyReturns finds the returns of a test, and of the functions in it that take a
// testing.T, whose block calls nothing before them but the log.
func earlyReturns(body *ast.BlockStmt) (out []token.Pos) {
	ast.Inspect(body, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncLit:
			return n.Type.Results == nil && len(n.Type.Params.List) == 1 && isTestingT(n.Type.Params.List[0].Type)
		case *ast.BlockStmt:
			for _, s := range n.List {
				if _, returns := s.(*ast.ReturnStmt); returns {
					out = append(out, s.Pos())
				}
				if tests(s) {
					break
				}
			}
		}
		return true
	})
	return out
}

// tests reports whether a statement is a call, and not one of the test's log.
func tests(s ast.Stmt) bool {
	e, ok := s.(*ast.ExprStmt)
	if !ok {
		return false
	}
	call, ok := e.X.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return !ok || !slices.Contains([]string{"Log", "Logf", "Parallel", "Helper"}, sel.Sel.Name)
}

func isTestingT(e ast.Expr) bool {
	star, ok := e.(*ast.StarExpr)
	if !ok {
		return false
	}
	sel, ok := star.X.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "testing" && sel.Sel.Name == "T"
}
