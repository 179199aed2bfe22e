package rules

import (
	"crypto/md5"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// made is what one template produces for an inserted row: its values, or one of
// "unknown" and "failed".
func made(t testing.TB, template string, rel *cdc.Relation, new cdc.Tuple) string {
	t.Helper()
	s := oneRule(t, "keys:\n  - |-\n    "+template+"\nunknown: {keys: [fallback]}")
	out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: new})
	unknown := slices.Contains(out.verdicts, "0 unknown_value")
	require.Equal(t, unknown, slices.Contains(out.values, "2 key fallback"))
	var values []string
	for _, v := range out.values {
		if v = strings.TrimPrefix(v, "2 key "); v != "fallback" {
			values = append(values, v)
		}
	}
	if slices.Contains(out.verdicts, "0 failed") {
		values = append(values, "failed")
	} else if unknown {
		values = append(values, "unknown")
	}
	return strings.Join(values, ", ")
}

func TestExpressions(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*slug", "*nothing", "*big", "*data:json", "*price:num", "*at:tstz", "*Order ID", "*type", "*list:json")
	data := `{"id": 9007199254740993, "huge": 123456789012345678901234567890, "unsigned": 18446744073709551615, "category": {"id": 5, "name": null},
		"price": 1.50, "big": 1e20, "tags": ["a", null, "b", "a"], "empty": [], "nested": [[1]], "map": {"a": 1}, "flag": true, "text": "x/y"}`
	new := row("42", "Ünï-Slug", "NULL", "UNCHANGED", data, "10.50", "2026-11-20 12:00:00.5+00", "o 1", "book", "[1, 2]")
	for template, want := range map[string]string{
		`{lower(slug)}`: "ünï-slug", `{upper(row.slug)}`: "ÜNÏ-SLUG", `{md5(slug)}`: "1beae46a1d150ceba6c2593bb1ecb71c",
		`{md5(id)}`: "a1d0c6e83f027327d8461063f4ac58a6", `{sha1("a")}`: "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8",
		`{sha256("")}`:            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
		`user:{hashtag(id)}:cart`: "user:{42}:cart", `{urlpath("/a b/ü?")}`: "/a%20b/%C3%BC%3F",
		`{row["Order ID"] + "!"}`: "o 1!", `{"a}b{" + slug.lowerAscii()}`: "a}b{Ünï-slug",
		`{type + ":" + string(id)}`: "book:42",
		// JSON
		`{data.id}`: "9007199254740993", `{data.id + 1}`: "9007199254740994", `{data["id"]}`: "9007199254740993",
		`{data.huge}`: "123456789012345678901234567890", `{data.unsigned}`: "18446744073709551615",
		`{data.category.id}`: "5", `{data.price}`: "1.5", `{data.big}`: "1e+20", `{data.flag}`: "true", `{data.text}`: "x/y",
		`{data.tags[0]}{data.tags[2]}`: "ab", `{data.category.name}`: "", `{data.category.name.first}`: "", `{nothing.a.b}`: "",
		`{data.gone}`: "unknown", `{data.category.gone}`: "unknown", `{data.tags[9]}`: "unknown", `{data.text.gone}`: "failed",
		`{has(data.gone) ? data.gone : "none"}`: "none", `{data.map}`: "failed", `{data.category}`: "failed",
		// NULL, unknown, errors
		`a:{nothing + ""}`: "", `{lower(nothing)}`: "", `{slug + nothing}`: "", `{string(nothing)}`: "", `{null}`: "failed to load",
		`{nothing.replace("a", "b")}`: "", `{md5(nothing)}{gone}`: "", `{lower(gone)}`: "unknown", `{lower(big)}`: "unknown", `{gone}{lower(nothing)}`: "",
		`{nothing == null ? "none" : nothing}`: "none", `{"%s-%s".format([slug, nothing])}`: "",
		`{id / 0}`: "failed", `{slug * 2}`: "failed", `{lower(slug)}{gone}`: "unknown", `{slug.substring(99)}`: "failed",
		// text forms
		`{true ? price : ""}`: "10.50", `{string(price)}`: "10.50", `{price + 0.0}`: "10.5", `{price * 100.0}`: "1050", `{price * 1000000.0}`: "10500000",
		`{true ? at : at}`: "2026-11-20T12:00:00.500000Z", `{string(at)}`: "2026-11-20T12:00:00.500000Z", `{at + duration("1s")}`: "2026-11-20T12:00:01.500000Z",
		`{"%s|%s".format([price, at])}`: "10.50|2026-11-20T12:00:00.500000Z", `{"%d%%%s".format([id, price])}`: "42%10.50", `{"%.1f".format([price])}`: "10.5",
		`{at.getFullYear()}`: "2026", `{math.greatest(id, 50)}`: "50", `{math.ceil(price)}`: "11", `{op}x`: "failed to load", `{op + ""}`: "insert",
		`{b"ab"}`: "6162", `{[slug, type].join("-")}`: "Ünï-Slug-book", `{size(slug)}`: "8", `{id > 5}`: "true",
		// lists
		`t:{data.tags}`: "t:a, t:b", `{data.empty}`: "", `{data.empty}{gone}`: "", `{data.tags}:{list + [3]}`: "a:1, a:2, a:3, b:1, b:2, b:3",
		`{["a", "b"]}{[1, 2]}`: "a1, a2, b1, b2", `{[price, at]}`: "10.50, 2026-11-20T12:00:00.500000Z", `{slug.split("-")}`: "Ünï, Slug",
		`{list.map(x, x * 2)}`: "2, 4", `{list.filter(x, x > 1)}`: "2", `{data.nested}`: "failed", `{list}`: "[1, 2]", `{[[1], "a"]}`: "a, failed",
		`{list.map(x, "p" + string(x))}:{id}`: "p1:42, p2:42", `{data.tags.filter(x, x != null).map(x, x + "!")}`: "a!, b!",
	} {
		t.Run(template, func(t *testing.T) {
			if want == "failed to load" {
				_, err := Parse("f", []byte("rules: [{name: x, table: public.t, keys: ['"+template+"']}]"), testOptions())
				require.ErrorContains(t, err, "a word of the rule language")
				return
			}
			require.Equal(t, want, made(t, template, rel, new))
		})
	}
}

