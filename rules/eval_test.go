package rules

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// recorder keeps what Eval hands over, as "sink kind value" and "rule verdict".
type recorder struct {
	noLookups
	values   []string
	verdicts []string
}

func (r *recorder) Invalidate(_, sink int, k invalidation.Kind, value []byte) {
	r.values = append(r.values, fmt.Sprintf("%d %s %s", sink, k, value))
}

func (r *recorder) Fallback(_, sink int, f *Fallback) {
	if f.Parked() {
		r.values = append(r.values, fmt.Sprintf("%d parked %s %s", sink, f.Of, f.Template))
		return
	}
	r.values = append(r.values, fmt.Sprintf("%d %s %s", sink, f.Kind, f.Value))
}

func (r *recorder) Verdict(rule int, v Verdict) {
	r.verdicts = append(r.verdicts, fmt.Sprintf("%d %s", rule, v))
}

// relation has a text column for each plain name, or the type named after a
// colon; a * marks the replica identity.
func relation(identity cdc.Identity, columns ...string) *cdc.Relation {
	oids := map[string]uint32{"": 25, "int": oidInt8, "bool": oidBool, "tstz": oidTimestamptz, "ts": oidTimestamp, "date": oidDate, "json": oidJSONB, "num": oidNumeric, "bytea": oidBytea, "float": oidFloat8}
	r := &cdc.Relation{Schema: "public", Name: "t", Identity: identity}
	for _, c := range columns {
		name, typ, _ := strings.Cut(strings.TrimPrefix(c, "*"), ":")
		r.Columns = append(r.Columns, cdc.Column{Name: name, TypeOID: oids[typ], Key: strings.HasPrefix(c, "*")})
	}
	return r
}

// row reads values: NULL, ABSENT, UNCHANGED, or a text.
func row(values ...string) cdc.Tuple {
	t := make(cdc.Tuple, len(values))
	for i, v := range values {
		switch v {
		case "NULL":
			t[i].Kind = cdc.Null
		case "ABSENT":
			t[i].Kind = cdc.Absent
		case "UNCHANGED":
			t[i].Kind = cdc.Unchanged
		default:
			t[i] = cdc.Value{Kind: cdc.Text, Data: []byte(v)}
		}
	}
	return t
}

func eval(t testing.TB, s *Set, c cdc.Change) recorder {
	t.Helper()
	p := s.Bind(c.Rel)
	require.NotNil(t, p)
	var out recorder
	p.Eval(&c, &out)
	return out
}

// oneRule is a set of a single rule on public.t for the sink keysonly.
func oneRule(t testing.TB, body string) *Set {
	t.Helper()
	return mustParse(t, "rules:\n  - name: x\n    table: public.t\n    sinks: [keysonly]\n"+indent(body))
}

func indent(body string) string {
	var sb strings.Builder
	for line := range strings.Lines(body) {
		sb.WriteString("    " + line)
	}
	return sb.String()
}

func keys(values ...string) []string {
	var out []string
	for _, v := range values {
		out = append(out, "2 key "+v)
	}
	return out
}

func TestBindKnowsItsTables(t *testing.T) {
	s := oneRule(t, "keys: [home]")
	require.Nil(t, s.Bind(&cdc.Relation{Schema: "public", Name: "other"}))
	require.Nil(t, s.Bind(&cdc.Relation{Schema: "other", Name: "t"}))
	require.NotNil(t, s.Bind(&cdc.Relation{Schema: "public", Name: "t"}))
}

