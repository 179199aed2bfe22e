package integration

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/cmd/app"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/rulestest"
)

// textForms are types, and values of them as an application and a rule test write
// them.
var textForms = []struct {
	typ    string
	values []string
}{
	{"smallint", []string{"-32768", "0", "+7", "007"}},
	{"integer", []string{"2147483647", "-1"}},
	{"bigint", []string{"-9223372036854775808", "9007199254740993"}},
	{"oid", []string{"4294967295"}},
	{"numeric", []string{"NaN", "Infinity", "-inf", "1.50", "100", "1e20", "1.5e3", "1.50e1", "1e-5", "-0.00", "000.10", ".5", "5.", "123456789012345678901234567890.123456789"}},
	{"numeric(12,2)", []string{"1.5", "-99999.995", "0.004", "-0.004", "NaN", "1e3", "9999999999.99"}},
	{"numeric(3)", []string{"1.5", "-2.5", "999.4"}},
	{"numeric(3,5)", []string{"0.001234", "0.00999"}},
	{"real", []string{"0.1", "1e20", "NaN", "-Infinity", "100000", "1000000", "123456.7", "1e-4", "1e-5", "-0", "3.4028235e38", "1.1"}},
	{"double precision", []string{"0.1", "1e15", "999999999999999", "1e14", "NaN", "inf", "0.0001", "0.00001", "-0", "5e-324", "1.7976931348623157e308", "123456789012345678"}},
	{"boolean", []string{"true", "f", "FALSE"}},
	{"text", []string{"", "plain", " a ", "true", "1.50", "é漢🎉", "a\nb\t\"c\" \\ 'd'"}},
	{"character varying(5)", []string{"abc", "abcde   "}},
	{"character varying", []string{"abc "}},
	{"character(8)", []string{"", "abc", "漢", "12345678 "}},
	{"name", []string{"n"}},
	{`"char"`, []string{"a"}},
	{"uuid", []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC999C0B4EF8BB6D6BB9BD380A11", "{a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11}"}},
	{"date", []string{"2026-11-20", "infinity", "-infinity", "0044-03-15 BC", "12026-01-01", "0001-01-01 BC"}},
	{"time", []string{"00:00", "24:00:00", "23:59:59.999999", "12:00:00.500"}},
	{"time(1)", []string{"12:00:00.25", "12:00:00.05", "23:59:59.99"}},
	{"timetz", []string{"12:00+05:30", "00:00:00.1-15:59", "12:00:00Z", "12:00:00+01"}},
	{"timestamp", []string{"2026-11-20 12:00:00", "2026-11-20T12:00:00.500", "infinity", "0044-03-15 12:00:00 BC", "2026-11-20", "12026-11-20 12:00"}},
	{"timestamp(2)", []string{"2026-11-20 12:00:00.125", "2026-12-31 23:59:59.999"}},
	{"timestamptz", []string{"2026-11-20T12:00:00Z", "2026-11-20 12:00:00.5+05:30", "2026-11-20 12:00:00.123456-08", "infinity", "-infinity", "0044-03-15 12:00:00+00 BC",
		"0001-01-01 00:30:00+01", "12026-11-20 12:00:00Z", "9999-12-31 23:59:59.999999Z", "2026-11-20 12:00:00+00", "2026-11-20T24:00:00Z"}},
	{"interval", []string{"1 year 2 mons -3 days 04:05:06.789", "-00:00:00.000001", "00:00:00", "14 mons", "1 day 02:00:00", "-1 year 2 days", "1 days", "-1 years 25:00:00", "100 days"}},
	{"bytea", []string{`\x00ff`, `\x`, `\xABCD`}},
	{"json", []string{`{"a":  1, "a": 2}`, "null", "1.50", `"x"`}},
	{"jsonb", []string{`{"bb": [1, 2.50, "x", 1e2, null], "a": {}, "c":{"é": true}, "a": [ ]}`, "12345678901234567890", `"a\u00e9\n\u001f\\\"\u2028<&>\b"`, "-0.0", "1E-3", "false"}},
	{"inet", []string{"10.0.0.1", "10.0.0.1/8", "10.0.0.1/32", "::ffff:1.2.3.4", "2001:DB8:0:0::1/64", "::1"}},
	{"cidr", []string{"10.0.0.0/8", "2001:db8::/32", "10.1.2.3", "::1"}},
	{"macaddr", []string{"08:00:2B:01:02:03", "08-00-2b-01-02-03"}},
	{"macaddr8", []string{"08:00:2b:01:02:03:04:05"}},
	{"bit(4)", []string{"1010"}}, {"bit varying(8)", []string{"101", ""}},
	{"integer[]", []string{"{1,2,NULL}", "{{1,2},{3,4}}", "[0:1]={5,6}"}},
	{"text[]", []string{`{"a,b","c\"d",plain,NULL,"NULL",""}`, `{"{}","\\\\",";"," b "}`}},
	{"bigint[]", []string{"{9007199254740993}"}}, {"numeric[]", []string{"{1.50,NaN,100}"}}, {"real[]", []string{"{0.1,1e20}"}}, {"double precision[]", []string{"{0.1,-0}"}},
	{"uuid[]", []string{"{A0EEBC999C0B4EF8BB6D6BB9BD380A11}"}}, {"boolean[]", []string{"{t,f,NULL}"}}, {"bytea[]", []string{`{"\\x00ff"}`}},
	{"timestamptz[]", []string{`{"2026-11-20 12:00:00.5+05:30",infinity}`}}, {"timestamp[]", []string{`{"2026-11-20 12:00:00"}`}}, {"date[]", []string{`{2026-11-20,"0044-03-15 BC"}`}},
	{"time[]", []string{"{12:00}"}}, {"interval[]", []string{`{"1 day 02:00:00"}`}}, {"inet[]", []string{"{10.0.0.1,::1/64}"}}, {"cidr[]", []string{"{10.0.0.0/8}"}}, {"macaddr[]", []string{"{08:00:2b:01:02:03}"}},
	{"json[]", []string{`{"{\"a\":  1}"}`}}, {"jsonb[]", []string{`{"{\"bb\": 1, \"a\": [1,2]}",null}`}}, {"money[]", []string{`{"$1,234.50"}`}}, {"int4range[]", []string{`{"[1,6)",empty}`}},
	{"bit(3)[]", []string{"{101}"}}, {"point[]", []string{`{"(1,2)"}`}}, {"box[]", []string{"{(1,1),(0,0);(3,3),(2,2)}"}}, {"name[]", []string{"{n}"}}, {"oid[]", []string{"{7}"}},
	{"character(4)[]", []string{`{ab,"c ","    "}`}}, {"character varying(3)[]", []string{"{abc}"}}, {"xml[]", []string{"{<a/>}"}}, {"tsvector[]", []string{`{"'a' 'b'"}`}},
	{"mood[]", []string{`{fine,"so, \"so\""}`}}, {"positive[]", []string{"{7,8}"}}, {"flag[]", []string{"{t,f}"}}, {"numbers", []string{"{1,2,NULL}", "{{1},{2}}"}}, {"moods", []string{"{fine}"}},
	{"numbers[]", []string{`{"{1,2}","{3}",NULL}`}}, {"cents[]", []string{"{1.50}"}}, {"moment", []string{"2026-11-20 12:00:00+01"}}, {"code", []string{"ab"}}, {"deeper", []string{"7"}}, {"int2vector", []string{"1 2"}},
	{"mood", []string{"fine", `so, "so"`}},
	{"positive", []string{"7"}},
	{"flag", []string{"t"}},
	{"int4range", []string{"[1,6)", "empty"}},
	{"money", []string{"$1,234.50", "-$0.10"}},
	{"tsvector", []string{"'a' 'b':1"}},
	{"xml", []string{"<a>b</a>"}},
	{"point", []string{"(1.5,-2)"}},
}

// arrays are lists in a rule test, beside what an application writes.
var arrays = []struct{ typ, literal, list string }{
	{"integer[]", "{1,NULL,3}", "[1, null, 3]"},
	{"text[]", `{a b,"c\"d\\e","","NULL",NULL,"x,y",true,漢}`, `["a b", 'c"d\e', "", "NULL", null, "x,y", "true", "漢"]`},
	{"numeric(5,1)[]", "{{1.25,2},{3,4}}", "[[1.25, 2], [3, 4]]"},
	{"timestamptz[]", "{2026-11-20T12:00:00Z}", `["2026-11-20T12:00:00Z"]`},
	{"mood[]", `{fine,"so, \"so\""}`, `[fine, 'so, "so"']`}, {"numbers", "{1,2}", "[1, 2]"}, {"positive[]", "{7}", "[7]"}, {"boolean[]", "{t,NULL,f}", "[true, null, false]"},
	{"box[]", "{(1,1),(0,0);(3,3),(2,2)}", `["(1,1),(0,0)", "(3,3),(2,2)"]`}, {"date[]", "{2026-11-20}", `["2026-11-20"]`}, {"character(4)[]", "{ab}", "[ab]"}, {"jsonb[]", `{"{\"a\": 1}"}`, "[{a: 1}]"},
	{"jsonb", `{"a": [1, {"b": null}], "é": "x<"}`, `{a: [1, {b: null}], é: "x<"}`},
	{"boolean", "true", "True"}, {"integer", "5", "5"}, {"numeric", "1.50", "1.50"}, {"jsonb", "7", "7"}, {"text", "7", "7"},
}

// form is one value on its way: a table, what the application writes into its
// column v, and what a rule test writes.
type form struct {
	table, literal, yaml string
}

// database starts a server, and returns a connection to it and a function that runs SQL. Both end with the test.
func database(t *testing.T, cfg harness.PostgresConfig) (*harness.Postgres, *pgx.Conn, func(sql string)) {
	t.Helper()
	pg, err := harness.StartPostgres(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pg.Close()) })
	conn, err := pg.Connect(t.Context(), "postgres")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return pg, conn, func(sql string) {
		t.Helper()
		_, err := conn.PgConn().Exec(t.Context(), sql).ReadAll()
		require.NoError(t, err, sql)
	}
}

