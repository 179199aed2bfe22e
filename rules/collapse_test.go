package rules

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// shopRel is a table whose rows are id, merchant, category.
func shopRel(identity cdc.Identity) *cdc.Relation {
	return relation(identity, "*id:int", "merchant:int", "category:int")
}

func added(rel *cdc.Relation, values ...string) *cdc.Change {
	return &cdc.Change{Op: cdc.Insert, Rel: rel, New: row(values...)}
}

// transaction runs changes as one and returns what is handed on, at once and at
// the end, as "sink kind value", with "< value" for each step above it.
func transaction(t testing.TB, s *Set, changes ...*cdc.Change) []string {
	t.Helper()
	tally, out := s.NewTally(), &recorder{}
	for _, c := range changes {
		tally.Eval(s.Bind(c.Rel), c, out)
	}
	return append(out.values, handedOn(t, tally, len(s.sinks))...)
}

func handedOn(t testing.TB, tally *Tally, sinks int) []string {
	t.Helper()
	var out []string
	for sink := range sinks {
		require.NoError(t, tally.HandOn(sink, func(g Group) error {
			for _, v := range g.Values {
				line := fmt.Sprintf("%d %s %s", g.Sink, v.Kind, v.Value)
				for _, c := range g.Coarser {
					line += fmt.Sprintf(" <%d", c.Over)
					for _, v := range c.Values {
						line += " " + v.Value
					}
				}
				out = append(out, line)
			}
			return nil
		}))
	}
	return out
}

const ladderRule = `
tags: ["p-{id}"]
sinks: [edge]
collapse:
  - {over: 2, tags: ["m-{merchant}"]}
  - {over: 4, tags: [all]}
`

func edgeRule(t testing.TB, body string) *Set {
	t.Helper()
	s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n"+indent(body)), testOptions())
	require.NoError(t, err)
	return s
}

func TestCollapseSteps(t *testing.T) {
	rel := shopRel(cdc.IdentityFull)
	var rows []*cdc.Change
	for id := range 6 {
		rows = append(rows, added(rel, strconv.Itoa(id), strconv.Itoa(id/3), "1"))
	}
	s := edgeRule(t, ladderRule)
	require.Equal(t, []string{"1 tag p-0 <2 m-0 <4 all", "1 tag p-1 <2 m-0 <4 all"}, transaction(t, s, rows[:2]...), "not over")
	require.Equal(t, []string{"1 tag p-0 <2 m-0 <4 all"}, transaction(t, s, rows[0], rows[0], rows[0], rows[0]), "distinct values count")
	require.Equal(t, []string{"1 tag m-0 <4 all"}, transaction(t, s, rows[:3]...))
	require.Equal(t, []string{"1 tag m-0 <4 all", "1 tag m-1 <4 all"}, transaction(t, s, rows[:4]...), "rows before the step count too")
	require.Equal(t, []string{"1 tag all"}, transaction(t, s, rows[:5]...), "the rule's own values are what is counted")
	require.Equal(t, []string{"1 tag all"}, transaction(t, s, rows...))

	tally := s.NewTally()
	for range 3 {
		for _, c := range rows {
			tally.Eval(s.Bind(rel), c, &recorder{})
		}
		var told []int
		tally.End(func(rule, sink, values int) { told = append(told, rule, sink, values) })
		require.Equal(t, []int{0, edge, 6}, told, "each transaction for itself")
		values, bytes := tally.Held()
		require.Zero(t, values+bytes)
	}
}

func TestCollapsePerSink(t *testing.T) {
	rel := shopRel(cdc.IdentityFull)
	s := edgeRule(t, `
keys: ["p:{id}"]
tags: ["p-{id}"]
collapse: {over: 1, urls: ["https://h/{merchant}"], tags: ["m-{merchant}"]}
sinks: [cache, edge, keysonly]
`)
	got := transaction(t, s, added(rel, "1", "7", "1"), added(rel, "2", "7", "1"))
	require.ElementsMatch(t, []string{"2 key p:1", "2 key p:2", "0 tag m-7", "1 tag m-7", "1 url https://h/7"}, got,
		"keysonly takes nothing of the step and keeps its values; cache takes the tag only")
}

