package rules

import (
	"errors"
	"strings"
	"testing"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func whenRule(t testing.TB, when string) *Set {
	t.Helper()
	return oneRule(t, "keys: [hit]\nwhen: |\n  "+when)
}

// outcomeOf is "match", "no", "unknown" or "failed" (unknown for another
// reason than a column not carried).
func outcomeOf(t testing.TB, s *Set, c cdc.Change) string {
	t.Helper()
	out := eval(t, s, c)
	switch verdicts := strings.Join(out.verdicts, ","); verdicts {
	case "":
		require.Empty(t, out.values)
		return "no"
	case "0 matched":
		require.Equal(t, keys("hit"), out.values)
		return "match"
	case "0 matched,0 unknown_condition":
		require.Equal(t, keys("hit"), out.values, "unknown matches")
		return "unknown"
	case "0 matched,0 unknown_condition,0 failed":
		require.Equal(t, keys("hit"), out.values, "unknown matches")
		return "failed"
	case "0 matched,0 unknown_condition,0 failed,0 exceeded":
		require.Equal(t, keys("hit"), out.values, "unknown matches")
		return "exceeded"
	default:
		return verdicts
	}
}

func TestWhen(t *testing.T) {
	full := relation(cdc.IdentityFull, "*id:int", "*price:num", "*status", "*live:bool", "*data:json", "*at:tstz", "*type", "*day:date", "*f:float", "*Order ID")
	data := `{"n": 9007199254740993, "list": [1, 2, 3], "deep": {"id": 5}, "x": 1.5}`
	before := row("7", "10.50", "draft", "f", data, "2026-11-20 12:00:00.5+00", "book", "2026-11-20", "NaN", "o1")
	after := row("7", "9.50", "live", "t", data, "2026-11-20 12:00:00.5+00", "book", "2026-11-20", "1e3", "o1")
	insert := cdc.Change{Op: cdc.Insert, Rel: full, New: after}
	update := cdc.Change{Op: cdc.Update, Rel: full, Old: before, New: after}
	remove := cdc.Change{Op: cdc.Delete, Rel: full, Old: before}

	for when, want := range map[string][3]string{ // insert, update, delete
		`true`:  {"match", "match", "match"},
		`false`: {"no", "no", "no"},
		`id == 7 && row.id == 7 && row["id"] < 7.5`: {"match", "match", "match"},
		`status == "live"`:                          {"match", "match", "no"},
		`status == "draft"`:                         {"no", "match", "match"},
		`row.status != "draft"`:                     {"match", "match", "no"},
		`price > 10`:                                {"no", "match", "match"},
		`price < 10`:                                {"match", "match", "no"},
		`live`:                                      {"match", "match", "no"},
		`op == "update"`:                            {"no", "match", "no"},
		`changed(status)`:                           {"match", "match", "match"},
		`changed(id)`:                               {"match", "no", "match"},
		`changed(id, row.price, row["Order ID"])`:  {"match", "match", "match"},
		`changed(id, data, type)`:                  {"match", "no", "match"},
		`changed(gone)`:                            {"match", "unknown", "match"},
		`changed(gone, status)`:                    {"match", "match", "match"},
		`changed(gone, id)`:                        {"match", "unknown", "match"},
		`old.status != new.status`:                 {"unknown", "match", "unknown"},
		`op == "insert" || old.price > new.price`:  {"match", "match", "unknown"},
		`op == "update" && old.price > new.price`:  {"no", "match", "no"},
		`op == "update" && old.price < new.price`:  {"no", "no", "no"},
		`data.n == 9007199254740993`:               {"match", "match", "match"},
		`data.n == 9007199254740992`:               {"no", "no", "no"},
		`data.deep.id == 5 && data.x == 1.5`:       {"match", "match", "match"},
		`data.list.exists(x, x == 2)`:              {"match", "match", "match"},
		`data.list.exists(id, id == 9)`:            {"no", "no", "no"}, // id is the loop's here
		`data.gone == 5`:                           {"failed", "failed", "failed"},
		`has(data.gone)`:                           {"no", "no", "no"},
		`has(row.gone)`:                            {"unknown", "unknown", "unknown"},
		`gone == 5`:                                {"unknown", "unknown", "unknown"},
		`gone == 5 || true`:                        {"match", "match", "match"},
		`gone == 5 && false`:                       {"no", "no", "no"},
		`!(gone == 5)`:                             {"unknown", "unknown", "unknown"},
		`gone == 5 || status == "live"`:            {"match", "match", "unknown"},
		`type == "book"`:                           {"match", "match", "match"}, // a column, not CEL's type
		`at > timestamp("2026-11-20T12:00:00Z")`:   {"match", "match", "match"},
		`at.getHours() == 12`:                      {"match", "match", "match"},
		`day == timestamp("2026-11-20T00:00:00Z")`: {"match", "match", "match"},
		`f == 1000`:                                {"match", "match", "no"},
		`id / 0 == 1`:                              {"failed", "failed", "failed"},
		`status`:                                   {"failed", "failed", "failed"},
		`status * 5 == 10`:                         {"failed", "failed", "failed"},
		`row.exists(c, c == "price")`:              {"match", "match", "match"},
		`row.exists(c, row[c] == "live")`:          {"match", "match", "no"},
		`"Order ID" in row && size(row) == 10`:     {"match", "match", "match"},
		`old == new`:                               {"unknown", "no", "unknown"},
	} {
		t.Run(when, func(t *testing.T) {
			s := whenRule(t, when)
			require.Equal(t, want, [3]string{outcomeOf(t, s, insert), outcomeOf(t, s, update), outcomeOf(t, s, remove)})
		})
	}
}

func TestWhenWithoutTheOldRow(t *testing.T) {
	rel := relation(cdc.IdentityDefault, "*id:int", "status", "body")
	c := cdc.Change{Op: cdc.Update, Rel: rel, New: row("7", "live", "UNCHANGED")}
	for when, want := range map[string]string{
		`id == 7`: "match", `id == 8`: "no", `changed(id)`: "no", `changed(status)`: "unknown",
		`status == "live"`: "match", `status == "draft"`: "unknown", `new.status == "draft"`: "no",
		`old.status == "draft"`: "unknown", `body == "x"`: "unknown", `body == "x" || id == 7`: "match",
		`changed(status) && id == 8`: "no", `changed(body)`: "unknown",
	} {
		require.Equal(t, want, outcomeOf(t, whenRule(t, when), c), when)
	}
}

// The column that is not known may be the table's first.
func TestChangedWithUnknownFirstColumn(t *testing.T) {
	rel := relation(cdc.IdentityDefault, "body", "*id:int")
	c := cdc.Change{Op: cdc.Update, Rel: rel, Old: row("ABSENT", "6"), New: row("UNCHANGED", "7")}
	require.Equal(t, "match", outcomeOf(t, whenRule(t, "changed(id)"), c))
	require.Equal(t, "unknown", outcomeOf(t, whenRule(t, "changed(body)"), c))
	require.Equal(t, "match", outcomeOf(t, whenRule(t, "changed(body, id)"), c))
	require.Equal(t, "unknown", outcomeOf(t, whenRule(t, "old == new"), c))
	require.Equal(t, "unknown", outcomeOf(t, whenRule(t, "row.exists(c, row[c] == 1)"), c))
	require.Equal(t, "match", outcomeOf(t, whenRule(t, `"body" in row`), c))
}

func TestWhenNull(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*a:int", "*b")
	c := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("NULL", "")}
	for when, want := range map[string]string{
		`a == null`: "match", `a != null`: "no", `a == 5`: "no", `b == null`: "no", `b == ""`: "match", `a > 5`: "failed",
	} {
		require.Equal(t, want, outcomeOf(t, whenRule(t, when), c), when)
	}
	update := cdc.Change{Op: cdc.Update, Rel: rel, Old: row("NULL", ""), New: row("NULL", "NULL")}
	require.Equal(t, "no", outcomeOf(t, whenRule(t, "changed(a)"), update))
	require.Equal(t, "match", outcomeOf(t, whenRule(t, "changed(b)"), update), "empty and NULL differ")
}

