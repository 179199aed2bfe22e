package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestCutSQL(t *testing.T) {
	for sql, want := range map[string]string{
		"SELECT $1":                                  "SELECT <1>",
		"SELECT $1;":                                 "SELECT <1>",
		"SELECT $12 + $2 ;\n -- end":                 "SELECT <12> + <2> ",
		"SELECT '$1', \"$2\", $3":                    "SELECT '$1', \"$2\", <3>",
		"SELECT 'it''s $1' || $2":                    "SELECT 'it''s $1' || <2>",
		`SELECT E'it\'s $1' || e'\\' || $2`:          `SELECT E'it\'s $1' || e'\\' || <2>`,
		`SELECT 'a\' || $1`:                          `SELECT 'a\' || <1>`,
		"SELECT $$ $1 $$, $a$ $$ $1 $a$, $2":         "SELECT $$ $1 $$, $a$ $$ $1 $a$, <2>",
		"SELECT a$1, a1$2, $1":                       "SELECT a$1, a1$2, <1>",
		"SELECT /* $1 /* $2 */ $3 */ $4 -- $5\n, $6": "SELECT /* $1 /* $2 */ $3 */ <4> -- $5\n, <6>",
		"SELECT a-$1-$2":                             "SELECT a-<1>-<2>",
		"SELECT ';', \";\" -- ;":                     "SELECT ';', \";\" -- ;",
		"SELECT é$1, ü || $2":                        "SELECT é$1, ü || <2>",
	} {
		texts, params, err := cutSQL(sql)
		require.NoError(t, err, sql)
		l := Lookup{texts: texts, params: params}
		require.Equal(t, want, l.With(func(n int) string { return fmt.Sprintf("<%d>", n) }), sql)
	}
	for sql, want := range map[string]string{
		"SELECT '$1": "does not end", `SELECT "a`: "does not end", "SELECT $$ $1": "does not end", "SELECT /* /* */": "does not end", `SELECT E'\'`: "does not end",
		"SELECT 1; SELECT 2": "several statements", "SELECT 1;;": "several statements", "; SELECT 1": "several statements", "SELECT $0": "count from $1",
	} {
		_, _, err := cutSQL(sql)
		require.ErrorContains(t, err, want, sql)
	}
}

// Whatever a statement is made of, it comes back whole, and only its own
// parameters are taken for such.
func TestPropertyCutSQL(t *testing.T) {
	piece := rapid.SampledFrom([]string{"SELECT ", "a", "$", "$1", "$2", "'", "''", "E'", `\`, `"`, "--", "\n", "/*", "*/", "$$", "$t$", ";", " ", "é", "_1", ","})
	rapid.Check(t, func(t *rapid.T) {
		sql := strings.Join(rapid.SliceOfN(piece, 0, 20).Draw(t, "sql"), "")
		texts, params, err := cutSQL(sql)
		if err != nil {
			return
		}
		require.Len(t, texts, len(params)+1)
		l := Lookup{texts: texts, params: params}
		whole := l.With(func(n int) string { return fmt.Sprintf("$%d", n) })
		require.True(t, strings.HasPrefix(sql, whole), "%q of %q", whole, sql)
		// In a comment, a string or a name nothing is a parameter.
		for _, frame := range []string{"/* %s */", "-- %s\n"} {
			if strings.Contains(sql, "*/") || strings.Contains(sql, "/*") || strings.Contains(sql, "\n") {
				continue
			}
			_, params, err := cutSQL(fmt.Sprintf(frame, sql))
			require.NoError(t, err)
			require.Empty(t, params)
		}
		_, params, err = cutSQL("'" + strings.ReplaceAll(sql, "'", "''") + "'")
		require.NoError(t, err)
		require.Empty(t, params)
	})
}
