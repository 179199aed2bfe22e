package rules

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// noLookups is for Outputs of rules without lookups.
type noLookups struct{}

func (noLookups) Lookup(*Pending) { panic("no rule here has a lookup") }

// asker is an Output that answers each question at once, and remembers it.
type asker struct {
	recorder
	set    *Set
	answer func(Query) Answer
	asked  []string
	keys   map[string]int
}

func (a *asker) Lookup(p *Pending) {
	a.asked = append(a.asked, p.Query.Lookup.Name+"("+strings.Join(p.Query.Args, "|")+")")
	if a.keys == nil {
		a.keys = map[string]int{}
	}
	a.keys[p.Key]++
	a.set.Fill(p, a.answer(p.Query), a)
}

// rowsOf answers with these rows, columns named as in relation.
func rowsOf(columns string, rows ...cdc.Tuple) func(Query) Answer {
	return func(Query) Answer {
		return Answer{Shape: relation(cdc.IdentityFull, strings.Fields(columns)...), Rows: rows}
	}
}

const menuLookup = `lookup: {m: {sql: "SELECT store_id FROM s WHERE id = $1", args: ["{menu_id}"], limit: 3}}, unknown: {keys: [menus]}, sinks: [keysonly]`

func TestLookup(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*menu_id:int", "*body:bytea", "*tags:json", "*name")
	menu := func(id, menu string) cdc.Tuple { return row(id, menu, `\x01ff`, `["a","b"]`, "Nm") }
	insert := cdc.Change{Op: cdc.Insert, Rel: rel, New: menu("7", "3")}
	moved := cdc.Change{Op: cdc.Update, Rel: rel, Old: menu("7", "3"), New: menu("7", "4")}
	edited := cdc.Change{Op: cdc.Update, Rel: rel, Old: menu("7", "3"), New: menu("7", "3")}
	two := rowsOf("store_id:int slug at:tstz", row("1", "A", "2026-11-20 12:00:00+00"), row("2", "B", "NULL"))
	for _, c := range []struct {
		name   string
		rule   string
		change cdc.Change
		answer func(Query) Answer
		asked  []string
		want   []string
		also   string // verdicts beside matched
	}{
		{"a value for each row", `keys: ["menu:{m.store_id}"]`, insert, two, []string{"m(3)"}, []string{"menu:1", "menu:2"}, ""},
		{"both images", `keys: ["menu:{m.store_id}"]`, moved, two, []string{"m(4)", "m(3)"}, []string{"menu:1", "menu:2", "menu:1", "menu:2"}, ""},
		{"once where both are alike", `keys: ["menu:{m.store_id}:{id}"]`, edited, two, []string{"m(3)"}, []string{"menu:1:7", "menu:2:7"}, ""},
		{"beside other values", `keys: [home, "menu:{m.store_id}:{id}", "item:{id}"]`, insert, two, []string{"m(3)"}, []string{"home", "item:7", "menu:1:7", "menu:2:7"}, ""},
		{"with a list of the row", `keys: ["{m.store_id}:{tags.map(t, t)}"]`, insert, two, []string{"m(3)"}, []string{"1:a", "1:b", "2:a", "2:b"}, ""},
		{"an expression over the answer", `keys: ["{lower(m.slug)}:{lower(name)}"]`, insert, two, []string{"m(3)"}, []string{"a:nm", "b:nm"}, ""},
		{"one form of text", `keys: ["{m.at}", "{m[\"at\"]}:{string(m.at)}"]`, insert, two, []string{"m(3)"},
			[]string{"2026-11-20T12:00:00.000000Z", "2026-11-20T12:00:00.000000Z:2026-11-20T12:00:00.000000Z"}, ""},
		{"a NULL skips its row", `keys: ["menu:{m.store_id}:{m.at}"]`, insert, two, []string{"m(3)"}, []string{"menu:1:2026-11-20T12:00:00.000000Z"}, ""},
		{"all rows alike", `keys: ["menu:{id}:{m.store_id > 0}"]`, insert, two, []string{"m(3)"}, []string{"menu:7:true"}, ""},
		{"no row", `keys: ["menu:{m.store_id}"]`, insert, rowsOf("store_id:int"), []string{"m(3)"}, []string{"menus"}, "unknown_value"},
		{"an error", `keys: ["menu:{m.store_id}"]`, insert, func(Query) Answer { return Answer{Err: errors.New("down")} }, []string{"m(3)"}, []string{"menus"}, "unknown_value"},
		{"too many rows", `keys: ["menu:{m.store_id}"]`, insert, rowsOf("store_id:int", row("1"), row("2"), row("3"), row("4")), []string{"m(3)"}, []string{"menus"}, "unknown_value"},
		{"a column that is not there", `keys: ["menu:{m.store_id}", "x:{lower(m.slug)}"]`, insert, rowsOf("slug", row("A")), []string{"m(3)"}, []string{"x:a", "menus"}, "unknown_value"},
		{"one too long", `keys: ["menu:{m.slug}"]`, insert, rowsOf("slug", row("a"), row(strings.Repeat("x", invalidation.MaxValue))), []string{"m(3)"}, []string{"menu:a", "menus"}, "unknown_value"},
		{"an expression that fails", `keys: ["{1 / m.store_id}"]`, insert, rowsOf("store_id:int", row("0"), row("1")), []string{"m(3)"}, []string{"1", "menus"}, "failed unknown_value"},
		{"a NULL argument", `keys: ["menu:{m.store_id}", "item:{id}"]`, cdc.Change{Op: cdc.Insert, Rel: rel, New: menu("7", "NULL")}, two, nil, []string{"item:7"}, ""},
		{"an argument not carried", `keys: ["menu:{m.store_id}"]`, cdc.Change{Op: cdc.Delete, Rel: rel, Old: menu("7", "ABSENT")}, two, nil, []string{"menus"}, "unknown_value"},
		{"a NULL beside it", `keys: ["menu:{m.store_id}:{name}"]`, cdc.Change{Op: cdc.Delete, Rel: rel, Old: row("7", "3", "NULL", "NULL", "NULL")}, two, nil, nil, ""},
		{"not carried beside it", `keys: ["menu:{m.store_id}:{name}", "menu:{m.store_id}"]`, cdc.Change{Op: cdc.Delete, Rel: rel, Old: row("7", "3", "NULL", "NULL", "ABSENT")}, two, []string{"m(3)"}, []string{"menu:1", "menu:2", "menus"}, "unknown_value"},
		{"a fixed image", `keys: ["menu:{m.store_id}:{old.id}:{new.id}"]`, edited, two, []string{"m(3)"}, []string{"menu:1:7:7", "menu:2:7:7"}, ""},
		{"no such image", `keys: ["menu:{m.store_id}:{old.id}"]`, insert, two, nil, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := mustParse(t, "rules: [{name: menu, table: public.t, "+menuLookup+", "+c.rule+"}]")
			out := &asker{set: s, answer: c.answer}
			s.Bind(rel).Eval(&c.change, out)
			var want []string
			for _, v := range c.want {
				want = append(want, fmt.Sprintf("%d key %s", keysonly, v))
			}
			require.Equal(t, c.asked, out.asked)
			require.Equal(t, want, out.values)
			verdicts := []string{"0 matched"}
			for _, v := range strings.Fields(c.also) {
				verdicts = append(verdicts, "0 "+v)
			}
			require.Equal(t, verdicts, out.verdicts)

			e := s.Explain(t.Context(), &c.change, c.answer)
			got := map[string]bool{}
			for _, p := range e[0].Purges {
				got[fmt.Sprintf("%d key %s", keysonly, p.Value)] = true
			}
			require.Len(t, got, len(e[0].Purges)-len(want)+len(got))
			for _, v := range want {
				require.True(t, got[v], v)
			}
		})
	}
}

