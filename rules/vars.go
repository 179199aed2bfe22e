package rules

import (
	"fmt"
	"regexp"
	"strconv"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/walpurge/walpurge/rules/strictyaml"
)

// vars are the constants of one file.
type vars = strictyaml.Map[variable]

// variable is a scalar (one value) or a list.
type variable struct {
	list   bool
	values []string
	// numbers tells which values were written as numbers, for conditions.
	numbers []bool
}

// UnmarshalYAML reads a scalar or a list of scalars.
func (v *variable) UnmarshalYAML(n *strictyaml.Node) error {
	nodes := []*strictyaml.Node{n}
	if n.Kind == strictyaml.Sequence {
		if v.list, nodes = true, n.Items; len(nodes) == 0 {
			return n.Errorf("the list is empty, so nothing would come of a template with it")
		}
	}
	seen := map[string]bool{}
	for _, item := range nodes {
		if item.Kind != strictyaml.Scalar {
			return item.Errorf("%s is not a text or a number; vars are those, or lists of them", item)
		}
		var text strictyaml.Text
		if err := item.Decode(&text); err != nil {
			return err
		}
		if seen[text.Value] {
			return item.Errorf("%s is in the list twice", item)
		}
		seen[text.Value] = true
		v.values, v.numbers = append(v.values, text.Value), append(v.numbers, !item.Quoted)
	}
	return nil
}

// value is the i-th value for expressions: a number where one was written so
// that it prints as it was written, else a text.
func (v *variable) value(i int) ref.Val {
	text := v.values[i]
	if v.numbers[i] {
		if n, err := strconv.ParseInt(text, 10, 64); err == nil && strconv.FormatInt(n, 10) == text {
			return types.Int(n)
		}
		if f, err := strconv.ParseFloat(text, 64); err == nil && doubleText(f) == text {
			return types.Double(f)
		}
	}
	return types.String(text)
}

// fileVars checks the names of a file's vars.
func (l *loader) fileVars(file string, v vars) vars {
	for _, e := range v {
		if !regexp.MustCompile(`^` + identifier + `$`).MatchString(e.Key) {
			l.errs.Addf(file, e.Pos, "`vars`: %q is no name; want letters, digits and _, like locales", e.Key)
		}
	}
	return v
}

// missingVar says that the file has no such variable.
func missingVar(v vars, name string) string {
	names := make([]string, len(v))
	for i := range v {
		names[i] = v[i].Key
	}
	return fmt.Sprintf("`vars` has no %q%s", name, strictyaml.DidYouMean(name, names))
}

// lone matches an expression that is a variable and nothing else.
func loneVar(expr string) (name string, ok bool) {
	m := regexp.MustCompile(`^vars(?:\.(` + identifier + `)|\[(` + quoted + `)\])$`).FindStringSubmatch(expr)
	if m == nil {
		return "", false
	}
	if m[2] != "" {
		return m[2][1 : len(m[2])-1], true
	}
	return m[1], true
}
