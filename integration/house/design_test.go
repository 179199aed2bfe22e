package house

import (
	"go/ast"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The functions that DESIGN.md names exist.
func TestDesignNamesFunctions(t *testing.T) {
	declared := map[string]bool{}
	for _, s := range sources(t) {
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			name := f.Name.Name
			if f.Recv != nil {
				typ := f.Recv.List[0].Type
				if pointer, ok := typ.(*ast.StarExpr); ok {
					typ = pointer.X
				}
				if named, ok := typ.(*ast.Ident); ok {
					name = named.Name + "." + name
				}
			}
			declared[s.pkg()+"."+name] = true
		}
	}
	steps := rows(read(t, "DESIGN.md"), "Package", "Function")
	require.Greater(t, len(steps), 10)
	for _, cells := range steps {
		if name := strings.Trim(cells[0], "`") + "." + strings.Trim(cells[1], "`"); !declared[name] {
			t.Errorf("DESIGN.md names %s, which is no function", name)
		}
	}
}
