package rules

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestVars(t *testing.T) {
	s := mustParse(t, `
vars: {locales: [en, de], env: "prod", version: 023, limit: 5, rate: 1.5, "price": 1.50}
rules:
  - name: x
    table: public.t
    sinks: [cache]
    when: id > vars.limit && "en" in vars.locales && vars.rate == 1.5 && vars["env"] == "prod" && vars.version == "023" && vars.price == "1.50"
    keys: ["{vars.env}:{id}:{vars.locales}", "{upper(vars.env)}:{vars.version}", "{vars.locales.map(l, upper(l))}:{id}"]
    unknown: {keys: ["all:{vars.locales}"]}
    on_truncate: {keys: ["{vars['env']}:{vars.locales}:{vars.price}"]}
`)
	rel := relation(cdc.IdentityFull, "*id:int")
	require.Equal(t, []string{"0 key prod:7:en", "0 key prod:7:de", "0 key PROD:023", "0 key EN:7", "0 key DE:7"},
		eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7")}).values)
	require.Empty(t, eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("5")}).values)
	require.Equal(t, []string{"0 key PROD:023", "0 key all:en", "0 key all:de"},
		eval(t, s, cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityFull, "*other"), New: row("5")}).values)
	require.Equal(t, []string{"0 key prod:en:1.50", "0 key prod:de:1.50"}, eval(t, s, cdc.Change{Op: cdc.Truncate, Rel: rel}).values)
	patterns, err := s.FlushPatterns(cache)
	require.NoError(t, err)
	require.Equal(t, []string{"*:*", "*:023", "prod:*:de", "prod:*:en"}, patterns, "each choice has its pattern")
}

// vars belong to their file.
func TestVarsAreOfOneFile(t *testing.T) {
	l := newLoader(testOptions())
	l.file("a.yaml", []byte("vars: {a: b}\nrules: []\n"))
	l.file("b.yaml", []byte("rules: [{name: x, table: public.t, keys: ['{vars.a}']}]\n"))
	_, err := l.finish()
	require.EqualError(t, err, "b.yaml:1:45: rule \"x\": key \"{vars.a}\": `vars` has no \"a\"")
}

// Lists of vars and of rows share one bound on their product.
func TestVarsShareTheBound(t *testing.T) {
	s := mustParse(t, `{vars: {a: [1, 2, 3]}, rules: [{name: x, table: public.t, sinks: [keysonly], keys: ["{list + []}:{vars.a}"], unknown: {keys: [fallback]}}]}`)
	rel := relation(cdc.IdentityFull, "*list:json")
	list := func(n int) cdc.Change {
		return cdc.Change{Op: cdc.Insert, Rel: rel, New: row("[0" + strings.Repeat(",1", n-1) + "]")}
	}
	require.NotContains(t, eval(t, s, list(MaxValues/3)).values, "2 key fallback")
	require.Equal(t, keys("fallback"), eval(t, s, list(MaxValues/3+1)).values)
}
