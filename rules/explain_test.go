package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// explained is an explanation in lines, for tests to read.
func explained(e Explanation) []string {
	out := []string{fmt.Sprintf("%s matched=%v: %s", e.Rule, e.Matched, e.Why)}
	reason := func(s string) string {
		if s != "" {
			return " (" + s + ")"
		}
		return ""
	}
	for _, t := range e.Tried {
		out = append(out, fmt.Sprintf("tried %s: %s%s", t.Image, t.Result, reason(t.Error)))
		for _, term := range t.Terms {
			line := fmt.Sprintf("  %s: %s%s", term.Source, term.Result, reason(term.Error))
			for _, c := range term.Columns {
				line += fmt.Sprintf(" %s.%s=%s", c.Image, c.Column, strings.TrimSpace(c.State+" "+c.Value))
			}
			out = append(out, line)
		}
	}
	for _, x := range e.Templates {
		line := fmt.Sprintf("%s %s %s %v=%v%s", x.Kind, x.Template, x.Image, x.Sinks, x.Values, reason(x.Skipped))
		if x.Unknown {
			line += " unknown"
		}
		out = append(out, line)
	}
	for _, p := range e.Purges {
		if p.Parked {
			out = append(out, fmt.Sprintf("-> %s parked %s %s", p.Sink, p.Kind, p.For))
			continue
		}
		out = append(out, fmt.Sprintf("-> %s %s %s", p.Sink, p.Kind, p.Value))
	}
	return out
}

