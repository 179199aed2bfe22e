package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
)

// arrays is a table with one column v of a type.
func arrays(t cdc.DataType) *cdc.Relation {
	return &cdc.Relation{Schema: "public", Name: "t", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "v", TypeOID: t.OID, Type: &t, Key: true}}}
}

func arrayOf(oid uint32) cdc.DataType {
	return cdc.DataType{OID: 99999, Name: "_x", Elem: &cdc.DataType{OID: oid}, Delimiter: ','}
}

func TestCopyOfArrays(t *testing.T) {
	mood := cdc.DataType{OID: 99999, Name: "_mood", Elem: &cdc.DataType{OID: 99998, Name: "mood", Enum: true}, Delimiter: ','}
	point := cdc.DataType{OID: 99999, Name: "_geo", Elem: &cdc.DataType{OID: 99998, Name: "geo"}, Delimiter: ':'}
	for _, c := range []struct {
		of         cdc.DataType
		text, want string
	}{
		{cdc.BuiltinType(1009), `{a,b}`, "<a>, <b>"},
		{cdc.BuiltinType(1009), `{a}`, "<a>"},
		{cdc.BuiltinType(1009), `{}`, ""},
		{cdc.BuiltinType(1009), `{NULL}`, ""},
		{cdc.BuiltinType(1009), `{a,NULL,"NULL","null",b}`, "<a>, <NULL>, <null>, <b>"},
		{cdc.BuiltinType(1009), `{"a,b","c\"d","e{f}","g\\h"," i ","",ü}`, `<a,b>, <c"d>, <e{f}>, <g\h>, < i >, <>, <ü>`},
		{cdc.BuiltinType(1009), `{a,b,a}`, "<a>, <b>"},
		{cdc.BuiltinType(1009), `[0:1]={a,b}`, "<a>, <b>"},
		{cdc.BuiltinType(1009), `[-2:-2][5:6]={{a,b}}`, "<a>, <b>"},
		{cdc.BuiltinType(1009), `{{a,NULL},{b,"}"}}`, "<a>, <b>, <}>"},
		{cdc.BuiltinType(1007), `{1,-2,NULL}`, "<1>, <-2>"},
		{cdc.BuiltinType(1000), `{t,f}`, "<true>, <false>"},
		{cdc.BuiltinType(1231), `{1.50,NaN}`, "<1.50>, <NaN>"},
		{cdc.BuiltinType(1185), `{"2026-11-20 12:00:00.5+00"}`, "<2026-11-20T12:00:00.500000Z>"},
		{cdc.BuiltinType(1182), `{2026-11-20}`, "<2026-11-20>"},
		{cdc.BuiltinType(1001), `{"\\x00ff"}`, "<00ff>"},
		{cdc.BuiltinType(2951), `{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}`, "<a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11>"},
		{cdc.BuiltinType(1014), `{"ab ","c  "}`, "<ab>, <c>"},
		{cdc.BuiltinType(1020), `{(1,1),(0,0);(2,2),(1,1)}`, "<(1,1),(0,0)>, <(2,2),(1,1)>"},
		{cdc.BuiltinType(3807), `{"{\"a\": [1]}",2}`, `<{"a": [1]}>, <2>`},
		{cdc.BuiltinType(3905), `{"[1,5)"}`, "<[1,5)>"},
		{cdc.DataType{OID: 99999, Name: "_list", Elem: &cdc.DataType{OID: 1009, Elem: &cdc.DataType{OID: 25}, Delimiter: ','}, Delimiter: ','}, `{"{a,\"b c\"}",NULL,"{}","{a,d}"}`, "<a>, <b c>, <d>"},
		{mood, `{sad,"very sad"}`, "<sad>, <very sad>"},
		{point, `{01,02:0102}`, "<01,02>, <0102>"},
		{arrayOf(oidInt8), `{7}`, "<7>"},
		{cdc.BuiltinType(1006), `{"1 2","3"}`, "<1 2>, <3>"},
		// These are printed with blanks, and are texts.
		{cdc.BuiltinType(22), `1 2`, "<1 2>"},
		{cdc.BuiltinType(30), `1 2`, "<1 2>"},
		// What PostgreSQL never prints.
		{cdc.BuiltinType(1009), `a`, "failed"},
		{cdc.BuiltinType(1009), `{a`, "failed"},
		{cdc.BuiltinType(1009), `{a}b`, "failed"},
		{cdc.BuiltinType(1009), `{"a}`, "failed"},
		{cdc.BuiltinType(1009), `{,}`, "failed"},
		{cdc.BuiltinType(1009), strings.Repeat("{", 7) + "a" + strings.Repeat("}", 7), "failed"},
		// A type of which nothing is known may be an array, and may be a text.
		{cdc.BuiltinType(99999), `{a,"b c"}`, `<{a,"b c"}>, <a>, <b c>`},
		{cdc.BuiltinType(99999), `{a`, "<{a>"},
		{cdc.BuiltinType(99999), `sad`, "<sad>"},
	} {
		rel := arrays(c.of)
		require.Equal(t, c.want, made(t, "<{v}>", rel, texts([]string{c.text})), "%+v %s", c.of, c.text)
		require.Equal(t, c.want, made(t, `<{row["v"]}>`, rel, texts([]string{c.text})))
	}
	require.Empty(t, made(t, "<{v}>", arrays(cdc.BuiltinType(1009)), row("NULL")))
	require.Equal(t, "unknown", made(t, "<{v}>", arrays(cdc.BuiltinType(1009)), row("UNCHANGED")))
}

