package house

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// top is the repository, seen from this package.
const top = "../.."

// files lists the repository's files with one of the endings, relative to its
// top; without an ending, all of them.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	out, err := list(endings...)
	require.NoError(t, err)
	require.NotEmpty(t, out)
	return out
}

// list is files without a test.
func list(endings ...string) (out []string, err error) {
	err = fs.WalkDir(os.DirFS(top), ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (slices.Contains([]string{".git", "bin", "dist"}, name) || d.Name() == "node_modules"):
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		if len(endings) == 0 || slices.ContainsFunc(endings, func(e string) bool { return strings.HasSuffix(name, e) }) {
			out = append(out, name)
		}
		return nil
	})
	return out, err
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(data)
}

// source is one parsed Go file.
type source struct {
	name string
	file *ast.File
	fset *token.FileSet
}

func (s source) pkg() string { return path.Dir(s.name) }

func (s source) line(n ast.Node) int { return s.fset.Position(n.Pos()).Line }

// parsed are the Go files of the repository, tests included, for every platform. Many tests
// read them, and none changes them.
var parsed = sync.OnceValues(func() (out []source, err error) {
	fset := token.NewFileSet()
	names, err := list(".go")
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(top, filepath.FromSlash(name)))
		if err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(fset, name, text, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		out = append(out, source{name: name, file: f, fset: fset})
	}
	return out, nil
})

// sources are the Go files that are not tests.
func sources(t *testing.T) []source {
	t.Helper()
	return parsedWhere(t, func(name string) bool { return !strings.HasSuffix(name, "_test.go") })
}

// parsedWhere are the Go files whose names pass.
func parsedWhere(t *testing.T, in func(name string) bool) (out []source) {
	t.Helper()
	all, err := parsed()
	require.NoError(t, err)
	for _, s := range all {
		if in(s.name) {
			out = append(out, s)
		}
	}
	return out
}

// Every package says once what it owns.
func TestOnePackageComment(t *testing.T) {
	comments := map[string][]string{}
	for _, s := range sources(t) {
		comments[s.pkg()] = append(comments[s.pkg()], nil...)
		if s.file.Doc == nil {
			continue
		}
		comments[s.pkg()] = append(comments[s.pkg()], s.name)
		want := "Package " + s.file.Name.Name + " "
		if s.file.Name.Name == "main" {
			want = "Command " + path.Base(s.pkg()) + " "
		}
		if !strings.HasPrefix(s.file.Doc.Text(), want) {
			t.Errorf("%s: the package comment begins with %q, want %q", s.name, firstWords(s.file.Doc.Text()), want)
		}
	}
	for pkg, in := range comments {
		if len(in) != 1 {
			t.Errorf("package %s has %d package comments (%s); want exactly one", pkg, len(in), strings.Join(in, ", "))
		}
	}
}

func firstWords(s string) string {
	return strings.Join(strings.Fields(s)[:min(4, len(strings.Fields(s)))], " ")
}

// Nothing happens because a package was imported.
func TestNoInit(t *testing.T) {
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
				t.Errorf("%s:%d: an init function; build what it builds in cmd/app", s.name, s.line(f))
			}
		}
	}
}

// A missing server fails a test; nothing is left open in the code.
func TestNothingSkippedOrLeftOpen(t *testing.T) {
	// Written so that this file does not find itself.
	skip := regexp.MustCompile(`\b[tbf]\.` + `Skip(f|Now)?\(`)
	words := []string{".Sk" + "ip", "TO" + "DO", "FIX" + "ME", "XX" + "X"}
	open := regexp.MustCompile(`\b(` + strings.Join(words[1:], "|") + `)\b`)
	for _, name := range files(t, ".go", ".sh", ".yaml", ".yml", ".md", "Makefile", "Dockerfile", "run") {
		text := read(t, name)
		// Most files hold none of the words, and are not searched line by line.
		if !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) }) {
			continue
		}
		for i, line := range strings.Split(text, "\n") {
			if strings.HasSuffix(name, "_test.go") && skip.MatchString(line) {
				t.Errorf("%s:%d: a test that skips; let it fail and say what to install", name, i+1)
			}
			if open.MatchString(line) {
				t.Errorf("%s:%d: %s; finish it or take it out", name, i+1, open.FindString(line))
			}
		}
	}
}

// The repository is the same wherever it is built: it names no module proxy
// and no place on a machine.
func TestNoHostsOrPathsOfAMachine(t *testing.T) {
	where, err := filepath.Abs(top)
	require.NoError(t, err)
	forbidden := []string{where}
	if home, err := os.UserHomeDir(); err == nil && strings.Count(home, "/") > 1 {
		forbidden = append(forbidden, home+"/")
	}
	out, err := exec.CommandContext(t.Context(), "go", "env", "GOPROXY", "GONOSUMDB", "GOSUMDB").Output()
	require.NoError(t, err)
	for _, m := range regexp.MustCompile(`https?://(?:[^@/\s]*@)?([^/,|\s]+)`).FindAllStringSubmatch(string(out), -1) {
		forbidden = append(forbidden, m[1])
	}
	for _, name := range files(t) {
		if name == "go.sum" {
			continue
		}
		text := read(t, name)
		for _, f := range forbidden {
			if strings.Contains(text, f) {
				t.Errorf("%s holds %q, which is of this machine", name, f)
			}
		}
	}
}