func TestLookupArguments(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*body:bytea", "*at:tstz", "*tags:json", "*name")
	change := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", `\x01ff`, "2026-11-20 12:00:00+00", `["a","b"]`, "")}
	for args, want := range map[string]string{
		`"{body}", "{id}-{body}"`:            `m(\x01ff|7-01ff)`, // a lone column goes back as it came
		`"{at}", "{string(at)}"`:             "m(2026-11-20 12:00:00+00|2026-11-20T12:00:00.000000Z)",
		`"fixed {vars.app}", "{md5(name)}"`:  "m(fixed shop|d41d8cd98f00b204e9800998ecf8427e)",
		`"{name}", "a{'{'}"`:                 "m(|a{)",
		`"{id + 1}", "{row[\"id\"]}"`:        "m(8|7)",
		`"{tags.map(t, t)}", "{id}"`:         "", // a list is no argument
		`"{'x' + name + string(gone)}", "1"`: "",
	} {
		s := mustParse(t, `{vars: {app: shop}, rules: [{name: menu, table: public.t, keys: ["{m.x}"], unknown: {keys: [u]}, sinks: [keysonly], lookup: {m: {sql: "SELECT $1, $2", args: [`+args+`]}}}]}`)
		out := &asker{set: s, answer: rowsOf("x", row("v"))}
		s.Bind(rel).Eval(&change, out)
		if want == "" {
			require.Empty(t, out.asked, args)
			require.Equal(t, []string{"2 key u"}, out.values, args)
			continue
		}
		require.Equal(t, []string{want}, out.asked, args)
	}
	long := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "NULL", "NULL", "NULL", strings.Repeat("x", maxArgument+1))}
	s := mustParse(t, `rules: [{name: menu, table: public.t, keys: ["{m.x}"], unknown: {keys: [u]}, sinks: [keysonly], lookup: {m: {sql: "SELECT $1", args: ["{name}"]}}}]`)
	out := &asker{set: s}
	s.Bind(rel).Eval(&long, out)
	require.Equal(t, []string{"2 key u"}, out.values)
}

