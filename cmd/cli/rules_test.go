package cli

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// call runs the command line among the files of testdata.
func call(stdin string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Main(args, "test", strings.NewReader(stdin), &out, &errs)
	return code, out.String(), errs.String()
}

func TestRulesTest(t *testing.T) {
	t.Chdir("testdata")
	const failed = `FAIL failing_test.yaml:3: a product goes
  edge keys:
    + product:7  (rule product)
    + product:slug:a  (rule product)
  edge tags:
    - product-<8>
    + merchant-3  (rule product)
`
	for name, c := range map[string]struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		"good":          {"shop_test.yaml", 0, "1 passed, 0 failed\n", ""},
		"a pattern":     {"sh*_test.yaml shop_test.yaml", 0, "1 passed, 0 failed\n", ""},
		"failing":       {"failing_test.yaml shop_test.yaml", 1, failed + "1 passed, 1 failed\n", ""},
		"unusable":      {"shop_test.yaml unusable_test.yaml", 2, "", "walpurge: unusable_test.yaml:3:55: unknown key \"expects\"; did you mean \"expect\"?\n"},
		"a directory":   {".", 2, "", "walpurge: . is a directory; name files in it, like '*_test.yaml'\n"},
		"no such file":  {"gone.yaml", 2, "", "walpurge: gone.yaml: there is no such file, and as a pattern it matches none\n"},
		"no file":       {"", 2, "", "walpurge: name a rule test file, as in walpurge rules test rules_test.yaml\n"},
		"configured":    {"-c walpurge.yaml shop_test.yaml", 0, "1 passed, 0 failed\n", ""},
		"no such sinks": {"-c gone.yaml shop_test.yaml", 2, "", "walpurge: open gone.yaml: no such file or directory; name the file with -c\n"},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call("", append([]string{"rules", "test"}, strings.Fields(c.args)...)...)
			require.Equal(t, c.stderr, stderr)
			require.Equal(t, c.stdout, stdout)
			require.Equal(t, c.code, code)
		})
	}
	// With the configured sinks only the tags are the edge's business.
	code, stdout, _ := call("", "rules", "test", "-c", "walpurge.yaml", "failing_test.yaml")
	require.Equal(t, 1, code)
	require.Equal(t, `FAIL failing_test.yaml:3: a product goes
  cache keys:
    + product:7  (rule product)
    + product:slug:a  (rule product)
  edge tags:
    - product-<8>
    + merchant-3  (rule product)
0 passed, 1 failed
`, stdout)
}

func TestRulesTestJUnit(t *testing.T) {
	t.Chdir("testdata")
	path := filepath.Join(t.TempDir(), "report.xml")
	code, _, stderr := call("", "rules", "test", "--junit", path, "failing_test.yaml", "shop_test.yaml")
	require.Equal(t, 1, code)
	require.Empty(t, stderr)
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	var report struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
	}
	require.NoError(t, xml.Unmarshal(data, &report))
	require.Equal(t, 2, report.Tests)
	require.Equal(t, 1, report.Failures)
	code, stdout, stderr := call("", "rules", "test", "--junit", filepath.Join(path, "below"), "shop_test.yaml")
	require.Equal(t, 1, code)
	require.Equal(t, "1 passed, 0 failed\n", stdout)
	require.Contains(t, stderr, "write JUnit XML: ")
}

