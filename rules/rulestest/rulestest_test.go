package rulestest

import (
	"bytes"
	"context"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// report is what a suite's failures look like, in lines.
func report(t *testing.T, s *Suite) (text string, passed int) {
	t.Helper()
	var b strings.Builder
	for _, r := range s.Run() {
		if r.Passed() {
			passed++
			continue
		}
		fmt.Fprintf(&b, "%s:%d: %s\n%s\n", r.File, r.Line, r.Name, strings.Join(r.Diff, "\n"))
	}
	return b.String(), passed
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return string(data)
}

func TestGood(t *testing.T) {
	t.Chdir("testdata")
	s, err := Load("good_test.yaml", Options{})
	require.NoError(t, err)
	text, passed := report(t, s)
	require.Empty(t, text)
	require.Equal(t, 6, passed)
}

func TestFailing(t *testing.T) {
	t.Chdir("testdata")
	s, err := Load("failing_test.yaml", Options{})
	require.NoError(t, err)
	text, passed := report(t, s)
	require.Equal(t, read(t, "failing.want"), text)
	require.Equal(t, 1, passed)
}

func TestUnusable(t *testing.T) {
	t.Chdir("testdata")
	files, err := filepath.Glob("bad/*_test.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		_, err := Load(file, Options{})
		require.Error(t, err, file)
		require.Equal(t, read(t, strings.TrimSuffix(file, "_test.yaml")+".want"), err.Error()+"\n")
	}
	_, err = Load("gone_test.yaml", Options{})
	require.ErrorIs(t, err, os.ErrNotExist)
}

// load writes a rules file and a test file.
func load(t *testing.T, ruleLines, tests string, sinks ...rules.SinkSpec) (*Suite, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	require.NoError(t, os.WriteFile("shop.yaml", []byte(ruleLines), 0o600))
	require.NoError(t, os.WriteFile("shop_test.yaml", []byte("rules: [shop.yaml]\ntests:\n"+tests), 0o600))
	return Load("shop_test.yaml", Options{Sinks: sinks})
}

// What a sink is given counts or not, by what is known of the sinks.
func TestSinks(t *testing.T) {
	const named = `rules: [{name: a, table: public.t, keys: ["k:{id}"], tags: ["t-{id}"], sinks: [cache, edge]}]`
	const open = `rules: [{name: a, table: public.t, keys: ["k:{id}"], tags: ["t-{id}"]}]`
	const change = `  - {name: x, table: public.t, insert: {id: 7}, expect: `
	configured := []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}, {Name: "edge", Takes: invalidation.Kinds(invalidation.Key, invalidation.Tag)}}
	for name, c := range map[string]struct {
		rules, expect string
		sinks         []rules.SinkSpec
		want          string
	}{
		"each its kind":         {named, `{cache: {keys: ["k:7"]}, edge: {tags: [t-7]}}}`, nil, ""},
		"open":                  {open, `{cache: {keys: ["k:7"]}, edge: {tags: [t-7]}}}`, nil, ""},
		"open, over all":        {open, `{keys: ["k:7"], tags: [t-7]}}`, nil, ""},
		"open, any":             {open, `{any: {keys: ["k:7"], tags: [t-7]}}}`, nil, ""},
		"open, any, incomplete": {open, `{any: {keys: ["k:7"]}}}`, nil, "any tags:\n  + t-7  (rule a)\n"},
		"a kind that is not expected": {named, `{cache: {keys: ["k:7"]}}}`, nil,
			"cache tags:\n  + t-7  (rule a)\nedge tags:\n  + t-7  (rule a)\n"},
		"a kind named for nothing": {named, `{cache: {keys: ["k:7"], tags: []}, edge: {tags: [t-7]}}}`, nil, "cache tags:\n  + t-7  (rule a)\n"},
		"not where it is expected": {`rules: [{name: a, table: public.t, keys: ["k:{id}"], sinks: [cache]}, {name: b, table: public.t, tags: [b], sinks: [edge]}]`,
			`{edge: {keys: ["k:7"], tags: [b]}}}`, nil, "cache keys:\n  + k:7  (rule a)\nedge keys:\n  - k:7\n"},
		"configured": {open, `{cache: {keys: ["k:7"]}, edge: {tags: [t-7]}}}`, configured, "edge keys:\n  + k:7  (rule a)\n"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := load(t, c.rules, change+c.expect+"\n", c.sinks...)
			require.NoError(t, err)
			text, _ := report(t, s)
			_, diff, _ := strings.Cut(text, "\n")
			require.Equal(t, c.want, diff)
		})
	}
	_, err := load(t, open, change+"{cahce: {keys: [a]}}}\n", configured...)
	require.ErrorContains(t, err, `shop_test.yaml:3:58: expect: there is no sink "cahce"; did you mean "cache"?`)
}

