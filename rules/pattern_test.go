package rules

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
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

	for _, other := range []Table{{Schema: "tenant_", Name: "orders"}, {Schema: "tenant_a", Name: "orders2"}, {Schema: "xtenant_a", Name: "orders"}, {Schema: "public", Name: "orders_"}, {Schema: "public", Name: "orders_a.b"}, {Schema: "tenant_a", Name: "Orders"}} {
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
	e := s.Explain(t.Context(), &cdc.Change{Op: cdc.Insert, Rel: named("t_a", "o", "*id:int"), New: row("7")}, nil)
	require.Equal(t, []Purge{{Sink: "keysonly", Kind: invalidation.Key, Value: "a:7"}}, e[0].Purges)
	e = s.Explain(t.Context(), &cdc.Change{Op: cdc.Insert, Rel: named("t_b", "o", "*id:int"), New: row("7")}, nil)
	require.Equal(t, "false", e[0].Tried[0].Terms[0].Result)
}

// A pattern matches what is its text with names in place of the captures.
func TestPropertyPattern(t *testing.T) {
	s := parsePatterns(t, `{rules: [{name: x, table: "t+{s}.{n}_z", sinks: [keysonly], keys: ["{s}/{n}"]}]}`)
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringMatching(`[A-Za-z0-9_.+é\n-]{0,6}`)
		a, b := text.Draw(r, "schema"), text.Draw(r, "name")
		word := func(s string) bool { return s != "" && !strings.Contains(s, ".") }
		rel := named("t+"+a, b+"_z", "*id")
		require.Equal(r, word(a) && word(b), s.Matches(Table{Schema: rel.Schema, Name: rel.Name}))
		if p := s.Bind(rel); p != nil {
			var out collector
			p.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1")}, &out)
			require.Equal(r, [][]byte{[]byte(a + "/" + b)}, out.keys)
		}
	})
}

// A capture takes every character that a name may have, except the dot that separates schema and
// table, and is escaped where a value from a row would be.
func TestPatternsOfOddNames(t *testing.T) {
	s := parsePatterns(t, `
rules:
  - name: orders
    table: "tenant_{tenant}.orders"
    sinks: [all]
    keys: ["{tenant}:order:{id}", "{upper(tenant)}"]
    tags: ["{tenant}-orders"]
    urls: ["https://h/{tenant}/{id}"]
    url_prefixes: ["h/{tenant}/"]
    on_truncate: {keys: [all]}
    collapse: {over: 5, tags: ["all-{tenant}"]}
`)
	for schema, want := range map[string][]string{
		"tenant_acme-corp": {"key acme-corp:order:7", "key ACME-CORP", "tag acme-corp-orders", "url https://h/acme-corp/7", "url_prefix h/acme-corp/"},
		"tenant_müller":    {"key müller:order:7", "key MÜLLER", "tag m%C3%BCller-orders", "url https://h/m%C3%BCller/7", "url_prefix h/m%C3%BCller/"},
		"tenant_A b,c":     {"key A b,c:order:7", "key A B,C", "tag A%20b%2Cc-orders", "url https://h/A%20b%2Cc/7", "url_prefix h/A%20b%2Cc/"},
		`tenant_{x}"/?#%*`: {`key {x}"/?#%*:order:7`, `key {X}"/?#%*`, `tag {x}"/?#%25*-orders`, "url https://h/%7Bx%7D%22%2F%3F%23%25%2A/7", "url_prefix h/%7Bx%7D%22%2F%3F%23%25%2A/"},
		"tenant_a\nb":      {"key a\nb:order:7", "key A\nB", "tag a%0Ab-orders", "url https://h/a%0Ab/7", "url_prefix h/a%0Ab/"},
		"tenant_$1":        {"key $1:order:7", "key $1", "tag $1-orders", "url https://h/%241/7", "url_prefix h/%241/"},
		"tenant_日本":        {"key 日本:order:7", "key 日本", "tag %E6%97%A5%E6%9C%AC-orders", "url https://h/%E6%97%A5%E6%9C%AC/7", "url_prefix h/%E6%97%A5%E6%9C%AC/"},
	} {
		require.True(t, s.Matches(Table{Schema: schema, Name: "orders"}), schema)
		require.Empty(t, s.Nearly(Table{Schema: schema, Name: "orders"}))
		out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: named(schema, "orders", "*id:int"), New: row("7")})
		for i := range want {
			want[i] = "3 " + want[i]
		}
		require.ElementsMatch(t, want, out.values, schema)
	}
	for _, table := range []Table{{Schema: "tenant_a.b", Name: "orders"}, {Schema: "Tenant_a", Name: "orders"}, {Schema: "tenant_a", Name: "Orders"}, {Schema: "tenant_", Name: "orders"}, {Schema: "tenant_a", Name: "b.orders"}} {
		require.False(t, s.Matches(table), "%v", table)
		require.Equal(t, "tenant_{tenant}.orders", s.Nearly(table), "%v", table)
	}
	for _, table := range []Table{{Schema: "tenanta", Name: "orders"}, {Schema: "tenant_a", Name: "orders2"}, {Schema: "x_tenant_a", Name: "orders"}, {Schema: "public", Name: "products"}} {
		require.False(t, s.Matches(table), "%v", table)
		require.Empty(t, s.Nearly(table), "%v", table)
	}
}