func TestRulesExplain(t *testing.T) {
	t.Chdir("testdata")
	const change = `{"table": "public.products", "delete": {"id": 7, "slug": "a", "status": "draft", "merchant_id": null}}`
	const notMatched = `rule product (shop.yaml:2) does not match: the condition is false for the old row
  condition with the old row: false
    changed(slug): true
      old.slug is a
      new.slug is no such row
    row.status != "draft": false
      old.status is draft

rule stock (shop.yaml:8) does not match: delete is not among its ops
`
	const matched = `rule product (shop.yaml:2) matches: the condition could not be decided for the old row (column "status" was not carried by the stream), which counts as true
  condition with the old row: unknown (column "status" was not carried by the stream)
    changed(slug): true
      old.slug is not carried
      new.slug is no such row
    row.status != "draft": unknown (column "status" was not carried by the stream)
      old.status is not carried
  key product:{id} from the old row: product:7
  key product:slug:{slug} from the old row: nothing (column "slug" was not carried by the stream); no ` + "`unknown`" + `: pattern purge product:slug:* at cache
  tag product-{id} from the old row: product-7
  tag merchant-{merchant_id} from the old row: nothing (column "merchant_id" was not carried by the stream); ` + "`unknown`" + ` stands in
  -> cache: key product:7
  -> edge: tag product-7
  -> edge: tag products
  -> cache: key_pattern product:slug:*, at most once a minute

rule stock (shop.yaml:8) does not match: delete is not among its ops
`
	identity := strings.Replace(change, `"delete"`, `"identity": ["id"], "delete"`, 1)
	file := filepath.Join(t.TempDir(), "change.json")
	require.NoError(t, os.WriteFile(file, []byte(change), 0o600))
	for name, c := range map[string]struct {
		change, stdin, want string
	}{
		"argument": {change, "", notMatched},
		"file":     {"@" + file, "", notMatched},
		"stdin":    {"-", identity, matched},
		"a truncate": {`{"table": "public.products", "truncate": true}`, "", `rule product (shop.yaml:2) matches: a truncate is handled whatever the condition says
  -> cache: key_pattern product:*
  -> cache: key_pattern product:slug:*
  -> edge: everything

rule stock (shop.yaml:8) matches: a truncate is handled whatever the condition says
  -> cache: key_pattern stock:*
`},
	} {
		t.Run(name, func(t *testing.T) {
			code, stdout, stderr := call(c.stdin, "rules", "explain", "--change", c.change)
			require.Empty(t, stderr)
			require.Equal(t, c.want, stdout)
			require.Equal(t, 0, code)
		})
	}
	code, stdout, _ := call("", "rules", "explain", "--json", "--change", identity)
	require.Equal(t, 0, code)
	var out []map[string]any
	require.NoError(t, json.Unmarshal([]byte(stdout), &out))
	require.Len(t, out, 2)
	require.Equal(t, true, out[0]["matched"])
	require.Equal(t, []any{
		map[string]any{"sink": "cache", "kind": "key", "value": "product:7"},
		map[string]any{"sink": "edge", "kind": "tag", "value": "product-7"},
		map[string]any{"sink": "edge", "kind": "tag", "value": "products"},
		map[string]any{"sink": "cache", "kind": "key_pattern", "value": "product:slug:*", "for": "product:slug:{slug}"},
	}, out[0]["purges"])
	require.Equal(t, map[string]any{"rule": "stock", "file": "shop.yaml", "line": 8.0, "matched": false, "why": "delete is not among its ops",
		"tried": []any{}, "templates": []any{}, "purges": []any{}}, out[1])
}

func TestRulesUsage(t *testing.T) {
	t.Chdir("testdata")
	t.Setenv("DATABASE_URL", "postgres://127.0.0.1:1/shop")
	for args, want := range map[string]string{
		"rules tset":         "there is no command \"rules tset\"; see walpurge rules --help",
		"rules explain":      `--change is missing; write one like --change '{"table": "public.products", "insert": {"id": 7}}'`,
		"rules explain --db": "--table is missing; name it with its schema, like --table public.products",
		"rules explain --db --table products --where id=7":                      `--table "products": want schema.name, like public.products`,
		"rules explain --db --table public.products":                            `--where is missing; write a condition that one row meets, like --where "id = 7"`,
		"rules explain --db --table public.products --where id=7 --op truncate": `--op "truncate": want insert, update or delete`,
		"rules explain --db --change {} --table public.products --where id=7":   "--change and --db do not go together; a change is written or read",
		"rules explain --table public.products":                                 "--table is about a live row; add --db",
		"rules explain --db --table public.product --where id=7":                `no rule watches the table "public.product"; did you mean "public.products"?`,
		"rules init -c gone.yaml":                                               "open gone.yaml: no such file or directory; name the file with -c, or a database with --db postgres://user@host/database",
		"rules init --db postgres://db --kinds urls":                            `--kinds: "urls" is not a kind that a draft has; write keys, tags or both`,
		"rules init --db postgres://u:geheim@db:port/x":                         "--db: postgres.url cannot be parsed (not shown, it may hold a password)",
		"rules init --db postgres://db --schema":                                "flag needs an argument: --schema; see walpurge rules init --help",
		"rules explain --change {table:\u00a0public.t}":                         `--change:1:1: `,
		"rules explain --change @gone.json":                                     "read the change: open gone.json: no such file or directory",
		`rules explain --change {"table":"public.product","insert":{"id":1}}`:   `no rule watches the table "public.product"; did you mean "public.products"?`,
		`rules explain --change {"table":"public.products","insrt":{"id":1}}`:   `--change:1:28: unknown key "insrt"; did you mean "insert"?`,
		`rules explain -c gone.yaml --change {"table":"public.p","insert":{}}`:  "open gone.yaml: no such file or directory; name the file with -c",
	} {
		code, stdout, stderr := call("", strings.Split(args, " ")...)
		require.Equal(t, 2, code, args)
		require.Empty(t, stdout)
		require.Contains(t, stderr, "walpurge: "+want, args)
	}
	code, stdout, _ := call("", "rules")
	require.Equal(t, 0, code)
	require.Contains(t, stdout, "explain")
}