func shape(c *cdc.Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s", c.Op, c.Rel, c.Rel.Identity)
	for _, column := range c.Rel.Columns {
		fmt.Fprintf(&b, " %s:%d", column.Name, column.TypeOID)
		if column.Key {
			b.WriteByte('*')
		}
	}
	for _, t := range []cdc.Tuple{c.Old, c.New} {
		b.WriteString("\n")
		for i, v := range t {
			if i > 0 {
				b.WriteString("|")
			}
			switch v.Kind {
			case cdc.Absent:
				b.WriteString("ABSENT")
			case cdc.Null:
				b.WriteString("NULL")
			default:
				b.Write(v.Data)
			}
		}
	}
	return b.String()
}

// A change is what the stream would carry: text, types, and what the replica
// identity leaves of the old row.
func TestParseChange(t *testing.T) {
	for text, want := range map[string]string{
		`{table: public.t, insert: {a: 1, b: -1.50, c: true, d: False, e: null, f: x y, g: "7", h: 1e3, i: 9223372036854775808, j: 2026-11-20 12:00:00+00, k: "true"}}`: "insert public.t FULL a:20* b:1700* c:16* d:16* e:25* f:25* g:25* h:701* i:1700* j:25* k:25*\n\n1|-1.50|t|f|NULL|x y|7|1e3|9223372036854775808|2026-11-20 12:00:00+00|true",
		`{"table": "public.t", "insert": {"j": {"bb": [1, 2.50, "x", null, true, "7", "<é\n"], "a": {}, "c": "d"}}}`:                                                    "insert public.t FULL j:3802*\n\n" + `{"a": {}, "c": "d", "bb": [1, 2.50, "x", null, true, "7", "<é\n"]}`,
		`{table: public.t, update: {old: {id: 1, price: 2, gone: null}, new: {id: 1, price: 2.5, body: {}}}}`:                                                           "update public.t FULL id:20* price:1700* gone:25* body:3802*\n1|2|NULL|ABSENT\n1|2.5|ABSENT|{}",
		`{table: public.t, identity: full, delete: {id: 1}}`:                                                                                                            "delete public.t FULL id:20*\n1\n",
		`{table: public.t, identity: [id], delete: {id: 1, a: x}}`:                                                                                                      "delete public.t USING INDEX id:20* a:25\n1|ABSENT\n",
		`{table: public.t, identity: [id], update: {old: {id: 1, a: x}, new: {id: 1, a: y}}}`:                                                                           "update public.t USING INDEX id:20* a:25\n\n1|y",
		`{table: public.t, identity: [id, a], update: {old: {id: 1, a: x, b: 1}, new: {id: 1, a: y, b: 2}}}`:                                                            "update public.t USING INDEX id:20* a:25* b:20\n1|x|ABSENT\n1|y|2",
		`{table: public.t, identity: [id], truncate: true}`:                                                                                                             "truncate public.t USING INDEX\n\n",
	} {
		c, err := ParseChange("change", []byte(text), nil)
		require.NoError(t, err, text)
		require.Equal(t, want, shape(c.Change), text)
	}
	for text, want := range map[string]string{
		``: "change:1:1: want exactly one of `insert`, `update`, `delete`, `truncate: true` and `message`, here are 0\n" +
			"change:1:1: `table` is missing; write it with its schema, like public.products",
		`{table: public.t, message: "{}"}`:         `change:1:28: "{}" is not a mapping of keys to values`,
		`{table: public.t, insert: {a: {b: 007}}}`: `change:1:35: "007" is a number to some readers of YAML and a text to others; quote it, or write the number without sign and zeros before it`,
		`{table: public.t, expect: {}}`:            `change:1:19: unknown key "expect"; valid: table, insert, update, delete, truncate, message, identity, lookup`,
		`{table: a.b.c, truncate: true}`:           `change:1:9: table "a.b.c": want schema.name with one dot, like public.products`,
		`{table: public.t, insert: {a: 1, a: 2}}`:  `change:1:34: `,
	} {
		_, err := ParseChange("change", []byte(text), nil)
		require.ErrorContains(t, err, want, text)
	}
}