// The views keep converted values for one change; the next must not see them.
func TestWhenForgetsTheLastChange(t *testing.T) {
	p := whenRule(t, `status == "live"`).Bind(relation(cdc.IdentityFull, "*id", "*status"))
	for _, status := range []string{"live", "draft", "live", "draft"} {
		var out recorder
		p.Eval(&cdc.Change{Op: cdc.Insert, Rel: p.rel, New: row("1", status)}, &out)
		require.Equal(t, status == "live", len(out.values) == 1)
	}
}

// A loop over a long list ends by its limits, and undecided means a match. The
// limits count, so this needs no clock; a loop without them would not end.
func TestWhenHostileRowCannotHang(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*data:json", "*text")
	for when, c := range map[string]struct {
		elements int
		text     string
	}{
		`data.all(a, data.all(b, data.all(c, a + b + c > 0)))`: {20_000, ""},
		`data.exists(x, x == 2)`:                               {maxIterations + 1, ""},
		`data.exists(x, text.contains(string(x) + "z"))`:       {4_000, strings.Repeat("1", 1<<20)},
		`data.all(x, !text.matches("(1|2)*z"))`:                {4_000, strings.Repeat("1", 1<<20)},
		`text.replace("", text) == "x"`:                        {0, strings.Repeat("1", 1<<20)},
		`text.split("").join(text) == "x"`:                     {0, strings.Repeat("1", 1<<16)},
		`data.map(x, text + "z").size() == 0`:                  {4_000, strings.Repeat("1", 1<<20)},
		`data.map(x, lower(text)).size() == 0`:                 {4_000, strings.Repeat("1", 1<<20)},
	} {
		list := "[" + strings.Repeat("1,", c.elements) + "1]"
		require.Equal(t, "exceeded", outcomeOf(t, whenRule(t, when), cdc.Change{Op: cdc.Insert, Rel: rel, New: row(list, c.text)}), when)
	}
	list := "[" + strings.Repeat("1,", maxIterations-2) + "1]"
	require.Equal(t, "no", outcomeOf(t, whenRule(t, `data.exists(x, x == 2)`), cdc.Change{Op: cdc.Insert, Rel: rel, New: row(list, "")}))
}