// A row for which a step has no value takes something else, and never nothing.
func TestCollapseNeverLosesARow(t *testing.T) {
	full, byKey := shopRel(cdc.IdentityFull), shopRel(cdc.IdentityDefault)
	one, two := added(full, "1", "7", "1"), added(full, "2", "7", "1")
	null := added(full, "3", "NULL", "1")
	gone := &cdc.Change{Op: cdc.Delete, Rel: byKey, Old: row("4", "ABSENT", "ABSENT")}
	moved := &cdc.Change{Op: cdc.Update, Rel: full, Old: row("5", "8", "1"), New: row("5", "9", "1")}
	for name, c := range map[string]struct {
		rule string
		want []string
	}{
		"both images":                          {`collapse: {over: 1, tags: ["m-{merchant}"]}`, []string{"1 tag m-7", "1 tag m-9", "1 tag m-8", "1 tag p-3", "1 tag p-4"}},
		"the next step":                        {`collapse: [{over: 1, tags: ["m-{merchant}"]}, {over: 9, tags: ["all"]}]`, []string{"1 tag m-7 <9 all", "1 tag m-9 <9 all", "1 tag m-8 <9 all", "1 tag all <9 all"}},
		"unknown stands in":                    {`unknown: {tags: [u]}` + "\n" + `collapse: {over: 1, tags: ["m-{merchant}"]}`, []string{"1 tag m-7", "1 tag m-9", "1 tag m-8", "1 tag u"}},
		"unknown before the next step":         {`unknown: {tags: [u]}` + "\n" + `collapse: [{over: 1, tags: ["m-{merchant}"]}, {over: 9, tags: ["all"]}]`, []string{"1 tag m-7 <9 all", "1 tag m-9 <9 all", "1 tag m-8 <9 all", "1 tag all <9 all", "1 tag u <9 all"}},
		"one of two templates":                 {`collapse: {over: 1, tags: ["m-{merchant}", "c-{category}"]}`, []string{"1 tag m-7", "1 tag c-1", "1 tag m-9", "1 tag m-8", "1 tag p-3", "1 tag p-4"}},
		"expressions":                          {`collapse: {over: 1, tags: ["m-{string(merchant)}"]}`, []string{"1 tag m-7", "1 tag m-9", "1 tag m-8", "1 tag p-3", "1 tag p-4"}},
		"an image that only some changes have": {`collapse: {over: 1, tags: ["m-{new.merchant}"]}`, []string{"1 tag m-7", "1 tag m-9", "1 tag p-3", "1 tag p-4"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := edgeRule(t, "tags: [\"p-{id}\"]\nsinks: [edge]\n"+c.rule)
			got := transaction(t, s, one, two, null, gone, moved)
			slices.Sort(got)
			require.ElementsMatch(t, c.want, slices.Compact(got))
		})
	}
}

func TestCollapseWithoutAValueOfItsOwn(t *testing.T) {
	s := edgeRule(t, "tags: [\"p-{category}\"]\nsinks: [edge]\ncollapse: {over: 1, tags: [all]}")
	rel := shopRel(cdc.IdentityFull)
	require.Empty(t, transaction(t, s, added(rel, "1", "1", "NULL"), added(rel, "2", "1", "NULL")), "what gives nothing is nothing to replace")
}

func TestTruncateTakesTheLastStep(t *testing.T) {
	rel := shopRel(cdc.IdentityFull)
	truncated := &cdc.Change{Op: cdc.Truncate, Rel: rel}
	for name, c := range map[string]struct {
		rule string
		want []string
	}{
		"literal":              {"collapse: [{over: 1, tags: [\"m-{merchant}\"]}, {over: 2, tags: [all]}]", []string{"1 tag all", "2 key_pattern p:*"}},
		"not literal":          {"collapse: [{over: 1, tags: [some]}, {over: 2, tags: [\"m-{merchant}\"]}]", []string{"1 everything ", "2 key_pattern p:*"}},
		"on_truncate is first": {"on_truncate: {tags: [t]}\ncollapse: {over: 2, tags: [all]}", []string{"1 tag t", "2 key_pattern p:*"}},
	} {
		t.Run(name, func(t *testing.T) {
			opts := testOptions()
			opts.Sinks[keysonly].Takes = invalidation.Kinds(invalidation.Key, invalidation.KeyPattern)
			s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    keys: [\"p:{id}\"]\n    tags: [\"p-{id}\"]\n    sinks: [edge, keysonly]\n"+indent(c.rule)), opts)
			require.NoError(t, err)
			require.ElementsMatch(t, c.want, transaction(t, s, truncated))
		})
	}
}