func TestExpressionsOverArrays(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int")
	rel.Columns = append(rel.Columns, cdc.Column{Name: "tags", TypeOID: 1009, Key: true}, cdc.Column{Name: "nums", TypeOID: 1231, Key: true}, cdc.Column{Name: "codes", TypeOID: 1014, Key: true}, cdc.Column{Name: "grid", TypeOID: 1007, Key: true})
	given := texts([]string{"7", `{b,"a,c",NULL}`, "{1.50,2}", `{"x  ","y  "}`, "{{1,2},{3,4}}"})
	for template, want := range map[string]string{
		`<{tags.filter(t, t != null).map(t, upper(t))}>`: "<B>, <A,C>",
		`<{tags[0]}>`:                    "<b>",
		`<{tags[2]}>`:                    "",
		`<{tags[9]}>`:                    "unknown",
		`<{size(tags)}>`:                 "<3>",
		`<{true ? tags : []}>`:           "<b>, <a,c>",
		`<{tags + ["z"]}>`:               "<b>, <a,c>, <z>",
		`<{string(tags)}>`:               `<{b,"a,c",NULL}>`,
		`<{nums}:{tags}>`:                "<1.50:b>, <1.50:a,c>, <2:b>, <2:a,c>",
		`<{nums.map(n, n * 2.0)}>`:       "<3>, <4>",
		`<{codes.map(c, c + "!")}>`:      "<x!>, <y!>",
		`<{grid}>`:                       "<1>, <2>, <3>, <4>",
		`<{grid[1]}>`:                    "<3>, <4>",
		`<{grid[1][0]}>`:                 "<3>",
		`<{lower(tags)}>`:                "failed",
		`<{"b" in tags ? "yes" : "no"}>`: "<yes>",
	} {
		require.Equal(t, want, made(t, template, rel, given), template)
	}
	for when, want := range map[string]string{
		`"b" in tags`: "true", `"a,c" in row.tags`: "true", `"a" in tags`: "false", `"x" in codes`: "true", `"x    " in codes`: "true", `1.5 in nums`: "true", `3 in nums`: "false",
		`tags.exists(t, t == "b")`: "true", `codes.exists(c, c == "y   ")`: "true", `codes.all(c, c == "y")`: "false", `codes[0] == "x "`: "true",
		`size(tags) == 3`: "true", `tags[0] == "b"`: "true", `tags == ["b", "a,c", null]`: "true", `tags == ["b"]`: "false", `codes == ["x", "y"]`: "true",
		`changed(tags)`: "true", `[3, 4] in grid`: "true", `null in tags`: "true", `"b" in old.tags`: "unknown",
	} {
		out := eval(t, oneRule(t, "when: '"+when+"'\nkeys: [k]"), cdc.Change{Op: cdc.Insert, Rel: rel, New: given})
		got := map[bool]string{true: "true", false: "false"}[len(out.values) > 0]
		if strings.Contains(strings.Join(out.verdicts, " "), "unknown_condition") {
			got = "unknown"
		}
		require.Equal(t, want, got, when)
	}
}

// The elements of both rows are purged, those that are gone too.
func TestArraysOfBothImages(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int")
	rel.Columns = append(rel.Columns, cdc.Column{Name: "tags", TypeOID: 1009, Key: true})
	s := allRule(t, "when: changed(tags)\nkeys: ['tag:{tags}', 'was:{old.tags}']\ntags: ['t-{tags}']\nurls: ['https://h/t/{tags}']\nurl_prefixes: ['h/t/{tags}/']")
	update := cdc.Change{Op: cdc.Update, Rel: rel, Old: texts([]string{"7", "{a,b}"}), New: texts([]string{"7", `{b,"ü, c"}`})}
	require.Equal(t, []string{"3 key tag:b", "3 key tag:ü, c", "3 key tag:a", "3 key was:a", "3 key was:b",
		"3 tag t-b", "3 tag t-%C3%BC%2C%20c", "3 tag t-a", "3 url https://h/t/b", "3 url https://h/t/%C3%BC%2C%20c", "3 url https://h/t/a",
		"3 url_prefix h/t/b/", "3 url_prefix h/t/%C3%BC%2C%20c/", "3 url_prefix h/t/a/"}, eval(t, s, update).values)
	update.New = update.Old
	require.Empty(t, eval(t, s, update).values)
	// A hollow element of a prefix is unknown, the others are as good as ever.
	hollow := cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{"7", `{a,""}`})}
	out := eval(t, allRule(t, "url_prefixes: ['h/t/{tags}/']\nunknown: {keys: [all]}"), hollow)
	require.Equal(t, []string{"3 url_prefix h/t/a/", "3 key all"}, out.values)
}

