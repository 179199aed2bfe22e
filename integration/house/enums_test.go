package house

import (
	"go/ast"
	"go/token"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// constants are those of one named type, with their values where these are texts.
type constants map[string]string

// enums finds the named types of which a package declares two constants or more.
func enums(all []source) map[string]constants {
	out := map[string]constants{}
	for _, s := range all {
		for _, d := range s.file.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			typ := ""
			for _, spec := range g.Specs {
				v := spec.(*ast.ValueSpec)
				switch t := v.Type.(type) {
				case *ast.Ident:
					typ = s.pkg() + "." + t.Name
				case nil:
					if len(v.Values) > 0 {
						typ = ""
					}
				default:
					typ = ""
				}
				if typ == "" {
					continue
				}
				if out[typ] == nil {
					out[typ] = constants{}
				}
				for i, name := range v.Names {
					text := ""
					if i < len(v.Values) {
						if lit, ok := v.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
							text, _ = strconv.Unquote(lit.Value)
						}
					}
					out[typ][name.Name] = text
				}
			}
		}
	}
	maps.DeleteFunc(out, func(_ string, c constants) bool { return len(c) < 2 })
	return out
}

// elements are the texts and the names in a list.
func elements(list *ast.CompositeLit) (texts, names []string) {
	for _, e := range list.Elts {
		if pair, ok := e.(*ast.KeyValueExpr); ok {
			e = pair.Key
		}
		switch e := e.(type) {
		case *ast.BasicLit:
			if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
				texts = append(texts, text)
			}
		case *ast.Ident:
			names = append(names, e.Name)
		case *ast.SelectorExpr:
			names = append(names, e.Sel.Name)
		}
	}
	return texts, names
}

// complete are lists from which a constant that is missing would be a fault: what metrics
// show from the start, what messages offer, how a value is written.
var complete = map[string]string{
	"cdc.GapReason":                  "cdc.GapReasons",
	"rules/invalidation.FlushReason": "rules/invalidation.FlushReasons",
	"rules/invalidation.Kind":        "rules/invalidation.table",
	"rules.Verdict":                  "rules.verdictNames",
	"sinks.Class":                    "sinks.classNames",
	"sinks/delivery.State":           "sinks/delivery.states",
}

// A list of all constants of a type is written once, and has all of them.
func TestListsOfConstants(t *testing.T) {
	all := sources(t)
	types := enums(all)
	found := map[string][]string{} // by the name of the list
	for _, s := range all {
		for _, d := range s.file.Decls {
			ast.Inspect(d, func(n ast.Node) bool {
				list, ok := n.(*ast.CompositeLit)
				if !ok {
					return true
				}
				texts, names := elements(list)
				switch d := d.(type) {
				case *ast.FuncDecl:
					found[s.pkg()+"."+d.Name.Name] = append(found[s.pkg()+"."+d.Name.Name], names...)
				case *ast.GenDecl:
					for _, spec := range d.Specs {
						if v, ok := spec.(*ast.ValueSpec); ok {
							found[s.pkg()+"."+v.Names[0].Name] = append(found[s.pkg()+"."+v.Names[0].Name], names...)
						}
					}
				}
				for typ, c := range types {
					if strings.HasPrefix(typ, "integration/") {
						continue // a stand-in has its own words, so that it can contradict
					}
					values := slices.Collect(maps.Values(c))
					again := slices.DeleteFunc(slices.Clone(texts), func(text string) bool { return text == "" || !slices.Contains(values, text) })
					if len(again) > 2 {
						t.Errorf("%s:%d: %s are the constants of %s, written twice; use those", s.name, s.line(list), strings.Join(again, ", "), typ)
					}
				}
				return true
			})
		}
	}
	for typ, list := range complete {
		require.Contains(t, types, typ)
		require.Contains(t, found, list)
		for name := range types[typ] {
			if !slices.Contains(found[list], name) && name != "kinds" {
				t.Errorf("%s lacks the %s %s", list, typ, name)
			}
		}
	}
}