func TestExplain(t *testing.T) {
	rel := relation(cdc.IdentityDefault, "*id:int", "price:num", "status", "data:json", "body", "live:bool")
	insert := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "9.50", "draft", `{"a": [1, 2]}`, "NULL", "t")}
	update := cdc.Change{Op: cdc.Update, Rel: rel, New: row("7", "9.50", "live", `{"a": [1, 2]}`, "UNCHANGED", "t")}
	for name, c := range map[string]struct {
		rule   string
		change cdc.Change
		want   []string
	}{
		"no condition": {`keys: ["p:{id}"]`, insert, []string{
			"x matched=true: it has no condition", "key p:{id} new [keysonly]=[p:7]", "-> keysonly key p:7"}},
		"operation": {"keys: [home]\nops: [delete]", insert, []string{"x matched=false: insert is not among its ops"}},
		"false, with its parts": {"keys: [home]\nwhen: row.status != \"draft\" && (price > 5 || live) && \"&&\" != body", insert, []string{
			"x matched=false: the condition is false for the new row", "tried new: false",
			`  row.status != "draft": false new.status=value draft`,
			`  (price > 5 || live): true new.price=value 9.50 new.live=value true`,
			`  "&&" != body: true new.body=null`}},
		"false, without parts": {"keys: [home]\nwhen: id == 8 || price > 10", insert, []string{
			"x matched=false: the condition is false for the new row", "tried new: false",
			`  id == 8 || price > 10: false new.id=value 7 new.price=value 9.50`}},
		"parts in parentheses": {"keys: [home]\nwhen: (id == 8 && live)", insert, []string{
			"x matched=false: the condition is false for the new row", "tried new: false", "  (id == 8 && live): false new.id=value 7 new.live=value true"}},
		"false for both": {"keys: [home]\nwhen: id == 8", update, []string{
			"x matched=false: the condition is false for the new row and for the old row",
			"tried new: false", "  id == 8: false new.id=value 7", "tried old: false", "  id == 8: false old.id=value 7"}},
		"true for the old row": {"keys: [home]\nwhen: op == \"update\" && row == old", cdc.Change{Op: cdc.Update, Rel: relation(cdc.IdentityFull, "*a"), Old: row("1"), New: row("2")}, []string{
			"x matched=true: the condition is true for the old row", "tried new: false", `  op == "update": true`, "  row == old: false",
			"tried old: true", "key home  [keysonly]=[home]", "-> keysonly key home"}},
		"unknown": {"keys: [home]\nwhen: changed(status) && id == 7", update, []string{
			`x matched=true: the condition could not be decided for the new row (column "status" was not carried by the stream) and the old row (column "status" was not carried by the stream), which counts as true`,
			`tried new: unknown (column "status" was not carried by the stream)`,
			`  changed(status): unknown (column "status" was not carried by the stream) old.status=not carried new.status=value live`, "  id == 7: true new.id=value 7",
			`tried old: unknown (column "status" was not carried by the stream)`,
			`  changed(status): unknown (column "status" was not carried by the stream) old.status=not carried new.status=value live`, "  id == 7: true old.id=value 7",
			"key home  [keysonly]=[home]", "-> keysonly key home"}},
		"no value": {`keys: ["{body}", "{lower(body)}", "{old.id}", "{data.b}", "{gone}", "{id}{gone}", "{data.a}", "{string(old.id)}", "{lower(gone)}", "{[]}"]
unknown: {keys: [all]}`, insert, []string{
			"x matched=true: it has no condition",
			"key {body} new [keysonly]=[] (body is NULL)", "key {lower(body)} new [keysonly]=[] ({lower(body)} is NULL)",
			"key {old.id}  [keysonly]=[] (id: the change has no such row)",
			`key {data.b} new [keysonly]=[] ({data.b}: the JSON value has no "b") unknown`,
			`key {gone} new [keysonly]=[] (the table has no column "gone") unknown`, `key {id}{gone} new [keysonly]=[] (the table has no column "gone") unknown`,
			"key {data.a} new [keysonly]=[1 2]", "key {string(old.id)}  [keysonly]=[] ({string(old.id)}: the change has no such row)",
			`key {lower(gone)} new [keysonly]=[] ({lower(gone)}: column "gone" was not carried by the stream) unknown`,
			"key {[]}  [keysonly]=[] ({[]} is a list without values)",
			"-> keysonly key 1", "-> keysonly key 2", "-> keysonly key all"}},
		"too much": {`keys: ["{data.a.map(x, data.a.map(y, x + y))[0]}{data.a + [1]}", "{body}"]`,
			cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "9.50", "draft", `{"a": [`+strings.Repeat("1,", 40)+`1]}`, strings.Repeat("x", invalidation.MaxValue+88), "t")}, []string{
				"x matched=true: it has no condition",
				"key {data.a.map(x, data.a.map(y, x + y))[0]}{data.a + [1]} new [keysonly]=[] (its lists make more than 1000 values) unknown",
				"key {body} new [keysonly]=[] (body is 65624 bytes long, at most 65536 are allowed) unknown", "-> keysonly parked key {data.a.map(x, data.a.map(y, x + y))[0]}{data.a + [1]}", "-> keysonly parked key {body}"}},
		"truncate": {"keys: [home]\nwhen: id == 5", cdc.Change{Op: cdc.Truncate, Rel: rel}, []string{
			"x matched=true: a truncate is handled whatever the condition says", "-> keysonly key home"}},
	} {
		t.Run(name, func(t *testing.T) {
			got := oneRule(t, c.rule).Explain(t.Context(), &c.change, nil)
			require.Len(t, got, 1)
			require.Equal(t, c.want, explained(got[0]))
		})
	}
}

func TestExplainOtherTable(t *testing.T) {
	c := cdc.Change{Op: cdc.Insert, Rel: &cdc.Relation{Schema: "public", Name: "other"}}
	require.Nil(t, oneRule(t, "keys: [home]").Explain(t.Context(), &c, nil))
}

func TestConjuncts(t *testing.T) {
	for expr, want := range map[string][]string{
		`a`: {"a"}, `a&&b`: {"a", "b"}, ` a && (b && c) && f("x && y", 'z\'&&') `: {"a", "(b && c)", `f("x && y", 'z\'&&')`},
		`[a && b] == {1: c && d} && e`: {"[a && b] == {1: c && d}", "e"},
	} {
		require.Equal(t, want, conjuncts(expr))
	}
}