// Every kind of the rules has its word here.
// Fields of hashes are written in tests as in rules, and shown as a key and a field.
func TestFieldsInTests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	write("rules.yaml", "rules: [{name: x, table: public.t, sinks: [cache], fields: [{key: products, field: '{id}'}]}]")
	const test = "rules: [rules.yaml]\ntests:\n  - name: one\n    table: public.t\n    insert: {id: 7}\n    expect: "
	for expect, want := range map[string]string{
		`{fields: [{key: products, field: 7}]}`:            "",
		`{cache: {fields: [{key: products, field: "7"}]}}`: "",
		`{fields: [{key: "my hash", field: "7"}]}`:         "fields:\n  - \"my hash\" 7\n  + products 7  (rule x)\n",
	} {
		s, err := Load(write("a_test.yaml", test+expect), Options{})
		require.NoError(t, err)
		text, _ := report(t, s)
		if want == "" {
			require.Empty(t, text, expect)
			continue
		}
		require.Contains(t, text, want)
	}
	for _, bad := range []string{`{fields: [products]}`, `{fields: {key: products}}`, `{fields: [{key: products}]}`} {
		_, err := Load(write("b_test.yaml", test+bad), Options{})
		require.ErrorContains(t, err, "field", bad)
	}
}

func TestKindWords(t *testing.T) {
	require.Len(t, kindWords(), invalidation.NumKinds+1)
	require.Equal(t, "parked", kindWords()[parked])
	for k, word := range kindWords()[:invalidation.NumKinds] {
		require.True(t, strings.HasPrefix(word, invalidation.Kind(k).String()), word)
	}
}

func TestPrintable(t *testing.T) {
	for value, want := range map[string]string{"a b": "a b", "": `""`, " a": `" a"`, "é": "é", "\x1b[2J": `"\x1b[2J"`, "\xff": `"\xff"`} {
		require.Equal(t, want, Printable(value))
	}
}

func TestWriteJUnit(t *testing.T) {
	var b bytes.Buffer
	require.NoError(t, WriteJUnit(&b, []Result{
		{File: "a.yaml", Line: 3, Name: "passes"}, {File: "a.yaml", Line: 5, Name: "fails", Diff: []string{"keys:", "  + <k>\x01"}}, {File: "b.yaml", Line: 3, Name: "x"}}))
	require.Contains(t, b.String(), `<testsuites tests="3" failures="1">`)
	require.Contains(t, b.String(), `<testsuite name="a.yaml" tests="2" failures="1">`)
	require.Contains(t, b.String(), `<testsuite name="b.yaml" tests="1" failures="0">`)
	var back junitSuites
	require.NoError(t, xml.Unmarshal(b.Bytes(), &back))
	require.Equal(t, "keys:\n  + <k>\ufffd", back.Suites[0].Cases[1].Failure.Text)
	require.Nil(t, back.Suites[0].Cases[0].Failure)
}

// Whatever is written, a change is refused or is one that rules can look at.
func FuzzParseChange(f *testing.F) {
	set, err := rules.Parse("rules.yaml", []byte(`rules: [{name: a, table: public.t, keys: ["k:{id}:{j.x}"], when: "changed(id) && row.a != 'x'"}]`),
		rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPattern)}}})
	require.NoError(f, err)
	for _, seed := range []string{
		`{"table": "public.t", "update": {"old": {"id": 1, "a": "x"}, "new": {"id": 2, "j": {"x": [1, null]}}}, "identity": ["id"]}`,
		"table: public.t\ninsert: {id: -1.50, j: }\nidentity: full\n", `{table: public.t, truncate: true, identity: [a]}`, `{table: public.t, delete: {a: }}`, `[`, `5`, ``,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseChange("change", data, nil)
		if err != nil {
			return
		}
		if c.Change != nil {
			for _, row := range []cdc.Tuple{c.Change.Old, c.Change.New} {
				require.True(t, row == nil || len(row) == len(c.Change.Rel.Columns))
			}
		}
		c.Explain(context.Background(), set)
	})
}