// One template takes all its columns from one image, expressions included.
func TestExpressionImages(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*slug", "*tags:json")
	update := cdc.Change{Op: cdc.Update, Rel: rel, Old: row("7", "A", `["x","y"]`), New: row("8", "B", `["y","z"]`)}
	insert := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("8", "B", `["y"]`)}
	for template, want := range map[string][2][]string{ // update, insert
		`{lower(slug)}:{id}`:           {{"b:8", "a:7"}, {"b:8"}},
		`{lower(slug)}:{new.id}`:       {{"b:8", "a:8"}, {"b:8"}},
		`{lower(old.slug)}`:            {{"a"}, nil},
		`{old.slug + new.slug}`:        {{"AB"}, nil},
		`{lower(old.slug)}:{id}`:       {{"a:8", "a:7"}, nil},
		`{tags.map(x, x)}`:             {{"y", "z", "x"}, {"y"}},
		`{[row.slug, old.slug]}`:       {{"B", "A"}, nil},
		`{"const" + "ant"}`:            {{"constant"}, {"constant"}},
		`{op == "update" ? id : slug}`: {{"8", "7"}, {"B"}},
		`{size(row)}`:                  {{"3"}, {"3"}},
	} {
		s := oneRule(t, "keys:\n  - |-\n    "+template)
		require.Equal(t, keys(want[0]...), eval(t, s, update).values, template)
		require.Equal(t, keys(want[1]...), eval(t, s, insert).values, template)
	}
	remove := cdc.Change{Op: cdc.Delete, Rel: rel, Old: row("7", "A", "[]")}
	require.Equal(t, keys("a:7"), eval(t, oneRule(t, `keys: ["{lower(slug)}:{id}", "{upper(new.slug)}"]`), remove).values)
}

func TestExpressionWithoutTheOldRow(t *testing.T) {
	rel := relation(cdc.IdentityDefault, "*id:int", "slug")
	c := cdc.Change{Op: cdc.Update, Rel: rel, New: row("7", "A")}
	s := oneRule(t, "keys: [\"{lower(slug)}\", \"{string(id)}\"]\nunknown: {keys: [fallback]}")
	out := eval(t, s, c)
	require.Equal(t, keys("a", "7", "fallback"), out.values)
	require.Equal(t, []string{"0 matched", "0 unknown_value"}, out.verdicts, "a column not carried is no failure")
}