// An array of more elements than a row may have values is not lost: unknown: is purged, else the
// pattern of the template, else an item is parked.
func TestArraysBeyondTheCap(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int")
	rel.Columns = append(rel.Columns, cdc.Column{Name: "tags", TypeOID: 1007, Key: true}, cdc.Column{Name: "more", TypeOID: 1007, Key: true})
	list := func(n int) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprint(i))
		}
		return "{" + strings.Join(all, ",") + "}"
	}
	insert := func(tags, more string) cdc.Change {
		return cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{"7", tags, more})}
	}
	values := func(body string, c cdc.Change) []string { return eval(t, allRule(t, body), c).values }
	require.Len(t, values("keys: ['k:{tags}']", insert(list(1000), "{}")), 1000)
	require.Equal(t, []string{"3 key all"}, values("keys: ['k:{tags}']\nunknown: {keys: [all]}", insert(list(5000), "{}")))
	require.Equal(t, []string{"3 key_pattern k:*"}, values("keys: ['k:{tags}']", insert(list(5000), "{}")))
	require.Equal(t, []string{"3 parked tag t-{tags}"}, values("tags: ['t-{tags}']", insert(list(5000), "{}")))
	require.Equal(t, []string{"3 key k:7", "3 key_pattern t:*"}, values("keys: ['k:{id}', 't:{tags}']", insert(list(5000), "{}")))
	require.Len(t, values("keys: ['k:{tags}:{more}']", insert(list(100), list(10))), 1000)
	require.Equal(t, []string{"3 key_pattern k:*:*"}, values("keys: ['k:{tags}:{more}']", insert(list(100), list(11))))
	require.Len(t, values("keys: ['k:{tags}']", insert("{"+strings.Repeat("5,", 5000)+"5}", "{}")), 1, "each value counts once")
	require.Equal(t, []string{"3 key_pattern k:*"}, values("keys: ['k:{tags}']", insert("{"+strings.Repeat("1", maxArray)+"}", "{}")), "longer than is read")
	long := eval(t, allRule(t, "when: '99 in tags'\nkeys: ['k:{id}']"), insert("{"+strings.Repeat("1,", maxArray/2)+"1}", "{}"))
	require.Equal(t, []string{"3 key k:7"}, long.values, "a condition over it is not decided, which counts as true")
	// In collapse: a step counts as unknown as well.
	require.Equal(t, []string{"3 key k:7"}, values("keys: ['k:{id}']\ncollapse: {over: 5, keys: ['c:{tags}']}", insert(list(5000), "{}")))
}

func TestArraysInLookups(t *testing.T) {
	s := mustParse(t, `
rules:
  - name: x
    table: public.t
    sinks: [keysonly]
    lookup: {m: {sql: "SELECT a FROM b WHERE c = ANY ($1::text[])", args: ["{tags}"]}}
    keys: ["k:{m.a}:{tags}"]
    unknown: {keys: [all]}
`)
	rel := relation(cdc.IdentityFull, "*id:int")
	rel.Columns = append(rel.Columns, cdc.Column{Name: "tags", TypeOID: 1009, Key: true})
	shape := &cdc.Relation{Columns: []cdc.Column{{Name: "a", TypeOID: 1009}}}
	change := cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{"7", `{a,"b c"}`})}
	var asked []string
	var values []string
	for _, e := range s.Explain(t.Context(), &change, func(q Query) Answer {
		asked = q.Args
		return Answer{Shape: shape, Rows: []cdc.Tuple{texts([]string{"{1,2}"}), texts([]string{"{3}"})}}
	}) {
		for _, p := range e.Purges {
			values = append(values, p.Value)
		}
	}
	require.Equal(t, []string{`{a,"b c"}`}, asked, "an argument is the array as PostgreSQL printed it")
	require.Equal(t, []string{"k:1:a", "k:1:b c", "k:2:a", "k:2:b c", "k:3:a", "k:3:b c"}, values)
}

// Whatever the elements, they come out of the text as they went in.
func TestPropertyArrayRoundTrip(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		want := rapid.SliceOf(rapid.StringOf(rapid.RuneFrom([]rune("ab{}\",\\ ;\nNULnulü")))).Draw(rt, "elements")
		quoted := make([]string, len(want))
		for i, s := range want {
			quoted[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
		}
		got, err := parseArray([]byte("{"+strings.Join(quoted, ",")+"}"), ',')
		require.NoError(rt, err)
		require.Len(rt, got, len(want))
		for i := range want {
			require.Equal(rt, want[i], string(got[i].text))
			require.False(rt, got[i].null)
		}
	})
}

func FuzzParseArray(f *testing.F) {
	for _, s := range []string{`{a,"b"}`, `[1:2]={{1,2},{3,4}}`, `{"\\"}`, `{`, `[`, `{a,{b}}`} {
		f.Add([]byte(s), byte(','))
	}
	f.Add([]byte(`{0`), byte(0))
	f.Fuzz(func(_ *testing.T, text []byte, delimiter byte) {
		elements, err := parseArray(text, delimiter)
		if err == nil {
			flat(elements, func([]byte) {})
		}
	})
}