// A lookup makes as many values as any template, for each image.
func TestLookupIsBounded(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*menu_id:int", "*tags:json")
	rows := make([]cdc.Tuple, 600)
	for i := range rows {
		rows[i] = row(fmt.Sprint(i))
	}
	s := mustParse(t, `rules: [{name: menu, table: public.t, keys: ["a:{m.x}", "{m.x}:{tags.map(t, t)}"], unknown: {keys: [u]}, sinks: [keysonly], lookup: {m: {sql: "SELECT $1", args: ["{menu_id}"], limit: 600}}}]`)
	out := &asker{set: s, answer: rowsOf("x", rows...)}
	s.Bind(rel).Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", "[1]")}, out)
	require.Len(t, out.values, 1200)
	out.values = nil
	s.Bind(rel).Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", "[1,2]")}, out)
	require.Len(t, out.values, 601, "the second template makes 1200, so unknown stands in for all of it")
	require.Equal(t, "2 key u", out.values[600])
}

func TestLookupsOfASet(t *testing.T) {
	s := mustParse(t, `
rules:
  - {name: a, table: public.t, keys: ["{m.x}:{lower(m.y)}:{m.x}", "{n.z}"], unknown: {keys: [u]}, sinks: [keysonly], lookup: {m: {sql: "SELECT $1;", args: ["{id}"]}, n: {sql: SELECT 1, limit: 1, timeout: 2s}}}
  - {name: b, table: "public.u", tags: ["t-{m.x}"], unknown: {tags: [u]}, lookup: {m: {sql: "SELECT $1", args: ["{old.id}"]}}}`)
	ll := s.Lookups()
	require.Len(t, ll, 3)
	require.Equal(t, []any{"m", "a", "SELECT $1", 500, "1s", []string{"x", "y"}, 1}, []any{ll[0].Name, ll[0].Rule, ll[0].SQL, ll[0].Limit, ll[0].Timeout.String(), ll[0].Columns, ll[0].Params()})
	require.Equal(t, []any{"n", "SELECT 1", 1, "2s", []string{"z"}, 0}, []any{ll[1].Name, ll[1].SQL, ll[1].Limit, ll[1].Timeout.String(), ll[1].Columns, ll[1].Params()})
	require.Equal(t, "SELECT <1>", ll[0].With(func(n int) string { return fmt.Sprintf("<%d>", n) }))
	need := s.Needs()
	require.Equal(t, []Need{
		{Rule: "a", File: "rules.yaml", Line: 3, Table: Table{Schema: "public", Name: "t"}, Column: "id", Old: true, HasUnknown: true},
		{Rule: "b", File: "rules.yaml", Line: 4, Table: Table{Schema: "public", Name: "u"}, Column: "id", Old: true, HasUnknown: true, Covered: true},
	}, need)
	patterns, err := s.FlushPatterns(keysonly)
	require.ErrorContains(t, err, `"{n.z}" has no literal text`)
	require.Empty(t, patterns)
}