// Whatever the type, a column reads the same by copy and through an expression
// that hands it on.
func TestOneTextForm(t *testing.T) {
	for name, c := range map[string]struct {
		oid   uint32
		texts []string
	}{
		"bool": {oidBool, []string{"t", "f"}}, "bytea": {oidBytea, []string{`\x00ff`, `\x`}}, "char": {18, []string{"a"}}, "name": {19, []string{"n"}},
		"int8": {oidInt8, []string{"9007199254740993", "-9223372036854775808"}}, "int2": {oidInt2, []string{"-1"}}, "int4": {oidInt4, []string{"0"}},
		"text": {25, []string{"", "true", "1.50", "a\x00\xff"}}, "oid": {26, []string{"4294967295"}}, "json": {oidJSON, []string{`{"a":  1}`, `[1, 2]`, `"x"`, `1.50`, `null`}},
		"jsonb": {oidJSONB, []string{`{"a": 1.50}`, `[]`, `1e2`}}, "float4": {oidFloat4, []string{"0.1", "1e+20", "NaN"}},
		"float8": {oidFloat8, []string{"1e+15", "100000000000000", "-Infinity", "-0"}}, "money": {790, []string{"$1,000.50"}}, "inet": {869, []string{"10.0.0.1/8"}},
		"bpchar": {1042, []string{"ab  "}}, "varchar": {1043, []string{"x"}}, "date": {oidDate, []string{"2026-11-20", "infinity", "0044-03-15 BC"}}, "time": {1083, []string{"12:00:00.5"}},
		"timestamp":   {oidTimestamp, []string{"2026-11-20 12:00:00.5", "infinity"}},
		"timestamptz": {oidTimestamptz, []string{"2026-11-20 12:00:00.5+00", "infinity", "2026-11-20 12:00:00+00"}},
		"interval":    {1186, []string{"1 day 02:00:00"}}, "numeric": {oidNumeric, []string{"1.50", "123456789012345678901234567890.00", "NaN", "1E400"}},
		"uuid": {2950, []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}}, "enum": {99999, []string{"red"}},
	} {
		for _, text := range c.texts {
			rel := &cdc.Relation{Schema: "public", Name: "t", Identity: cdc.IdentityFull, Columns: []cdc.Column{{Name: "v", TypeOID: c.oid, Key: true}}}
			new := texts([]string{text})
			copied := made(t, "<{v}>", rel, new)
			for _, template := range []string{`<{string(v)}>`, `<{true ? v : v}>`, `<{[v]}>`, `<{"%s".format([v])}>`, `<{row["v"]}>`, `{"<" + string(row["v"])}>`, `<{[[v]][0]}>`} {
				if template == `<{[[v]][0]}>` && c.oid != 25 {
					continue // taken apart and put together: only texts are promised to survive
				}
				if !strings.Contains(text, "\xff") || !strings.Contains(template, "format") {
					require.Equal(t, copied, made(t, template, rel, new), "%s %s %q", name, template, text)
				}
			}
			require.Equal(t, fmt.Sprintf("%x", md5.Sum([]byte(strings.Trim(copied, "<>")))), made(t, `{md5(v)}`, rel, new), "%s %q", name, text)
		}
	}
}

// What expressions make of a row is bounded, whatever is in it.
func TestExpressionsCannotAmplify(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*text", "*data:json")
	long := strings.Repeat("a", 50_000)
	list := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("1,", n), ",") + "]" }
	for template, c := range map[string]struct{ text, data, want string }{
		`{text.replace("", text)}`:                            {long, "[]", "failed"},
		`{md5(text + text)}`:                                  {long, "[]", "failed"},
		`{md5(data.map(x, text).join(""))}`:                   {long, list(100), "failed"},
		`{md5(data.map(x, string(x)).join(text))}`:            {long, list(100), "failed"},
		`{md5("%s%s".format([text, text]))}`:                  {long, "[]", "failed"},
		`{md5(data.map(x, lower(text)).map(x, upper(x))[0])}`: {long, list(3000), "failed"},
		`{data.map(x, data.map(y, x + y).size())}`:            {"", list(1000), "failed"},
		`{data.map(x, x + 0)}`:                                {"", list(1001), "unknown"},
		`{data + []}`:                                         {"", list(1001), "unknown"},
		`{text.split("")}`:                                    {long, "[]", "unknown"},
		`{data + []}{data + []}`:                              {"", list(33), "unknown"},
		`{text + "x"}`:                                        {strings.Repeat("a", invalidation.MaxValue), "[]", "failed"},
		`{text}{upper(text)}`:                                 {long, "[]", "unknown"},
	} {
		require.Equal(t, c.want, made(t, template, rel, row(c.text, c.data)), template)
	}
	require.NotContains(t, made(t, `{md5(text)}`, rel, row(strings.Repeat("a", 1<<20), "[]")), "unknown", "a digest of much is short")
}

