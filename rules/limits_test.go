package rules

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// maxEvaluation ends a test in which an evaluation does not end. Within the limits each takes some
// milliseconds, and without them hours.
const maxEvaluation = 5 * time.Minute

// within fails the test if f does not end.
func within(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(maxEvaluation):
		t.Fatalf("%s does not end", what)
	}
}

// hostileRow has the values for which functions take longest.
func hostileRow() (*cdc.Relation, cdc.Tuple) {
	rel := relation(cdc.IdentityFull, "*id:int", "*v", "*w", "*p", "*doc:json", "*deep:json", "*hash", "*hashed")
	rel.Columns = append(rel.Columns, typed("citexts", cdc.DataType{OID: 90001, Name: "_citext", Delimiter: ',', Elem: &cdc.DataType{OID: 90000, Name: "citext"}}),
		typed("citext", cdc.DataType{OID: 90000, Name: "citext"}))
	half := strings.Repeat("a", 1<<20)
	return rel, row("1", half+half, half[1:]+"b", "(a{500}){9}b", "["+strings.Repeat("1,", 90_000)+"1]",
		strings.Repeat(`{"a":`, 5000)+`"`+strings.Repeat("x", 500_000)+`"`+strings.Repeat("}", 5000),
		strings.Repeat(sameHash1, 100_000), strings.Repeat(sameHash1, 50_000)+sameHash2, "{"+strings.Repeat("x,", 90_000)+"x}", strings.Repeat("A", 1<<20))
}

// sameHash1 and sameHash2 have the same hash in package strings, as long as they stand in the same place.
const sameHash1, sameHash2 = "aihdhjbf", "abdgcekg"

func typed(name string, t cdc.DataType) cdc.Column {
	return cdc.Column{Name: name, Key: true, TypeOID: t.OID, Type: &t}
}

// TestNoRowRunsForLong: each function whose time is more than linear has a limit, past which a condition is
// undecided, and counts as true.
func TestNoRowRunsForLong(t *testing.T) {
	rel, values := hostileRow()
	conditions := []string{
		`row.v.indexOf(row.w) >= 0`,
		`row.v.lastIndexOf("b" + row.w) >= 0`,
		`row.v.indexOf(row.w, 1) >= 0`,
		`row.v.lastIndexOf(row.w, 1000000) >= 0`,
		`row.hash.contains(row.hashed)`,
		`row.hash.indexOf(row.hashed) > 0`,
		`row.hash.split(row.hashed).size() > 7`,
		`row.hash.replace(row.hashed, "") == ""`,
		`row.v.split("").size() == 0`,
		`row.v.matches("(a|aa)+$")`,
		`row.v.matches("(a{500}){2}b")`,
		`row.citext in row.citexts`,
		`row.citexts.exists(c, c == row.citext)`,
		`row.doc.exists(x, row.doc == row.deep)`,
		`row.doc.exists(x, row.doc == row.doc && x == 2)`,
		`row.doc.exists(x, size(row.v) == x)`,
		`row.doc.exists(x, row.v.lowerAscii() == "b")`,
		`row.doc.exists(x, row.v.trim() == row.w)`,
		`row.doc.exists(x, row.v == row.w)`,
		`row.doc.exists(x, row.v.startsWith(row.w))`,
		`row.doc.exists(x, row.v + row.w == "")`,
		`row.doc.all(x, row.doc.all(y, x == y))`,
		`row.doc.map(x, row.doc.map(y, x + y)).size() == 0`,
		`row.doc.filter(x, row.doc.filter(y, y > x).size() > 2).size() == 0`,
		`row.doc.exists(x, x in row.doc && x == 2)`,
		`row.doc.exists(x, [x] in [row.doc])`,
		`"%s".format([row.deep]) == ""`,
		`"%s".format([row.doc]) == ""`,
		`strings.quote(strings.quote(strings.quote(row.v + row.v))) == ""`,
		`base64(base64(base64(base64(base64(base64(row.v)))))) == ""`,
	}
	var file strings.Builder
	file.WriteString("rules:\n")
	for i, when := range conditions {
		fmt.Fprintf(&file, "  - {name: r%d, table: public.t, keys: [k], sinks: [keysonly], when: '%s'}\n", i, when)
	}
	s := mustParse(t, file.String())
	c := cdc.Change{Op: cdc.Insert, Rel: rel, New: values}
	within(t, "an evaluation", func() {
		out := eval(t, s, c)
		for i, when := range conditions {
			require.Contains(t, out.verdicts, fmt.Sprint(i, " unknown_condition"), when)
			require.Contains(t, out.verdicts, fmt.Sprint(i, " exceeded"), when)
		}
	})
}