// An explanation agrees with the evaluation, whatever the change.
func TestPropertyExplainAgreesWithEval(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`
vars: {locales: [en, de]}
rules:
  - {name: a, table: public.t, keys: ["k:{a}:{b}", "l:{lower(a)}:{vars.locales}", "{old.a}{new.b}"], when: 'a != "x" && changed(b)'}
  - {name: b, table: public.t, ops: [update], urls: ["https://h/{a}/{urlpath(b)}"], url_prefixes: ["h/{a}/"], unknown: {generations: [g]}}
  - {name: c, table: public.t, tags: ["t:{j.list}", "{old.j.x + new.b}"], to: {all: {tags: ["u:{j.x}"]}}, when: 'b == "" || j.x > 5 || a.size() > 3'}
`), allOptions())
	require.NoError(t, err)
	value := rapid.OneOf(rapid.SampledFrom([]string{"NULL", "ABSENT", "UNCHANGED", "x", "", ".."}), hostileText())
	document := rapid.SampledFrom([]string{"NULL", "ABSENT", `{"x": 7, "list": [1, null, "b"]}`, `{"x": null, "list": []}`, `{}`, "broken", `{"x": "s", "list": 5}`})
	rapid.Check(t, func(r *rapid.T) {
		identity := rapid.SampledFrom([]cdc.Identity{cdc.IdentityFull, cdc.IdentityDefault, cdc.IdentityNothing}).Draw(r, "identity")
		rel := relation(identity, "*a", "b", "j:json")
		draw := func(name string) cdc.Tuple {
			return row(value.Draw(r, name+".a"), value.Draw(r, name+".b"), document.Draw(r, name+".j"))
		}
		c := cdc.Change{Op: cdc.Op(rapid.IntRange(int(cdc.Insert), int(cdc.Truncate)).Draw(r, "op")), Rel: rel}
		if c.Op == cdc.Insert || c.Op == cdc.Update {
			c.New = draw("new")
		}
		if c.Op == cdc.Delete || c.Op == cdc.Update && rapid.Bool().Draw(r, "with old") {
			c.Old = draw("old")
		}
		var out recorder
		s.Bind(rel).Eval(&c, &out)
		var purges []string
		for i, e := range s.Explain(t.Context(), &c, nil) {
			require.Equal(r, slices.Contains(out.verdicts, fmt.Sprintf("%d matched", i)), e.Matched)
			require.NotEmpty(r, e.Why)
			unknown := false
			made := map[string]bool{}
			for _, x := range e.Templates {
				unknown = unknown || x.Unknown
				require.True(r, len(x.Values) > 0 || x.Skipped != "", "no value, no reason: %+v", x)
				for _, sink := range x.Sinks {
					for _, v := range x.Values {
						made[fmt.Sprintf("%s %s %s", sink, x.Kind, v)] = true
					}
				}
			}
			require.Equal(r, slices.Contains(out.verdicts, fmt.Sprintf("%d unknown_value", i)), unknown)
			for _, p := range e.Purges {
				if p.Parked {
					purges = append(purges, fmt.Sprintf("%s parked %s %s", p.Sink, p.Kind, p.For))
					continue
				}
				purges = append(purges, fmt.Sprintf("%s %s %s", p.Sink, p.Kind, p.Value))
				delete(made, fmt.Sprintf("%s %s %s", p.Sink, p.Kind, p.Value))
			}
			require.Empty(r, made, "what the templates make is purged")
		}
		var evaluated []string
		for _, v := range out.values {
			sink, rest, _ := strings.Cut(v, " ")
			evaluated = append(evaluated, map[string]string{"0": "cache", "1": "edge", "2": "keysonly", "3": "all"}[sink]+" "+rest)
		}
		require.Equal(r, evaluated, purges)
	})
}