func TestExpressionPanicIsUnknown(t *testing.T) {
	s := oneRule(t, "keys: [\"{lower(id)}\"]\nunknown: {keys: [fallback]}")
	s.rules[0].values[invalidation.Key][0].parts[0].expr.program = panicking{}
	out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityFull, "*id"), New: row("7")})
	require.Equal(t, keys("fallback"), out.values)
	require.Equal(t, []string{"0 matched", "0 failed", "0 unknown_value"}, out.verdicts)
}

func TestExpressionsInConditions(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*slug", "*price:num", "*nothing")
	c := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "Shoe", "10.50", "NULL")}
	for when, want := range map[string]string{
		`lower(slug) == "shoe"`: "match", `md5(price) == md5("10.50")`: "match", `string(price) == "10.50"`: "match",
		`slug.lowerAscii() == "x"`: "no", `math.ceil(price) == 11.0`: "match", `lower(nothing) == null`: "match", `lower(gone) == "x"`: "unknown",
		`id in [7, 8] && "%d".format([id]) == "7"`: "match", `nothing + "a" == "a"`: "failed",
	} {
		require.Equal(t, want, outcomeOf(t, whenRule(t, when), c), when)
	}
}

// A NULL anywhere skips the value, something unknown anywhere else makes it
// unknown, and else the values are the product of the parts.
func TestPropertyFanOut(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*a", "*b:json", "*c:json")
	plan := oneRule(t, `keys: ["<{upper(a)}|{b.v}|{c.v}>"]`).Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		a := rapid.SampledFrom([]string{"x", "NULL", "ABSENT", ""}).Draw(r, "a")
		lists := [2]string{}
		var b, c []string
		for i, to := range []*[]string{&b, &c} {
			lists[i] = rapid.SampledFrom([]string{`{"v": [1,2,2]}`, `{"v": []}`, `{"v": null}`, `{}`, `{"v": 3}`, "NULL", "UNCHANGED", `{"v": [null, 4]}`}).Draw(r, "list")
			*to = map[string][]string{`{"v": [1,2,2]}`: {"1", "2"}, `{"v": 3}`: {"3"}, `{"v": [null, 4]}`: {"4"}}[lists[i]]
		}
		var out collector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: row(a, lists[0], lists[1])}, &out)
		nothing := a == "NULL" || slices.ContainsFunc(lists[:], func(l string) bool { return l == "NULL" || l == `{"v": []}` || l == `{"v": null}` })
		unknown := a == "ABSENT" || slices.ContainsFunc(lists[:], func(l string) bool { return l == "UNCHANGED" || l == "{}" })
		var want []string
		for _, x := range b {
			for _, y := range c {
				if !nothing && !unknown {
					want = append(want, "<"+strings.ToUpper(a)+"|"+x+"|"+y+">")
				}
			}
		}
		var got []string
		for _, k := range out.keys {
			got = append(got, string(k))
		}
		require.Equal(r, want, got)
		require.Equal(r, unknown && !nothing, out.unknown)
	})
}

// A double's text reads back as the same number, and as PostgreSQL writes it.
func TestDoubleText(t *testing.T) {
	for f, want := range map[float64]string{0: "0", 1.5: "1.5", 1e14: "100000000000000", 1e15: "1e+15", 0.0001: "0.0001", 0.00001: "1e-05", -1e100: "-1e+100",
		math.Inf(1): "Infinity", math.Inf(-1): "-Infinity", 9007199254740993: "9.007199254740992e+15"} {
		require.Equal(t, want, doubleText(f))
	}
	require.Equal(t, "NaN", doubleText(math.NaN()))
}
