package house

import (
	"cmp"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// printedSQL are beginnings of statements that are also shown to people, who know them in this form. Sessions that run
// them have search_path = pg_catalog, and what `setup --print` shows sets it where the database does not.
var printedSQL = []string{
	"BEGIN; %s; SELECT pg_logical_emit_message(true, '%s', '%s'); COMMIT",
	"SELECT pg_drop_replication_slot('%s')",
	"SELECT pg_create_logical_replication_slot('%s', 'pgoutput'",
	"DO $$ BEGIN EXECUTE format('COMMENT ON PUBLICATION ",
	"ALTER SYSTEM SET synchronized_standby_slots = '%s'; SELECT pg_reload_conf();",
	`SELECT pg_logical_emit_message(true, '%s', '{"keys": ["%s"]}');`,
}

// A table, a function or a type that an application gave a name of the catalog's must not take the place
// of the server's own, whatever search_path a session has.
func TestSQLIsQualified(t *testing.T) {
	found := map[string]bool{}
	statements := 0
	for _, s := range productCode(t) {
		if !strings.HasPrefix(s.name, "cdc/postgres/") && !slices.ContainsFunc(imports(s), func(path string) bool { return strings.HasPrefix(path, "github.com/jackc/pgx/v5") }) {
			continue
		}
		var check func(ast.Node) bool
		check = func(n ast.Node) bool {
			text := textOf(n)
			if text == "" {
				return true
			}
			if isSQL(text) {
				statements++
			}
			printed := slices.IndexFunc(printedSQL, func(begin string) bool { return strings.HasPrefix(text, begin) })
			if printed >= 0 {
				found[printedSQL[printed]] = true
			}
			if isSQL(text) && printed < 0 {
				for _, name := range unqualified(text) {
					t.Errorf("%s:%d: %s is not qualified; write pg_catalog.%s", s.name, s.line(n), name, name)
				}
			}
			for _, call := range callsIn(n) {
				ast.Inspect(call, check)
			}
			return false
		}
		ast.Inspect(s.file, check)
	}
	require.Greater(t, statements, 50, "the test still finds the statements")
	for _, text := range printedSQL {
		assert.True(t, found[text], "nothing prints %q any more", text)
	}
}

// textOf is the text of a string literal, or of several that are put together, with a word in the place of
// everything else between them. It is empty for everything else.
func textOf(n ast.Node) string {
	switch n := n.(type) {
	case *ast.BasicLit:
		if n.Kind == token.STRING {
			text, _ := strconv.Unquote(n.Value) // the parser has accepted it
			return text
		}
	case *ast.BinaryExpr:
		x, y := textOf(n.X), textOf(n.Y)
		if n.Op == token.ADD && x+y != "" {
			return cmp.Or(x, "x") + cmp.Or(y, "x")
		}
	case *ast.ParenExpr:
		return textOf(n.X)
	}
	return ""
}

// callsIn are the function calls among the texts that are put together.
func callsIn(n ast.Node) []ast.Node {
	switch n := n.(type) {
	case *ast.CallExpr:
		return []ast.Node{n}
	case *ast.BinaryExpr:
		return append(callsIn(n.X), callsIn(n.Y)...)
	case *ast.ParenExpr:
		return callsIn(n.X)
	}
	return nil
}

// productCode are the parsed files without tests, test kits and tools.
func productCode(t *testing.T) []source {
	t.Helper()
	return slices.DeleteFunc(sources(t), func(s source) bool {
		return !slices.ContainsFunc([]string{"cdc/", "router/", "cmd/", "rules/", "sinks/"}, func(dir string) bool { return strings.HasPrefix(s.name, dir) }) ||
			strings.HasSuffix(s.name, "_test.go")
	})
}

var (
	sqlForm   = regexp.MustCompile(`\b(SELECT|FROM|JOIN|WHERE|EXISTS)\b|\bpg_[a-z_]+\(|::[a-z]`)
	proseForm = regexp.MustCompile(`^[ ;(]*([a-z]+ [a-z"%']+|[a-z]+, )|^[A-Z][a-z]`)
	sqlToken  = regexp.MustCompile(`(?s)--[^\n]*|'(?:[^']|'')*'|"[^"]*"|::\s*[a-z_][a-z0-9_.]*|[A-Za-z_][A-Za-z0-9_]*|.`)
	// grammarWords may stand before a parenthesis without being a function, or are functions of the grammar, and
	// grammarTypes are types of the grammar: search_path has no say in them.
	grammarWords = strings.Fields(`in exists values any some array row coalesce nullif cast lateral from and or not as filter over on using where
		select union all rows case when then else greatest least extract by materialized with trim substring overlay position`)
	grammarTypes = strings.Fields("bigint int integer smallint boolean numeric decimal real float varchar char character timestamp time bit")
)

// isSQL tells SQL and pieces of it from what is written for people.
func isSQL(text string) bool { return sqlForm.MatchString(text) && !proseForm.MatchString(text) }

// unqualified are the names of catalogs, functions and types in a piece of SQL that search_path decides about.
func unqualified(sql string) (out []string) {
	before := ""
	all := sqlToken.FindAllStringIndex(sql, -1)
	for i, at := range all {
		word := sql[at[0]:at[1]]
		if strings.TrimSpace(word) == "" {
			continue
		}
		next := ""
		if i+1 < len(all) {
			next = sql[all[i+1][0]:all[i+1][1]]
		}
		switch name := strings.TrimLeft(word, ": \n\t"); {
		case strings.HasPrefix(word, "::"):
			if !strings.Contains(name, ".") && !slices.Contains(grammarTypes, name) {
				out = append(out, name)
			}
		case word == "pg_catalog" || before == "." || !strings.ContainsAny(word[:1], "abcdefghijklmnopqrstuvwxyz_"):
		case strings.HasPrefix(word, "pg_"), next == "(" && !slices.Contains(grammarWords, word):
			out = append(out, word)
		}
		before = word
	}
	return out
}

func TestUnqualified(t *testing.T) {
	for sql, want := range map[string][]string{
		"SELECT oid FROM pg_class": {"pg_class"},
		"SELECT pg_catalog.now(), c.oid::pg_catalog.text, 1::int FROM pg_catalog.pg_class c (oid)": nil,
		"SELECT md5(x), coalesce(count(*), 0) FROM pg_catalog . pg_class x":                        {"md5", "count"},
		"x::regclass::pg_catalog.text, 'pg_class'::text, 'pg_type', \"pg_type\"":                   {"regclass", "text"},
		"WITH x AS (SELECT 1) SELECT FROM x WHERE 1 IN (SELECT 1) -- pg_class":                     nil,
		"FROM ROWS FROM (unnest($1::pg_catalog.oid[])) w (oid, seen) WHERE a = ANY ($1)":           {"unnest"},
		"pg_attribute a ON a.attrelid = c.oid":                                                     {"pg_attribute"},
	} {
		assert.Equal(t, want, unqualified(sql), sql)
	}
	for text, want := range map[string]bool{
		"SELECT 1": true, "pg_attribute a ON x FROM": true, "l.oid::regclass": true,
		"drop it (SELECT pg_drop_replication_slot('": false, "Read FROM there": false, "no SQL": false,
	} {
		assert.Equal(t, want, isSQL(text), text)
	}
}
