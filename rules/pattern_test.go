package rules

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

func parsePatterns(t testing.TB, src string) *Set {
	t.Helper()
	s, err := Parse("rules.yaml", []byte(src), allOptions())
	require.NoError(t, err)
	return s
}

// named is a relation of another name.
func named(schema, name string, columns ...string) *cdc.Relation {
	rel := relation(cdc.IdentityFull, columns...)
	rel.Schema, rel.Name = schema, name
	return rel
}

func TestBadPatterns(t *testing.T) {
	want := map[string]string{
		"adjacent":  `3:12: rule "x": table "public.orders_{a}{b}": two captures need text between them, to tell where one ends`,
		"twice":     `3:12: rule "x": table "{a}.orders_{a}": the capture {a} is there twice`,
		"open":      `3:12: rule "x": table "public.orders_{a": a { without its }`,
		"close":     `3:12: rule "x": table "public.orders_a}": a } without its {`,
		"name":      `3:12: rule "x": table "public.orders_{a b}": {a b} is no name for a capture; want letters, digits and _, like {tenant}`,
		"word":      `3:12: rule "x": table "public.orders_{row}": {row} is no name for a capture; want letters, digits and _, like {tenant}`,
		"empty":     `3:12: rule "x": table "public.orders_{}": {} is no name for a capture; want letters, digits and _, like {tenant}`,
		"no_schema": `3:12: rule "x": table "orders_{a}" has no schema; write it with one, like public.orders_{a}`,
		"dots":      `3:12: rule "x": table "a.b.{c}": want schema.name with one dot, like public.products`,
		"changed":   `4:28: rule "x": when: changed(): {tenant} is a part of the table's name, which does not change`,
		"fixed":     "5:26: rule \"x\": `on_truncate`: key \"all:{tenant}\" reads the row, but here only fixed values can be named",
	}
	files, err := filepath.Glob("testdata/bad_patterns/*.yaml")
	require.NoError(t, err)
	require.Len(t, files, len(want))
	for _, file := range files {
		_, err := Load([]string{file}, allOptions())
		require.Error(t, err, file)
		require.Equal(t, want[strings.TrimSuffix(filepath.Base(file), ".yaml")], strings.ReplaceAll(err.Error(), file+":", ""))
	}
}

func TestPatterns(t *testing.T) {
	s := parsePatterns(t, `
rules:
  - name: orders
    table: "tenant_{tenant}.orders"
    sinks: [all]
    when: tenant != "internal" && id > 0
    keys: ["{tenant}:order:{id}", "{upper(tenant)}:{id}", "{tenant}:all", "{row.note}"]
    urls: ["https://h/{tenant}/{id}"]
    key_prefixes: ["o:{tenant}:"]
  - name: parts
    table: "public.orders_{part}"
    sinks: [keysonly]
    keys: ["part:{part}"]
  - name: exact
    table: tenant_a.orders
    sinks: [keysonly]
    keys: ["exact:{id}"]
`)
	require.Equal(t, []Table{{Schema: "tenant_a", Name: "orders"}}, s.Tables())
	require.Equal(t, []string{"public.orders_{part}", "tenant_{tenant}.orders"}, s.Patterns())
	rel := named("tenant_a", "orders", "*id:int", "*note")
	insert := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "n")}
	require.Equal(t, []string{"3 key a:order:7", "3 key A:7", "3 key a:all", "3 key n", "3 url https://h/a/7", "3 key_prefix o:a:", "2 key exact:7"}, eval(t, s, insert).values)
	require.Equal(t, []string{"3 key B_2:7"}, eval(t, s, cdc.Change{Op: cdc.Insert, Rel: named("tenant_B_2", "orders", "*id:int", "*note"), New: row("7", "NULL")}).values[1:2])
	require.Empty(t, eval(t, s, cdc.Change{Op: cdc.Insert, Rel: named("tenant_internal", "orders", "*id:int", "*note"), New: row("7", "n")}).values)
	require.Equal(t, []string{"2 key part:2026_01"}, eval(t, s, cdc.Change{Op: cdc.Insert, Rel: named("public", "orders_2026_01", "*id"), New: row("7")}).values)

	for _, other := range []Table{{Schema: "tenant_", Name: "orders"}, {Schema: "tenant_a", Name: "orders2"}, {Schema: "xtenant_a", Name: "orders"}, {Schema: "tenant_a-b", Name: "orders"}, {Schema: "public", Name: "orders_"}, {Schema: "public", Name: "orders_a.b"}, {Schema: "tenant_a", Name: "Orders"}} {
		require.False(t, s.Matches(other), other)
		require.Nil(t, s.Bind(named(other.Schema, other.Name)), other)
	}
	require.True(t, s.Matches(Table{Schema: "tenant_x", Name: "orders"}))

	needed := map[string]string{}
	for _, n := range s.NeedsOf(Table{Schema: "tenant_b", Name: "orders"}) {
		require.Equal(t, Table{Schema: "tenant_b", Name: "orders"}, n.Table)
		needed[n.Column] += n.Rule
	}
	require.Equal(t, map[string]string{"id": "ordersorders", "note": "orders"}, needed, "a capture is no column")
	require.Len(t, s.Needs(), 1, "of exact tables only")

	patterns, err := s.FlushPatterns(keysonly)
	require.NoError(t, err)
	require.Equal(t, []string{"exact:*", "part:*"}, patterns)
}

