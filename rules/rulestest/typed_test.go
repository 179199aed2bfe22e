package rulestest

import (
	"encoding/json"
	"fmt"
	"math/big"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
)

func TestTypedGood(t *testing.T) {
	t.Chdir("testdata/typed")
	s, err := Load("good_test.yaml", Options{})
	require.NoError(t, err)
	text, passed := report(t, s)
	require.Empty(t, text)
	require.Equal(t, 10, passed)
}

func TestTypedUnusable(t *testing.T) {
	t.Chdir("testdata/typed")
	files, err := filepath.Glob("bad/*_test.yaml")
	require.NoError(t, err)
	require.Len(t, files, 3)
	for _, file := range files {
		_, err := Load(file, Options{})
		require.Error(t, err, file)
		require.Equal(t, read(t, strings.TrimSuffix(file, "_test.yaml")+".want"), err.Error()+"\n")
	}
}

// A row that leaves out what production would send makes rules guess, which is noted.
func TestTypedNotes(t *testing.T) {
	t.Chdir("testdata/typed")
	s, err := Load("notes_test.yaml", Options{})
	require.NoError(t, err)
	var notes [][]string
	for _, r := range s.Run() {
		require.True(t, r.Passed(), "%s: %v", r.Name, r.Diff)
		notes = append(notes, r.Notes)
	}
	lacks := func(row, column, rule string) string {
		return "the " + row + " row lacks the column " + column + ", which the rule " + rule + " reads and PostgreSQL sends; so it counts as unknown"
	}
	require.Equal(t, [][]string{
		nil,
		{lacks("new", "price", "article"), lacks("new", "slug", "article")},
		{lacks("old", "id", "tag")},
		{lacks("new", "body", "digest")},
	}, notes)
}

// valueOf is the text of a value as it is written in a file.
func valueOf(yaml string, c rules.CatalogColumn) (string, error) {
	doc, err := strictyaml.Parse("v.yaml", []byte("v: "+yaml+"\n"))
	if err != nil {
		return "", err
	}
	l := &loader{file: "v.yaml"}
	v := l.typed(doc.Root().Pairs[0].Value, c)
	if v.Kind == cdc.Null {
		return "NULL", l.errs.Err()
	}
	return string(v.Data), l.errs.Err()
}

// What a server makes of good values is for TestOneTextFormEverywhere; these are
// the ones that no column of the type can have.
func TestTypedRefuses(t *testing.T) {
	for typ, c := range map[string]struct {
		oid    uint32
		values []string
	}{
		"smallint": {oidInt2, []string{"32768", "1.5", "x", `""`, "+-1", "1e3", "true", "007"}}, "integer": {oidInt4, []string{"2147483648", "[1]", "{a: 1}"}}, "bigint": {oidInt8, []string{"9223372036854775808"}},
		"oid": {oidOID, []string{"-1", "4294967296"}}, "real": {oidFloat4, []string{"1e39", "0x1p4", "1_0", "x", `""`}}, "double precision": {oidFloat8, []string{"1e309", `"."`}},
		"numeric": {oidNumeric, []string{"x", `"."`, `""`, "1e99999", "1e999999", "0x10", "--1"}}, "numeric(3,1)": {oidNumeric, []string{"100", "99.95", "Infinity"}},
		"boolean": {oidBool, []string{"1", "yes", `"yes"`, "x"}}, "text": {oidText, []string{"true", "yes", "[a]", "007"}}, "character varying(3)": {oidVarchar, []string{"abcd", "漢漢漢漢"}}, "character(3)": {oidBpchar, []string{"abcd"}},
		"name": {oidName, []string{strings.Repeat("a", 64)}}, `"char"`: {oidQChar, []string{"ab"}}, "uuid": {oidUUID, []string{"a0eebc99", "g0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"}},
		"bytea": {oidBytea, []string{"ff", `'\xf'`, `'\xfg'`}}, "json": {oidJSON, []string{"x", "'{'", "NaN", `'1 2'`}}, "jsonb": {oidJSONB, []string{"x", `'"\u0000"'`, "'{} {}'"}},
		"date": {oidDate, []string{"2026-02-30", "2026-13-01", "0000-01-01", "yesterday", "2026-11-20 12:00:00", "20-11-2026"}}, "time without time zone": {oidTime, []string{`"24:00:01"`, `"12:60"`, "noon", `"12:00Z"`}},
		"time with time zone":      {oidTimetz, []string{`"12:00+16"`, "noon"}},
		"timestamp with time zone": {oidTimestamptz, []string{"now", "2026-11-20 25:00:00Z", "2026-02-30 12:00:00Z", "2026-11-20 12:00:00+16", "2026-11-20 12:00:00 Europe/Berlin", "2026-11-20 12:00:00.1234567Z"}},
		"timestamp":                {oidTimestamp, []string{"2026-11-20 12:00:00+01", "tomorrow"}}, "interval": {oidInterval, []string{"P1Y", "1 fortnight", `""`, `"25:61:00"`}},
		"inet": {oidInet, []string{"10.0.0", "10.0.0.1/33", "fe80::1%eth0", "host"}}, "cidr": {oidCIDR, []string{"10.0.0.1/8"}}, "macaddr": {oidMacaddr, []string{`"08:00:2b:01:02"`, "x"}},
		"bit(4)": {oidBit, []string{`"101"`, `"1012"`}}, "bit varying(2)": {oidVarbit, []string{`"101"`}}, "integer[]": {1007, []string{"[a]", "7", `"1,2"`, "{a: 1}"}}, "timestamp with time zone[]": {1185, []string{"[now]"}},
	} {
		for _, v := range c.values {
			_, err := valueOf(v, rules.CatalogColumn{Name: "v", Type: typ, OID: c.oid})
			require.ErrorContains(t, err, "v.yaml:1:", "%s %s", typ, v)
		}
	}
	_, err := valueOf("null", rules.CatalogColumn{Name: "v", Type: "text", OID: oidText, NotNull: true})
	require.EqualError(t, err, "v.yaml:1:1: column v is NOT NULL")
	_, err = valueOf(`"2026-02-30"`, rules.CatalogColumn{Name: "v", Type: "date", OID: oidDate})
	require.EqualError(t, err, `v.yaml:1:4: "2026-02-30" cannot be a value of column v, which is date: there is no such day`)
}