func TestCollapseByCapture(t *testing.T) {
	opts := testOptions()
	s, err := Parse("rules.yaml", []byte(`
rules:
  - name: x
    table: "tenant_{tenant}.t"
    tags: ["{tenant}-{id}"]
    collapse: {over: 1, tags: ["{tenant}"]}
    sinks: [edge]
`), opts)
	require.NoError(t, err)
	var changes []*cdc.Change
	for _, tenant := range []string{"a", "a", "b"} {
		rel := shopRel(cdc.IdentityFull)
		rel.Schema = "tenant_" + tenant
		changes = append(changes, added(rel, strconv.Itoa(len(changes)), "1", "1"))
	}
	require.Equal(t, []string{"1 tag a", "1 tag b"}, transaction(t, s, changes...), "what is literal in one table is not in all")
}

// Whatever is handed on before the end, the rest is counted together with it.
func TestHandingOnInTheMiddle(t *testing.T) {
	s := edgeRule(t, ladderRule)
	rel := shopRel(cdc.IdentityFull)
	tally, out := s.NewTally(), &recorder{}
	give := func(id, merchant string) { tally.Eval(s.Bind(rel), added(rel, id, merchant, "1"), out) }
	give("1", "1")
	give("2", "1")
	require.Equal(t, []string{"1 tag p-1 <2 m-1 <4 all", "1 tag p-2 <2 m-1 <4 all"}, handedOn(t, tally, 3))
	require.Empty(t, handedOn(t, tally, 3))
	give("1", "1")
	require.Equal(t, []string{"1 tag p-1 <2 m-1 <4 all"}, handedOn(t, tally, 3))
	give("3", "2")
	require.Equal(t, []string{"1 tag m-2 <4 all"}, handedOn(t, tally, 3), "the third value takes the step; those before were handed on")
	give("4", "2")
	give("5", "3")
	require.Equal(t, []string{"1 tag all"}, handedOn(t, tally, 3))
	give("6", "4")
	require.Empty(t, handedOn(t, tally, 3), "all is said")
	require.Empty(t, out.values)
}

// The property of it all, with tags that say what they replace: whatever is
// purged in the end, and whenever parts of it are handed on, it covers what
// would have been purged without collapse; and so does every step of whatever
// was handed on.
func TestPropertyCollapseCovers(t *testing.T) {
	full, byKey := shopRel(cdc.IdentityFull), shopRel(cdc.IdentityDefault)
	value := func(t *rapid.T, name string) string {
		return rapid.SampledFrom([]string{"1", "2", "3", "4", "NULL"}).Draw(t, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		body := "tags: [\"p-{id}\", \"p-{id}-{category}\"]\nsinks: [edge]\n"
		if rapid.Bool().Draw(t, "unknown") {
			body += "unknown: {tags: [all]}\n"
		}
		over := rapid.IntRange(1, 6).Draw(t, "over")
		body += fmt.Sprintf("collapse:\n  - {over: %d, tags: [\"m-{merchant}\"]}\n", over)
		if rapid.Bool().Draw(t, "second") {
			body += fmt.Sprintf("  - {over: %d, tags: [\"c-{category}\"]}\n", over+rapid.IntRange(1, 6).Draw(t, "more"))
		}
		if rapid.Bool().Draw(t, "last") {
			body += "  - {over: 20, tags: [all]}\n"
		}
		s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n"+indent(body)), testOptions())
		require.NoError(t, err)
		plans := map[*cdc.Relation]*Plan{full: s.Bind(full), byKey: s.Bind(byKey)}
		tally := s.NewTally()
		// stands has for each exact value and row what covers it: all tags of one list.
		stands := map[string][][][]string{}
		purged := map[string]bool{}
		direct := &recorder{}
		take := func() {
			require.NoError(t, tally.HandOn(edge, func(g Group) error {
				for _, v := range g.Values {
					purged[v.Value] = true
				}
				return nil
			}))
		}
		for range rapid.IntRange(0, 40).Draw(t, "rows") {
			id := strconv.Itoa(rapid.IntRange(1, 12).Draw(t, "id"))
			c := &cdc.Change{Op: cdc.Insert, Rel: full, New: row(id, value(t, "merchant"), value(t, "category"))}
			switch rapid.IntRange(0, 3).Draw(t, "op") {
			case 1:
				c.Op, c.Old = cdc.Update, row(id, value(t, "old merchant"), value(t, "old category"))
			case 2:
				c.Op, c.Old, c.New = cdc.Delete, c.New, nil
			case 3:
				c.Op, c.Rel, c.Old, c.New = cdc.Delete, byKey, row(id, "ABSENT", "ABSENT"), nil
			}
			var exact recorder
			plans[c.Rel].Eval(c, &exact)
			covers := [][]string{{"1 tag all"}}
			for column, tag := range map[int]string{1: "1 tag m-", 2: "1 tag c-"} {
				var tags []string
				for _, image := range []cdc.Tuple{c.Old, c.New} {
					switch {
					case image != nil && image[column].Kind == cdc.Text:
						tags = append(tags, tag+string(image[column].Data))
					case image != nil:
						tags = append(tags, "what cannot be built")
					}
				}
				covers = append(covers, tags)
			}
			for _, line := range exact.values {
				stands[line] = append(stands[line], append([][]string{{line}}, covers...))
			}
			tally.Eval(plans[c.Rel], c, direct)
			if rapid.IntRange(0, 9).Draw(t, "hand on") == 0 {
				take()
			}
		}
		take()
		got := map[string]bool{}
		for v := range purged {
			got["1 tag "+v] = true
		}
		for _, line := range direct.values {
			got[line] = true
		}
		for line, rows := range stands {
			for _, covers := range rows {
				covered := slices.ContainsFunc(covers, func(all []string) bool {
					return !slices.ContainsFunc(all, func(tag string) bool { return !got[tag] })
				})
				require.True(t, covered, "%s is not covered by %v", line, got)
			}
		}
	})
}