// TestOneTextFormEverywhere takes values of every common type through the real
// reader. A template that copies the column, expressions that hand it on, and a
// rule test with the catalog must come to one text.
func TestOneTextFormEverywhere(t *testing.T) {
	t.Parallel()
	pg, conn, exec := database(t, harness.PostgresConfig{Settings: map[string]string{
		"datestyle": "ISO, DMY", "timezone": "UTC", "intervalstyle": "iso_8601", "extra_float_digits": "-3", "bytea_output": "escape", "lc_monetary": "C",
	}})
	exec(`CREATE TYPE mood AS ENUM ('fine', 'so, "so"'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE DOMAIN flag AS boolean;
CREATE DOMAIN numbers AS int[]; CREATE DOMAIN moods AS mood[]; CREATE DOMAIN cents AS numeric(12,2); CREATE DOMAIN moment AS timestamptz; CREATE DOMAIN code AS char(5); CREATE DOMAIN deeper AS positive`)

	var forms []form
	var tables []cdc.Table
	var ruleFile strings.Builder
	ruleFile.WriteString("rules:\n")
	isList := map[string]bool{}
	add := func(typ string, values ...[2]string) {
		name := fmt.Sprintf("v%d", len(tables))
		tables = append(tables, cdc.Table{Schema: "public", Name: name})
		exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, v %s)", name, typ))
		templates := `'a<{v}>', 'b<{true ? v : v}>', 'c{"<" + string(v)}>', 'd<{[v]}>'`
		if isList[name] = strings.HasSuffix(typ, "[]") || typ == "numbers" || typ == "moods"; isList[name] {
			// A value for each element: the letters come one after the other.
			templates = `'a<{v}>', 'b<{true ? v : v}>', 'c<{row["v"]}>', 'd<{true ? row["v"] : []}>'`
		}
		fmt.Fprintf(&ruleFile, "  - {name: %[1]s, table: public.%[1]s, sinks: [cache], keys: [%[2]s], unknown: {keys: [unknown]}}\n", name, templates)
		for _, v := range values {
			forms = append(forms, form{table: name, literal: v[0], yaml: v[1]})
		}
	}
	for _, f := range textForms {
		if f.typ == "numeric(3,5)" && conn.PgConn().ParameterStatus("server_version") < "15" {
			continue // there is no such type before
		}
		var values [][2]string
		for _, v := range f.values {
			values = append(values, [2]string{v, strconv.Quote(v)})
		}
		add(f.typ, values...)
	}
	for _, a := range arrays {
		add(a.typ, [2]string{a.literal, a.list})
	}

	cfg := postgres.DefaultConfig("forms")
	cfg.URL = pg.URL("postgres")
	catalog, err := app.LiveCatalog(t.Context(), cfg, tables)
	require.NoError(t, err)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "catalog.lock.yaml"), catalog.YAML(), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte(ruleFile.String()), 0o600))
	set, err := rules.Load([]string{filepath.Join(dir, "rules.yaml")}, rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}}, Catalog: catalog})
	require.NoError(t, err)

	g := &gatherer{ready: make(chan struct{})}
	reader := postgres.NewReader(cfg, postgres.Options{StopGrace: time.Millisecond, Board: watermark.NewBoard(), Confirm: watermark.ConfirmSynced,
		Logger: slog.New(slog.DiscardHandler), Watch: func() postgres.Watch { return postgres.Watch{Tables: tables} }})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, g) }()
	defer func() { stop(); require.NoError(t, <-done) }()
	<-g.ready
	for i, f := range forms {
		exec(fmt.Sprintf("INSERT INTO %s VALUES (%d, '%s')", f.table, i, strings.ReplaceAll(f.literal, "'", "''")))
	}
	eventually(t, 30*time.Second, func() bool { return g.count() == len(forms) }, "every row arrives")

	var tests strings.Builder
	tests.WriteString("rules: [rules.yaml]\ncatalog: catalog.lock.yaml\ntests:\n")
	for i, f := range forms {
		var got keyList
		set.Bind(g.all[i].rel).Eval(&cdc.Change{Op: g.all[i].op, Rel: g.all[i].rel, New: g.all[i].new}, &got)
		n := len(got) / 4
		require.Equal(t, 4*n, len(got), "%s %q: %q", f.table, f.literal, []string(got))
		require.True(t, n == 1 || isList[f.table], "%s %q: %q", f.table, f.literal, []string(got))
		quoted := make([]string, len(got))
		for i := range got {
			require.Equal(t, string("abcd"[i/n])+got[i%n][1:], got[i], "%s %q", f.table, f.literal)
			quoted[i] = strconv.Quote(got[i])
		}
		fmt.Fprintf(&tests, "  - name: %s\n    table: public.%s\n    insert: {id: 1, v: %s}\n    expect: {keys: [%s]}\n",
			strconv.Quote(fmt.Sprintf("%d %s %s", i, f.table, f.yaml)), f.table, f.yaml, strings.Join(quoted, ", "))
	}
	file := filepath.Join(dir, "rules_test.yaml")
	require.NoError(t, os.WriteFile(file, []byte(tests.String()), 0o600))
	suite, err := rulestest.Load(file, rulestest.Options{})
	require.NoError(t, err)
	failed := 0
	for _, r := range suite.Run() {
		if !r.Passed() {
			failed++
			t.Logf("%s:\n%s", r.Name, strings.Join(r.Diff, "\n"))
		}
	}
	require.Zero(t, failed, "a rule test and the stream differ")
}

// keyList is the values that rules give, in their order.
type keyList []string

func (l *keyList) Invalidate(_, _ int, _ invalidation.Kind, value []byte) {
	*l = append(*l, string(value))
}
func (l *keyList) Fallback(int, int, *rules.Fallback) {}

func (l *keyList) Verdict(int, rules.Verdict) {}
func (l *keyList) Lookup(*rules.Pending)      {}