// A TRUNCATE of one tenant's table reaches that tenant only.
func TestTruncateOfPattern(t *testing.T) {
	s := parsePatterns(t, `{rules: [{name: x, table: "tenant_{tenant}.orders", sinks: [cache], keys: ["{tenant}:order:{id}", "{tenant}:all"]}]}`)
	out := eval(t, s, cdc.Change{Op: cdc.Truncate, Rel: named("tenant_a", "orders", "*id")})
	require.Equal(t, []string{"0 key_pattern a:order:*", "0 key a:all"}, out.values)
}

func TestPatternProblems(t *testing.T) {
	s := parsePatterns(t, `{rules: [
		{name: lone, table: "tenant_{tenant}.orders", sinks: [keysonly], keys: ["{tenant}:{id}"]},
		{name: condition, table: "tenant_{tenant}.orders", sinks: [keysonly], keys: ["{row.tenant}:{id}"], when: 'tenant == "a"'},
		{name: column, table: "tenant_{tenant}.orders", sinks: [keysonly], keys: ["{row.tenant}:{id}"]}]}`)
	require.Empty(t, s.Bind(named("tenant_a", "orders", "*id")).Problems())
	rel := named("tenant_a", "orders", "*id", "*tenant")
	var got []string
	for _, err := range s.Bind(rel).Problems() {
		got = append(got, err.Error())
	}
	require.Equal(t, []string{
		`rules.yaml:2:1: rule "lone": {tenant} is a part of the table's name and a column of tenant_a.orders; rename the capture, or write {row.tenant} for the column`,
		`rules.yaml:3:1: rule "condition": {tenant} is a part of the table's name and a column of tenant_a.orders; rename the capture, or write {row.tenant} for the column`,
	}, got)
	require.Equal(t, keys("a:7", "other:7", "other:7"), eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "other")}).values)
}

func TestExplainOfPattern(t *testing.T) {
	s := parsePatterns(t, `{rules: [{name: x, table: "t_{tenant}.o", sinks: [keysonly], keys: ["{tenant}:{id}"], when: 'tenant == "a" && id > 5'}]}`)
	e := s.Explain(&cdc.Change{Op: cdc.Insert, Rel: named("t_a", "o", "*id:int"), New: row("7")}, nil)
	require.Equal(t, []Purge{{Sink: "keysonly", Kind: Key, Value: "a:7"}}, e[0].Purges)
	e = s.Explain(&cdc.Change{Op: cdc.Insert, Rel: named("t_b", "o", "*id:int"), New: row("7")}, nil)
	require.Equal(t, "false", e[0].Tried[0].Terms[0].Result)
}

// A pattern matches what is its text with names in place of the captures.
func TestPropertyPattern(t *testing.T) {
	s := parsePatterns(t, `{rules: [{name: x, table: "t+{s}.{n}_z", sinks: [keysonly], keys: ["{s}/{n}"]}]}`)
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringMatching(`[A-Za-z0-9_.+é\n-]{0,6}`)
		a, b := text.Draw(r, "schema"), text.Draw(r, "name")
		word := func(s string) bool {
			return s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
		}
		rel := named("t+"+a, b+"_z", "*id")
		require.Equal(r, word(a) && word(b), s.Matches(Table{Schema: rel.Schema, Name: rel.Name}))
		if p := s.Bind(rel); p != nil {
			var out collector
			p.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1")}, &out)
			require.Equal(r, [][]byte{[]byte(a + "/" + b)}, out.keys)
		}
	})
}