func TestImages(t *testing.T) {
	full := relation(cdc.IdentityFull, "*id", "*slug", "*body")
	byKey := relation(cdc.IdentityDefault, "*id", "slug", "body")
	for name, c := range map[string]struct {
		rule   string
		change cdc.Change
		want   []string
		not    bool // an unknown value is reported
	}{
		"insert":                            {`keys: ["p:{id}:{slug}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", "b")}, keys("p:7:a"), false},
		"delete":                            {`keys: ["p:{id}:{slug}"]`, cdc.Change{Op: cdc.Delete, Rel: full, Old: row("7", "a", "b")}, keys("p:7:a"), false},
		"update, both, columns together":    {`keys: ["p:{id}:{slug}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "x"), New: row("8", "b", "x")}, keys("p:8:b", "p:7:a"), false},
		"update, equal values once":         {`keys: ["p:{id}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "x"), New: row("7", "b", "x")}, keys("p:7"), false},
		"two templates in one order":        {`keys: ["s:{slug}", "p:{id}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "x"), New: row("7", "b", "x")}, keys("s:b", "s:a", "p:7"), false},
		"old and new fixed":                 {`keys: ["{old.slug}>{new.slug}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "x"), New: row("7", "b", "x")}, keys("a>b"), false},
		"old mixed with each":               {`keys: ["{old.slug}:{id}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "x"), New: row("8", "b", "x")}, keys("a:8", "a:7"), false},
		"old on insert is nothing":          {`keys: ["{old.slug}", "{old.slug}{id}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", "b")}, nil, false},
		"new on delete is nothing":          {`keys: ["{new.slug}"]`, cdc.Change{Op: cdc.Delete, Rel: full, Old: row("7", "a", "b")}, nil, false},
		"null skips that image":             {`keys: ["s:{slug}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "NULL", "x"), New: row("7", "b", "x")}, keys("s:b"), false},
		"null wins over unknown":            {`keys: ["{slug}{gone}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "NULL", "x")}, nil, false},
		"empty text is a value":             {`keys: ["s:{slug}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "", "x")}, keys("s:"), false},
		"nothing at all is no value":        {`keys: ["{slug}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "", "x")}, nil, false},
		"no old row: identity is the same":  {`keys: ["p:{id}"]`, cdc.Change{Op: cdc.Update, Rel: byKey, New: row("7", "b", "x")}, keys("p:7"), false},
		"no old row: the rest is unknown":   {`keys: ["s:{slug}"]`, cdc.Change{Op: cdc.Update, Rel: byKey, New: row("7", "b", "x")}, keys("s:b", "fallback"), true},
		"key changed: the rest is unknown":  {`keys: ["{id}:{slug}"]`, cdc.Change{Op: cdc.Update, Rel: byKey, Old: row("6", "ABSENT", "ABSENT"), New: row("7", "b", "x")}, keys("7:b", "fallback"), true},
		"delete by key":                     {`keys: ["p:{id}", "s:{slug}"]`, cdc.Change{Op: cdc.Delete, Rel: byKey, Old: row("7", "ABSENT", "ABSENT")}, keys("p:7", "fallback"), true},
		"toast, identity full":              {`keys: ["b:{body}"]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "big"), New: row("7", "b", "UNCHANGED")}, keys("b:big"), false},
		"toast, unknown":                    {`keys: ["b:{body}"]`, cdc.Change{Op: cdc.Update, Rel: byKey, New: row("7", "b", "UNCHANGED")}, keys("fallback"), true},
		"no old row without an identity":    {`keys: ["p:{id}"]`, cdc.Change{Op: cdc.Update, Rel: relation(cdc.IdentityNothing, "*id"), New: row("7")}, keys("p:7", "fallback"), true},
		"column that the table lacks":       {`keys: ["g:{gone}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", "x")}, keys("fallback"), true},
		"short tuple":                       {`keys: ["b:{body}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7")}, keys("fallback"), true},
		"over the cap":                      {`keys: ["b:{body}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", strings.Repeat("x", invalidation.MaxValue-1))}, keys("fallback"), true},
		"at the cap":                        {`keys: ["b:{body}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", strings.Repeat("x", invalidation.MaxValue-2))}, keys("b:" + strings.Repeat("x", invalidation.MaxValue-2)), false},
		"fixed key once":                    {`keys: [home]`, cdc.Change{Op: cdc.Update, Rel: full, Old: row("7", "a", "x"), New: row("8", "b", "x")}, keys("home"), false},
		"literal braces":                    {`keys: ["u:{'{'}{ id }{'}'}:cart"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", "x")}, keys("u:{7}:cart"), false},
		"bytes are left alone":              {`keys: ["s:{slug}"]`, cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", " A*\n{x}\x00\xff ", "x")}, keys("s: A*\n{x}\x00\xff "), false},
		"operation not listed":              {"keys: [home]\nops: [update]", cdc.Change{Op: cdc.Insert, Rel: full, New: row("7", "a", "x")}, nil, false},
		"column named by index, any letter": {`keys: ['o:{row["slug"]}:{old["slug"]}']`, cdc.Change{Op: cdc.Delete, Rel: full, Old: row("7", "a", "x")}, keys("o:a:a"), false},
	} {
		t.Run(name, func(t *testing.T) {
			out := eval(t, oneRule(t, c.rule+"\nunknown: {keys: [fallback]}"), c.change)
			require.Equal(t, c.want, out.values)
			require.Equal(t, c.not, slices.Contains(out.verdicts, "0 unknown_value"))

			without := eval(t, oneRule(t, c.rule), c.change)
			require.Equal(t, out.verdicts, without.verdicts, "reported without unknown: too")
			require.NotContains(t, without.values, "2 key fallback")
		})
	}
}

func TestRoutesByKind(t *testing.T) {
	s := mustParse(t, `
rules:
  - name: a
    table: public.t
    keys: ["k:{id}"]
    tags: ["t:{gone}"]
    unknown: {tags: [all], keys: [every]}
`)
	out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityDefault, "*id"), New: row("7")})
	require.Equal(t, []string{"0 key k:7", "2 key k:7", "0 key every", "2 key every", "0 tag all", "1 tag all"}, out.values)
	require.Equal(t, []string{"0 matched", "0 unknown_value"}, out.verdicts)
}

func TestTextForms(t *testing.T) {
	rel := relation(cdc.IdentityFull, "v")
	for _, c := range []struct {
		oid      uint32
		in, want string
	}{
		{oidBool, "t", "true"}, {oidBool, "f", "false"}, {oidBytea, `\x00ff`, "00ff"}, {oidBytea, `\x`, ""},
		{oidTimestamptz, "2026-11-20 12:00:00.5+00", "2026-11-20T12:00:00.500000Z"},
		{oidTimestamptz, "2026-11-20 12:00:00+00", "2026-11-20T12:00:00.000000Z"},
		{oidTimestamptz, "2026-11-20 12:00:00.123456+00", "2026-11-20T12:00:00.123456Z"},
		{oidTimestamptz, "infinity", "infinity"}, {oidTimestamptz, "-infinity", "-infinity"},
		{oidTimestamptz, "0044-03-15 12:00:00+00 BC", "0044-03-15 12:00:00+00 BC"},
		{oidTimestamptz, "12026-11-20 12:00:00+00", "12026-11-20 12:00:00+00"},
		{oidTimestamptz, "2026-11-20 12:00:00.+00", "2026-11-20 12:00:00.+00"},
		{oidTimestamptz, "2026-11-20 12:00:00+02", "2026-11-20 12:00:00+02"},
		{oidTimestamp, "2026-11-20 12:00:00.5", "2026-11-20 12:00:00.5"},
		{oidNumeric, "1.50", "1.50"}, {25, "true", "true"}, {oidJSONB, `{"a": 1}`, `{"a": 1}`},
	} {
		rel.Columns[0].TypeOID = c.oid
		out := eval(t, oneRule(t, `keys: ["<{v}>"]`), cdc.Change{Op: cdc.Insert, Rel: rel, New: row(c.in)})
		require.Equal(t, keys("<"+c.want+">"), out.values)
	}
}

func TestNeeds(t *testing.T) {
	s := mustParse(t, `
rules:
  - name: a
    table: public.t
    when: changed(price) && row.status != "x" && new.kind == "y"
    keys: ["k:{id}:{old.slug}", "n:{new.id}", "m:{new.late}"]
    tags: ["t:{merchant}"]
    unknown: {keys: [all]}
  - name: b
    table: public.t
    ops: [insert]
    keys: ["k:{id}"]
  - name: c
    table: public.t
    keys: ["{lower(slug)}:{old.lang}", "{data.a.b + new.late}", "{row['Order ID'] + slug}"]
`)
	got := map[string]string{}
	for _, n := range s.Needs() {
		require.Equal(t, Table{Schema: "public", Name: "t"}, n.Table)
		require.Equal(t, "rules.yaml", n.File)
		got[n.Rule+"."+n.Column] = fmt.Sprintf("line %d old %v when %v unknown %v", n.Line, n.Old, n.When, n.HasUnknown)
	}
	require.Equal(t, map[string]string{
		"a.price":    "line 5 old true when true unknown true",
		"a.status":   "line 5 old true when true unknown true",
		"a.kind":     "line 5 old false when true unknown true",
		"a.id":       "line 6 old true when false unknown true",
		"a.slug":     "line 6 old true when false unknown true",
		"a.late":     "line 6 old false when false unknown true",
		"a.merchant": "line 7 old true when false unknown false", // edge takes no keys
		"b.id":       "line 12 old false when false unknown false",
		"c.slug":     "line 15 old true when false unknown false",
		"c.lang":     "line 15 old true when false unknown false",
		"c.data":     "line 15 old true when false unknown false",
		"c.late":     "line 15 old false when false unknown false",
		"c.Order ID": "line 15 old true when false unknown false",
	}, got)
}