// TestLongValuesAreUnknown: a value that is longer than expressions are given is unknown to them, and nothing of it
// is copied.
func TestLongValuesAreUnknown(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*v", "*doc:json")
	long, longJSON := strings.Repeat("x", maxOperand+1), `"`+strings.Repeat("x", maxJSON)+`"`
	for when, want := range map[string]string{
		`row.v == "x"`:                    "exceeded",
		`row.v.size() > 5`:                "exceeded",
		`lower(row.v) == "x"`:             "exceeded",
		`row.doc == "x"`:                  "exceeded",
		`row.id == 2 && row.v == "x"`:     "no",
		`row.id == 1 || row.v == "x"`:     "match",
		`changed(v)`:                      "match",
		`row.id == 2 || row.doc.a == "b"`: "exceeded",
	} {
		require.Equal(t, want, outcomeOf(t, whenRule(t, when), cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", long, longJSON)}), when)
	}
	fits, fitsJSON := long[:maxOperand], `"`+strings.Repeat("x", maxJSON-2)+`"`
	for when, want := range map[string]string{`row.v == "x"`: "no", `row.v.size() > 5`: "match", `row.doc == "x"`: "no"} {
		require.Equal(t, want, outcomeOf(t, whenRule(t, when), cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", fits, fitsJSON)}), when)
	}
	// A value of a template takes what unknown names.
	s := oneRule(t, "keys: [\"{md5(v)}\"]\nunknown: {keys: [all]}")
	out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("1", long, "1")})
	require.Equal(t, []string{"2 key all"}, out.values)
	require.Equal(t, []string{"0 matched", "0 failed", "0 exceeded", "0 unknown_value"}, out.verdicts)
}

// TestSearchingAsCEL: indexOf and lastIndexOf give what CEL gives.
func TestSearchingAsCEL(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v", "*w")
	for _, c := range []struct {
		v, w        string
		first, last int
	}{
		{"", "", 0, 0}, {"abc", "", 0, 3}, {"äbäb", "b", 1, 3}, {"äbäb", "ä", 0, 2}, {"äb", "c", -1, -1}, {"a", "ab", -1, -1}, {"日本日本", "日本", 0, 2},
		{"\xffab", "b", 2, 2}, {"aa\xff", "\xff", 2, 2}, {"aaa", "aa", 0, 1},
	} {
		for when, want := range map[string]int{"row.v.indexOf(row.w)": c.first, "row.v.lastIndexOf(row.w)": c.last} {
			require.Equal(t, "match", outcomeOf(t, whenRule(t, fmt.Sprintf("%s == %d", when, want)), cdc.Change{Op: cdc.Insert, Rel: rel, New: row(c.v, c.w)}), "%q %q %s", c.v, c.w, when)
		}
	}
	long := strings.Repeat("a", 1<<20)
	change := cdc.Change{Op: cdc.Insert, Rel: rel, New: row(long+"ä needle", "needle")}
	for _, when := range []string{
		`row.v.indexOf(row.w) == 1048578`, `row.v.contains(row.w)`, `row.v.split(row.w).size() == 2`, `!row.v.matches("^b")`, `row.v.lastIndexOf("ä") == 1048576`, `row.v.startsWith("a")`,
	} {
		require.Equal(t, "match", outcomeOf(t, whenRule(t, when), change), when)
	}
}

// expressions makes conditions of all that the language has, from what random gives.
type expressions struct{ random *rand.Rand }

func (e expressions) one(options ...string) string { return options[e.random.IntN(len(options))] }

func (e expressions) text(depth int) string {
	if depth <= 0 {
		return e.one("row.v", "row.w", "row.p", "row.hash", "row.hashed", "row.citext", `""`, `"a"`, `"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab"`, "string(row.doc)", "op")
	}
	t := func() string { return e.text(depth - 1) }
	switch e.random.IntN(9) {
	case 0:
		return "(" + t() + " + " + t() + ")"
	case 1:
		return t() + "." + e.one("lowerAscii", "upperAscii", "trim", "reverse") + "()"
	case 2:
		return t() + ".replace(" + t() + ", " + t() + ")"
	case 3:
		return t() + ".substring(" + e.number(depth-1) + ")"
	case 4:
		return e.one("md5", "lower", "upper", "sha1", "sha256", "base64", "base64url", "urlpath", "formquery", "hashtag", "strings.quote") + "(" + t() + ")"
	case 5:
		return e.list(depth-1) + ".map(s, string(s)).join(" + t() + ")"
	case 6:
		return `"%s %s".format([` + t() + ", " + e.list(depth-1) + "])"
	case 7:
		return t() + ".charAt(" + e.number(depth-1) + ")"
	}
	return "(" + e.condition(depth-1) + " ? " + t() + " : " + t() + ")"
}

func (e expressions) number(depth int) string {
	if depth <= 0 {
		return e.one("0", "1", "row.id", "1000000")
	}
	return e.one(e.text(depth-1)+".indexOf("+e.text(depth-1)+")", e.text(depth-1)+".lastIndexOf("+e.text(depth-1)+")", e.text(depth-1)+".size()", e.list(depth-1)+".size()")
}

func (e expressions) list(depth int) string {
	if depth <= 0 {
		return e.one("row.doc", "row.citexts", "[row.deep]", "[1, 2]", "[row.v, row.w]")
	}
	return e.one(e.list(depth-1)+".map(x, "+e.text(depth-1)+")", e.list(depth-1)+".filter(x, "+e.condition(depth-1)+")", e.text(depth-1)+".split("+e.text(depth-1)+")")
}

func (e expressions) condition(depth int) string {
	t := func() string { return e.text(depth - 1) }
	switch e.random.IntN(10) {
	case 0:
		return t() + e.one(" == ", " != ", " < ", " >= ") + t()
	case 1:
		return t() + e.one(".contains(", ".startsWith(", ".endsWith(") + t() + ")"
	case 8:
		return t() + `.matches("` + e.one("(a|aa)+$", "(a{500}){2}b", "^b", "[^c]*c") + `")`
	case 2:
		return t() + " in " + e.list(depth-1)
	case 3:
		return e.number(depth-1) + " > " + e.number(depth-1)
	case 4:
		if depth > 0 {
			return e.list(depth-1) + e.one(".exists(", ".all(", ".exists_one(") + "x, " + e.condition(depth-1) + ")"
		}
	case 5:
		return "row.doc == row.deep"
	case 6:
		return "changed(v, doc)"
	case 7:
		if depth > 0 {
			return "(" + e.condition(depth-1) + e.one(" && ", " || ") + e.condition(depth-1) + ")"
		}
	}
	return e.list(depth-1) + e.one(" == ", " != ") + e.list(depth-1)
}

// FuzzExpressions: no expression runs for long, whatever the row holds.
func FuzzExpressions(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed)
	}
	rel, values := hostileRow()
	f.Fuzz(func(t *testing.T, seed uint64) {
		when := expressions{rand.New(rand.NewPCG(seed, 7))}.condition(3)
		s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    keys: [k]\n    sinks: [keysonly]\n    when: |-\n      "+when+"\n"), allOptions())
		if err != nil {
			require.NotContains(t, err.Error(), "set up the expression language")
			s = whenRule(t, "row.id == 1") // it is refused when the rules are loaded
		}
		within(t, when, func() { eval(t, s, cdc.Change{Op: cdc.Update, Rel: rel, New: values, Old: values}) })
	})
}
