package rules

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSees(t *testing.T) {
	for name, c := range map[string]struct {
		rule string
		sees map[string]bool
	}{
		"no condition":        {``, map[string]bool{"id": true, "price": true, "other": true}},
		"changed":             {`when: changed(price, row.stock)`, map[string]bool{"id": true, "price": true, "stock": true, "other": false}},
		"and":                 {`when: changed(price) && row.status != "draft"`, map[string]bool{"id": true, "price": true, "status": false, "other": false}},
		"and, in parentheses": {`when: (changed(price) && row.stock > 0) && row.status != "draft"`, map[string]bool{"id": true, "price": true, "other": true}},
		"or":                  {`when: changed(price) || row.status == "new"`, map[string]bool{"price": true, "status": true, "other": true}},
		"not":                 {`when: '!changed(price)'`, map[string]bool{"price": true, "other": true}},
		"another condition":   {`when: row.status == "new"`, map[string]bool{"status": true, "other": true}},
		"no updates":          {`ops: [insert, delete]`, map[string]bool{"id": true, "other": false}},
		"expression":          {"tags: [\"x-{lower(slug)}\"]\n    when: changed(price)", map[string]bool{"slug": true, "id": true, "other": false}},
	} {
		src := "rules:\n  - name: a\n    table: public.t\n    keys: [\"a:{id}\"]\n    " + c.rule + "\n"
		s := parsePatterns(t, src)
		for column, want := range c.sees {
			require.Equal(t, want, s.Sees(Table{Schema: "public", Name: "t"}, column), "%s: %s", name, column)
		}
	}
	s := parsePatterns(t, "rules:\n  - {name: a, table: public.t, keys: [\"a:{id}\"], when: changed(x)}\n  - {name: b, table: \"{any}.t\", keys: [\"b:{id}\"], when: changed(y)}\n")
	require.True(t, s.Sees(Table{Schema: "public", Name: "t"}, "y"), "one rule is enough")
	require.False(t, s.Sees(Table{Schema: "other", Name: "t"}, "x"))
}