// A transaction of any size is held in the same room.
func TestLargeTransactionsAreHeldInLittle(t *testing.T) {
	rel := shopRel(cdc.IdentityFull)
	for name, c := range map[string]struct {
		steps string
		rows  int
		held  int
	}{
		"a literal step":        {`collapse: {over: 500, tags: [all]}`, 300_000, 3*501 + 3},
		"rising steps":          {`collapse: [{over: 500, tags: ["m-{merchant}"]}, {over: 20000, tags: [all]}]`, 60_000, 3*20_001 + 3},
		"a step of many values": {`collapse: {over: 500, tags: ["m-{id}"]}`, 150_000, MaxHeld + 3},
	} {
		t.Run(name, func(t *testing.T) {
			s := edgeRule(t, "tags: [\"p-{id}\"]\nsinks: [edge]\n"+c.steps)
			plan, tally, out := s.Bind(rel), s.NewTally(), &counter{}
			change := added(rel, "0", "0", "1")
			most, handed := 0, 0
			take := func() {
				require.NoError(t, tally.HandOn(edge, func(g Group) error { handed += len(g.Values); return nil }))
			}
			for n := range c.rows {
				change.New[0].Data = strconv.AppendInt(change.New[0].Data[:0], int64(n), 10)
				change.New[1].Data = strconv.AppendInt(change.New[1].Data[:0], int64(n/2), 10)
				tally.Eval(plan, change, out)
				values, bytes := tally.Held()
				most = max(most, values)
				if tally.Full() {
					take()
				}
				if values > c.held || bytes > MaxHeldBytes+1<<20 {
					require.Failf(t, "too much is held", "%d values, %d bytes after %d rows", values, bytes, n+1)
				}
			}
			take()
			require.Zero(t, out.values)
			t.Logf("%d rows, at most %d values and groups held, %d values handed on", c.rows, most, handed)
		})
	}
}

func TestNeedsOfSteps(t *testing.T) {
	s := edgeRule(t, "tags: [\"p-{id}\"]\nsinks: [edge]\ncollapse: [{over: 5, tags: [\"m-{merchant}\"]}, {over: 9, tags: [\"c-{lower(category)}\"]}]")
	got := map[string]bool{}
	for _, n := range s.Needs() {
		got[n.Column] = n.Collapse
		require.True(t, n.Old)
	}
	require.Equal(t, map[string]bool{"id": false, "merchant": true, "category": true}, got)
}

func TestExplainShowsSteps(t *testing.T) {
	s := edgeRule(t, ladderRule+"every: 30s\n")
	e := s.Explain(t.Context(), added(shopRel(cdc.IdentityFull), "1", "7", "1"), nil)[0]
	require.Len(t, e.Steps, 2)
	require.Equal(t, 2, e.Steps[0].Over)
	require.Equal(t, []string{"m-7"}, e.Steps[0].Templates[0].Values)
	require.Equal(t, []string{"all"}, e.Steps[1].Templates[0].Values)
	require.Equal(t, "30s", e.Every.String())
}