// Each evaluation has the whole limit for itself.
func TestWhenLimitIsPerEvaluation(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*data:json")
	list := "[" + strings.Repeat("1,", maxIterations/2) + "1]"
	p := whenRule(t, `data.exists(x, x == 2)`).Bind(rel)
	for range 5 {
		var out recorder
		p.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row(list)}, &out)
		require.Empty(t, out.verdicts)
	}
}

// panicking stands in for a program with a fault in it.
type panicking struct{ cel.Program }

func (panicking) Eval(any) (ref.Val, *cel.EvalDetails, error) { panic(errors.New("boom")) }

func TestWhenPanicIsUnknown(t *testing.T) {
	s := whenRule(t, "id == 7")
	s.rules[0].when.program = panicking{}
	c := cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityFull, "*id"), New: row("7")}
	require.Equal(t, "failed", outcomeOf(t, s, c))
}

// An UPDATE without a new row has moved the row to where the log has none: what is asked of the old row
// is known, and what is asked of the new one is not.
func TestMovedToAForeignPartition(t *testing.T) {
	rel := relation(cdc.IdentityDefault, "*id:int", "*day:int", "note")
	moved := cdc.Change{Op: cdc.Update, Rel: rel, Old: row("7", "1", "ABSENT")}
	for when, want := range map[string]string{
		`op == "update"`: "match", `op == "delete"`: "no", `id == 7`: "match", `id == 8`: "no", `day == 2`: "no",
		`changed(day)`: "unknown", `new.day == 2`: "unknown", `old.day == 1`: "match", `note == "x"`: "unknown",
	} {
		require.Equal(t, want, outcomeOf(t, whenRule(t, when), moved), when)
	}
	out := eval(t, oneRule(t, "ops: [update]\nkeys: ['{id}', '{old.day}']"), moved)
	require.Equal(t, append(keys("7"), keys("1")...), out.values)
	require.Equal(t, []string{"0 matched"}, out.verdicts, "nothing that cannot be built")
	out = eval(t, oneRule(t, "ops: [update]\nkeys: ['{old.day}-{new.day}']\nunknown: {keys: [all]}"), moved)
	require.Equal(t, keys("all"), out.values)
	out = eval(t, oneRule(t, "ops: [delete]\nkeys: ['{id}']"), moved)
	require.Empty(t, out.values)
}