// Numerics, moments and documents are what the libraries make of them.
func TestPropertyTypedValues(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		scale := rapid.IntRange(0, 6).Draw(r, "scale")
		number := rapid.StringMatching(`-?[1-9][0-9]{0,8}(\.[0-9]{1,9})?(e-?[0-9])?`).Draw(r, "number")
		got, err := numericText(number, []int{40, scale})
		require.NoError(r, err)
		exact, ok := new(big.Rat).SetString(number)
		require.True(r, ok)
		require.Equal(r, strings.TrimPrefix(exact.FloatString(scale), "-"), strings.TrimPrefix(got, "-"))
		plain, err := numericText(number, nil)
		require.NoError(r, err)
		same, ok := new(big.Rat).SetString(plain)
		require.True(r, ok)
		require.Zero(r, exact.Cmp(same), "without a scale nothing is lost")

		at := time.Unix(rapid.Int64Range(-60_000_000_000, 250_000_000_000).Draw(r, "seconds"), 1000*rapid.Int64Range(0, 999_999).Draw(r, "micro")).
			In(time.FixedZone("", 60*rapid.IntRange(-15*60, 15*60).Draw(r, "zone")))
		moment, err := momentText(at.Format("2006-01-02T15:04:05.999999Z07:00"), nil, true)
		require.NoError(r, err)
		require.Equal(r, at.UTC().Format("2006-01-02 15:04:05.999999")+"+00", moment)

		document, err := json.Marshal(map[string]any{"text": rapid.StringN(0, 20, -1).Filter(func(s string) bool { return !strings.ContainsRune(s, 0) }).Draw(r, "text"),
			"n": rapid.Int().Draw(r, "n"), "list": rapid.SliceOfN(rapid.Bool(), 0, 3).Draw(r, "list")})
		require.NoError(r, err)
		stored, err := jsonColumn(string(document), true)
		require.NoError(r, err)
		require.JSONEq(r, string(document), stored)
		again, err := jsonColumn(stored, true)
		require.NoError(r, err)
		require.Equal(r, stored, again)
	})
}

// Whatever is written for a column, it is refused or becomes a text that becomes
// itself again, as what PostgreSQL prints does.
func FuzzTypedValue(f *testing.F) {
	columns := []rules.CatalogColumn{
		{Type: "numeric", OID: oidNumeric}, {Type: "numeric(5,2)", OID: oidNumeric}, {Type: "timestamp with time zone", OID: oidTimestamptz}, {Type: "timestamp(2)", OID: oidTimestamp},
		{Type: "date", OID: oidDate}, {Type: "time with time zone", OID: oidTimetz}, {Type: "interval", OID: oidInterval}, {Type: "jsonb", OID: oidJSONB}, {Type: "json", OID: oidJSON},
		{Type: "uuid", OID: oidUUID}, {Type: "bytea", OID: oidBytea}, {Type: "boolean", OID: oidBool}, {Type: "real", OID: oidFloat4}, {Type: "double precision", OID: oidFloat8},
		{Type: "bigint", OID: oidInt8}, {Type: "inet", OID: oidInet}, {Type: "cidr", OID: oidCIDR}, {Type: "macaddr", OID: oidMacaddr}, {Type: "character(4)", OID: oidBpchar},
		{Type: "text[]", OID: 1009}, {Type: "mood"},
	}
	for i, seed := range []string{"1.5e3", "-0.005", "2026-11-20T12:00:00+01:00", "2026-11-20 12:00:00.125", "0044-03-15 BC", "12:00+05:30", "1 year -2 days 04:05:06.7", "{a: [1, null]}", "'{}'", "[a, [b]]", "'\\xff'", "fine"} {
		f.Add(seed, uint8(i))
	}
	f.Fuzz(func(t *testing.T, yaml string, which uint8) {
		c := columns[int(which)%len(columns)]
		c.Name = "v"
		doc, err := strictyaml.Parse("", []byte(yaml))
		if err != nil || doc.Root() == nil {
			return
		}
		l := &loader{}
		v := l.typed(doc.Root(), c)
		if l.errs.Err() != nil || v.Kind != cdc.Text {
			return
		}
		again := &loader{}
		node := &strictyaml.Node{Kind: strictyaml.Scalar, Quoted: true, Text: string(v.Data)}
		text, err := again.textOf(node, typeOf(c))
		if c.OID == 0 || c.OID == 1009 {
			return // texts as they stand
		}
		require.NoError(t, err, fmt.Sprintf("%q is %q", yaml, v.Data))
		require.Equal(t, string(v.Data), text)
	})
}