func TestLookupInATableWithCaptures(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`rules: [{name: a, table: "t_{tenant}.o", keys: ["{tenant}:{m.x}:{lower(tenant)}:{upper(m.x)}"], unknown: {keys: [u]}, sinks: [keysonly], lookup: {m: {sql: "SELECT $1, $2", args: ["{tenant}", "{id}"]}}}]`), testOptions())
	require.NoError(t, err)
	rel := &cdc.Relation{Schema: "t_X", Name: "o", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "id", TypeOID: oidInt8, Key: true}}}
	out := &asker{set: s, answer: rowsOf("x", row("v"))}
	s.Bind(rel).Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7")}, out)
	require.Equal(t, []string{"m(X|7)"}, out.asked)
	require.Equal(t, []string{"2 key X:v:x:V"}, out.values)
}

func TestLookupIsRefused(t *testing.T) {
	const fine = `lookup: {m: {sql: "SELECT $1", args: ["{id}"]}}, unknown: {keys: [u]}`
	for rule, want := range map[string]string{
		`keys: ["{m.x}"], lookup: {m: {sql: "SELECT $1", args: ["{id}"]}}`: "`lookup` needs an `unknown` that names something for each of the rule's sinks",
		`keys: ["{m.x}"], tags: ["{m.x}"], sinks: [cache, edge], ` + fine:  "`lookup` needs an `unknown` that names something for each",
		`keys: [a], ` + fine:                           "the lookup \"m\" is used by no value; write one with a column of it, like {m.id}",
		`keys: ["{n.x}"], ` + fine:                     "the lookup \"m\" is used by no value; write one with a column of it, like {m.id}; {n...} reads the column \"n\" of the row, did you mean \"m\" there?",
		`keys: ["{m}"], ` + fine:                       "{m} is a lookup; name a column of it, like {m.id}, or write {row.m} for the column",
		`keys: ["{lower(m)}"], ` + fine:                "m is a lookup; name a column of it, like m.id, or write row.m for the column",
		`keys: ["{m.x + id}"], ` + fine:                `an expression reads either the row or the lookup "m"`,
		`keys: ["{m.x + old.id}"], ` + fine:            `an expression reads either the row or the lookup "m"`,
		`keys: ["{m.x + string(size(row))}"], ` + fine: `an expression reads either the row or the lookup "m"`,
		`keys: ["{m.x}"], when: "m.x == 1", ` + fine:   `when: a condition cannot read the lookup "m"`,
		`keys: ["{m.x}{n.x}"], unknown: {keys: [u]}, lookup: {m: {sql: SELECT 1}, n: {sql: SELECT 1}}`:                     `it reads the lookups "m" and "n"; a value can wait for one`,
		`keys: ["{m.x + n.x}"], unknown: {keys: [u]}, lookup: {m: {sql: SELECT 1}, n: {sql: SELECT 1}}`:                    `it reads the lookups "m" and "n"; a value can wait for one`,
		`keys: ["{m.x}"], unknown: {keys: ["{m.x}"]}, lookup: {m: {sql: SELECT 1}}`:                                        "reads the row, but here only fixed values can be named",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT $1", args: ["{n.x}"]}, n: {sql: SELECT 1}}`:      `the lookup "n" is used by no value`,
		`keys: ["{m.x}{n.x}"], unknown: {keys: [u]}, lookup: {n: {sql: SELECT 1}, m: {sql: "SELECT $1", args: ["{n.x}"]}}`: `lookup "m": argument "{n.x}": it reads the lookup "n", but an argument can only read the row`,
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT $1", args: ["{vars.l}"]}}`:                       "it has a list, but an argument has one value",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT $1", args: ["{lowr(id)}"]}}`:                     `lookup "m": argument "{lowr(id)}": unknown function "lowr"`,
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT $1", args: ["{id"]}}`:                            `lookup "m": argument "{id": a { without its }`,
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT $1"}}`:                                           "`sql` has parameters up to $1, and `args` has 0",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT $1 + $3", args: [a, b, c]}}`:                     "`sql` does not use $2",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT '$1'", args: [a]}}`:                              "`sql` has parameters up to $0, and `args` has 1",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT 1; DELETE FROM t"}}`:                             "lookup \"m\": `sql`: it has several statements; write one SELECT",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: "SELECT 'a"}}`:                                           "lookup \"m\": `sql`: a quote or comment in it does not end",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {args: [a]}}`:                                                  "lookup \"m\": `sql` is missing",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: SELECT 1, limit: 0}}`:                                    "limit: 0; write a number from 1 to 1000",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: SELECT 1, limit: 1001}}`:                                 "limit: 1001; write a number from 1 to 1000",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: SELECT 1, timeout: 1m}}`:                                 "timeout: 1m0s; write a duration from 10ms to 30s",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {m: {sql: SELECT 1, timout: 1s}}`:                                  `unknown key "timout"; did you mean "timeout"?`,
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {row: {sql: SELECT 1}}`:                                            "`lookup`: \"row\" is no name",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {"a b": {sql: SELECT 1}}`:                                          "`lookup`: \"a b\" is no name",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: {}`:                                                                "`lookup` is empty",
		`keys: ["{m.x}"], unknown: {keys: [u]}, lookup: SELECT 1`:                                                          "is not a mapping of names to values",
	} {
		sinks := ", sinks: [keysonly]"
		if strings.Contains(rule, "sinks:") {
			sinks = ""
		}
		_, err := Parse("rules.yaml", []byte("{vars: {l: [a, b]}, rules: [{name: x, table: public.t, "+rule+sinks+"}]}"), testOptions())
		require.ErrorContains(t, err, want, rule)
	}
}

// Two pending lookups have the same key only if they produce the same, and
// filling one needs nothing of the change that it came from.
func TestPropertyPendingKeys(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id", "*menu_id", "*name")
	s := mustParse(t, `rules: [{name: menu, table: public.t, keys: ["{id}:{m.x}{name}"], tags: ["{name}{m.x}"], unknown: {keys: [u], tags: [u]}, sinks: [cache], lookup: {m: {sql: "SELECT $1, $2", args: ["{menu_id}", "{id}"]}}}]`)
	text := rapid.SampledFrom([]string{"", "a", "1", "1:a", ":", "0:", "aa"})
	rapid.Check(t, func(t *rapid.T) {
		plan := s.Bind(rel)
		seen := map[string]string{}
		for range 6 {
			id, menu, name := text.Draw(t, "id"), text.Draw(t, "menu"), text.Draw(t, "name")
			change := cdc.Change{Op: cdc.Insert, Rel: rel, New: row(id, menu, name)}
			var pending []*Pending
			plan.Eval(&change, &keeper{pending: &pending})
			for i := range change.New {
				for n := range change.New[i].Data {
					change.New[i].Data[n] = '!' // the decoder's buffer is used again
				}
			}
			for _, p := range pending {
				var out recorder
				s.Fill(p, rowsOf("x", row("v"), row("w"))(p.Query), &out)
				came := fmt.Sprintf("%q %q", p.Query.Args, out.values)
				require.Equal(t, []string{menu, id}, p.Query.Args)
				if before, known := seen[p.Key]; known {
					require.Equal(t, before, came)
				}
				for key, other := range seen {
					require.True(t, key == p.Key || other != came, "%q and %q give the same %s", key, p.Key, came)
				}
				seen[p.Key] = came
			}
		}
	})
}

// keeper keeps what waits.
type keeper struct {
	recorder
	pending *[]*Pending
}

func (k *keeper) Lookup(p *Pending) { *k.pending = append(*k.pending, p) }