// changed() takes every name that a column may have.
func TestChangedOfReservedNames(t *testing.T) {
	reserved := []string{"row", "old", "new", "op", "vars", "table", "Order ID", "in", "true", "null", "changed", "a.b", `q"uote`}
	columns := append([]string{"*id:int"}, reserved...)
	for i := range columns[1:] {
		columns[i+1] = "*" + columns[i+1]
	}
	rel := relation(cdc.IdentityFull, columns...)
	before := make([]string, len(columns))
	for i := range before {
		before[i] = "1"
	}
	for i, name := range reserved {
		after := append([]string(nil), before...)
		after[i+1] = "2"
		update := cdc.Change{Op: cdc.Update, Rel: rel, Old: row(before...), New: row(after...)}
		forms := []string{`changed("` + strings.ReplaceAll(name, `"`, `\"`) + `")`, `changed(id, row["` + strings.ReplaceAll(name, `"`, `\"`) + `"])`}
		switch name {
		case "row", "old", "new", "op", "vars", "table", "changed":
			forms = append(forms, "changed("+name+")", "changed(id, row."+name+")")
		}
		for _, form := range forms {
			s := oneRule(t, "when: '"+form+"'\nkeys: [k]")
			require.Equal(t, []string{"2 key k"}, eval(t, s, update).values, form)
			same := update
			same.New = same.Old
			require.Empty(t, eval(t, s, same).values, form)
			require.Contains(t, s.Columns(Table{Schema: "public", Name: "t"}, append([]string{"id"}, reserved...)), name, "what a column list publishes")
		}
	}
	for _, wrong := range []string{`changed("")`, `changed(1)`, `changed(old.id)`, `changed(true)`} {
		_, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    sinks: [keysonly]\n    when: '"+wrong+"'\n    keys: [k]\n"), testOptions())
		require.ErrorContains(t, err, "changed() wants column names only", wrong)
	}
}

// A column's name in quotes is a text in a template, which is refused where the column is known.
func TestQuotedColumnInTemplate(t *testing.T) {
	err := withCatalog("rules:\n  - name: a\n    table: public.t\n    keys: ['k:{\"Order ID\"}']\n")
	require.ErrorContains(t, err, `{"Order ID"} is a text and not the column of public.t; write {row["Order ID"]} for the column`)
	require.NoError(t, withCatalog("rules:\n  - name: a\n    table: public.t\n    keys: ['k:{\"x\"}{row[\"Order ID\"]}']\n"))
}
