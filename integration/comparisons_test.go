package integration

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// compared are types, with values in various ways of writing each. Every pair of values is compared
// by SQL and by rules: as two columns, and as a column and a literal.
var compared = []struct {
	typ    string
	values []string
	// literal writes a value in CEL; nil: as a text.
	literal func(string) string
	// Rules may be unable to decide whether values are equal, or which is less.
	equalUndecided, orderUndecided bool
}{
	{typ: "smallint", values: []string{"-1", "0", "7"}, literal: number},
	{typ: "integer", values: []string{"-1", "0", "2147483647"}, literal: number},
	{typ: "bigint", values: []string{"9007199254740993", "9007199254740992", "-9223372036854775808"}, literal: number},
	{typ: "numeric(30,2)", values: []string{"12345678901234567.89", "12345678901234567.88", "12345678901234568"}, literal: number, equalUndecided: true, orderUndecided: true},
	{typ: "numeric", values: []string{"1.50", "1.5", "-0.0", "0", "NaN", "Infinity", "-Infinity", "0.10", "10", "-10", "-1.5"}, literal: number},
	{typ: "numeric(12,2)", values: []string{"1.50", "10", "-3"}, literal: number},
	{typ: "real", values: []string{"0.1", "1.5", "-0", "0", "NaN", "Infinity", "16777216"}, literal: number, equalUndecided: true, orderUndecided: true},
	{typ: "double precision", values: []string{"0.1", "1.5", "-0", "0", "NaN", "-Infinity", "1e300"}, literal: number},
	{typ: "boolean", values: []string{"true", "false"}, literal: func(s string) string { return s }},
	{typ: "text", values: []string{"a", "b", "a ", "A", "", "é"}},
	{typ: "varchar(5)", values: []string{"a", "b", "a ", "A", ""}},
	{typ: "name", values: []string{"a", "b", "A"}},
	{typ: "char(5)", values: []string{"a", "a  ", "b", "", "   ", "ab", "A", "é"}},
	{typ: `"char"`, values: []string{"a", "b"}, orderUndecided: true},
	{typ: "citext", values: []string{"a", "A", "b", "aB", "é", "É"}, equalUndecided: true, orderUndecided: true},
	{typ: "mood", values: []string{"sad", "ok", "good"}, orderUndecided: true},
	{typ: "uuid", values: []string{"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11", "{a0eebc999c0b4ef8bb6d6bb9bd380a11}", "00000000-0000-0000-0000-000000000000"}},
	{typ: "bytea", values: []string{`\x00ff`, `\x00FF`, `\x`, `\x61`, "a", `\x0100`}},
	{typ: "bit(3)", values: []string{"101", "001"}}, {typ: "bit varying", values: []string{"101", "1", "10", ""}},
	{typ: "macaddr", values: []string{"08:00:2b:01:02:03", "08-00-2B-01-02-03", "0800.2b01.0204"}},
	{typ: "macaddr8", values: []string{"08:00:2b:01:02:03:04:05", "08-00-2B-01-02-03-04-06"}},
	{typ: "inet", values: []string{"10.0.0.1", "10.0.0.1/32", "10.0.0.1/8", "::1", "2001:DB8::1", "2001:db8:0::1"}, orderUndecided: true},
	{typ: "cidr", values: []string{"10.0.0.0/8", "10.1.0.0/16", "10.0.0.1"}, orderUndecided: true},
	{typ: "time", values: []string{"12:00", "12:00:00", "12:00:00.5", "24:00:00", "00:00"}},
	{typ: "timetz", values: []string{"12:00:00+00", "13:00:00+01", "12:00:00+02"}, equalUndecided: true, orderUndecided: true},
	{typ: "interval", values: []string{"1 day", "24:00:00", "1 mon", "30 days", "2 days"}, equalUndecided: true, orderUndecided: true},
	{typ: "timestamp", values: []string{"2026-11-20 12:00:00", "2026-11-20 12:00:00.5"}, literal: moment},
	{typ: "timestamptz", values: []string{"2026-11-20 12:00:00+00", "2026-11-20 13:00:00+01", "2026-11-20 12:00:00.000001+00"}, literal: nil},
	{typ: "date", values: []string{"2026-11-20", "2026-11-21"}, literal: moment},
	{typ: "oid", values: []string{"7", "10", "4294967295"}}, {typ: "xid8", values: []string{"7", "10"}},
	{typ: "money", values: []string{"$1.00", "1", "$1,000.00"}, equalUndecided: true, orderUndecided: true},
	{typ: "int4range", values: []string{"[1,5)", "[1,4]", "empty"}, equalUndecided: true, orderUndecided: true},
	{typ: "numrange", values: []string{"[1.0,5)", "[1.00,5)", "[2,3)"}, equalUndecided: true, orderUndecided: true},
	{typ: "int4multirange", values: []string{"{[1,5)}", "{[1,4]}"}, equalUndecided: true, orderUndecided: true},
	{typ: "tsvector", values: []string{"'a' 'b'", "a b"}, equalUndecided: true, orderUndecided: true},
	{typ: "pg_lsn", values: []string{"0/16B3748", "0/16b3748", "0/0"}, equalUndecided: true, orderUndecided: true},
	{typ: "hstore", values: []string{`"a"=>"1"`, "a=>1", "b=>2"}, equalUndecided: true, orderUndecided: true},
	{typ: "ltree", values: []string{"Top.A", "Top.B"}, orderUndecided: true},
	{typ: "stars", values: []string{"1", "2", "10"}, literal: number},
	{typ: "code", values: []string{"a", "a  ", "b"}},
	{typ: "text[]", values: []string{"{a,b}", "{a}", "{}", `{"a b",NULL}`}, literal: list, orderUndecided: true},
	{typ: "char(3)[]", values: []string{"{a,b}", "{b}"}, literal: list, orderUndecided: true},
	{typ: "numeric[]", values: []string{"{1.50,2}", "{1.5,2.00}", "{3}"}, literal: nil, orderUndecided: true},
}

func number(s string) string {
	switch s {
	case "NaN", "Infinity", "-Infinity":
		return fmt.Sprintf("double(%q)", s)
	}
	return strings.TrimSuffix(strings.TrimSuffix(s, "0.0"), "-") + map[bool]string{true: "0.0"}[s == "-0.0"]
}

func moment(s string) string {
	day, clock, _ := strings.Cut(s, " ")
	if clock == "" {
		clock = "00:00:00"
	}
	return fmt.Sprintf("timestamp(%q)", day+"T"+clock+"Z")
}

func list(s string) string {
	var out []string
	for _, e := range strings.Split(strings.Trim(s, "{}"), ",") {
		switch {
		case e == "NULL":
			out = append(out, "null")
		case e != "":
			out = append(out, fmt.Sprintf("%q", strings.Trim(e, `"`)))
		}
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// TestComparisonsAgreeWithSQL compares values of every type by SQL and by conditions of rules, on
// rows as the stream carries them. Rules say what SQL says, or that they cannot decide.
func TestComparisonsAgreeWithSQL(t *testing.T) {
	t.Parallel()
	pg, conn, exec := database(t, harness.PostgresConfig{})
	exec(`CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE TYPE mood AS ENUM ('sad', 'ok', 'good');
CREATE DOMAIN stars AS int; CREATE DOMAIN code AS char(5)`)
	var tables []cdc.Table
	rows := 0
	var fill strings.Builder
	for i, c := range compared {
		name := fmt.Sprintf("c%d", i)
		tables = append(tables, cdc.Table{Schema: "public", Name: name})
		collate := ""
		if c.typ == "text" || strings.Contains(c.typ, "char(") || c.typ == "citext" || c.typ == "name" || c.typ == "code" {
			collate = ` COLLATE "C"` // of other collations check has a note
		}
		exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY, a %s%s, b %s%s)", name, c.typ, collate, c.typ, collate))
		for _, a := range c.values {
			for _, b := range c.values {
				fmt.Fprintf(&fill, "INSERT INTO %s VALUES (%d, %s, %s);\n", name, rows, quoteSQL(a), quoteSQL(b))
				rows++
			}
		}
	}
	cfg := postgres.DefaultConfig("compared")
	cfg.URL = pg.URL("postgres")
	g := &gatherer{ready: make(chan struct{})}
	reader := postgres.NewReader(cfg, postgres.Options{StopGrace: time.Millisecond, Board: watermark.NewBoard(), Confirm: watermark.ConfirmSynced,
		Logger: slog.New(slog.DiscardHandler), Watch: func() postgres.Watch { return postgres.Watch{Tables: tables} }})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, g) }()
	defer func() { stop(); require.NoError(t, <-done) }()
	<-g.ready
	exec("BEGIN; " + fill.String() + " COMMIT")
	eventually(t, 30*time.Second, func() bool { return g.count() == rows }, "every row arrives")

	n := 0
	for i, c := range compared {
		// What SQL says of the two columns, row by row.
		less, greater := "<", ">"
		if c.typ == "hstore" {
			less, greater = "#<#", "#>#"
		}
		found, err := conn.Query(t.Context(), fmt.Sprintf("SELECT a = b, a %s b, a %s b FROM %s ORDER BY id", less, greater, tables[i].Name))
		require.NoError(t, err, c.typ)
		type verdict struct{ Equal, Less, Greater bool }
		says, err := pgx.CollectRows(found, pgx.RowToStructByPos[verdict])
		require.NoError(t, err, c.typ)
		others := []string{"b"}
		for _, v := range c.values {
			switch {
			case c.literal != nil:
				others = append(others, c.literal(v))
			case c.typ != "timestamptz" && !strings.HasSuffix(c.typ, "[]"):
				others = append(others, strconv.Quote(v))
			}
		}
		conditions := newConditions(t, tables[i], others, !strings.HasSuffix(c.typ, "[]") && c.typ != "boolean")
		for row := range says {
			change := cdc.Change{Op: cdc.Insert, Rel: g.all[n].rel, New: g.all[n].new}
			n++
			compare := []string{"b"}
			if len(others) > 1 {
				compare = append(compare, others[1+row%len(c.values)])
			}
			for _, got := range conditions.of(&change, compare) {
				want := map[string]bool{"==": says[row].Equal, "in": says[row].Equal, "!=": !says[row].Equal, "<": says[row].Less, ">=": says[row].Greater || says[row].Equal}[got.op]
				what := fmt.Sprintf("%s: %s of %q and %q", c.typ, got.when, c.values[row/len(c.values)], c.values[row%len(c.values)])
				if got.decided {
					require.Equal(t, want, got.holds, what)
					continue
				}
				mayBe := c.equalUndecided
				if strings.ContainsAny(got.op, "<>") {
					mayBe = c.orderUndecided
				}
				require.True(t, mayBe, "%s is undecided", what)
			}
		}
	}
}

// conditions are rules of one table, each with a condition that compares its columns or a column
// with a literal.
type conditions struct {
	set *rules.Set
	all []condition
}

type condition struct {
	op, other, when string
	holds, decided  bool
}

func newConditions(t *testing.T, table cdc.Table, others []string, ordered bool) *conditions {
	c := &conditions{}
	var text strings.Builder
	text.WriteString("rules:\n")
	add := func(op, other, when string) {
		fmt.Fprintf(&text, "  - {name: r%d, table: %s, when: %s, keys: [k]}\n", len(c.all), table, quoteSQL(when))
		c.all = append(c.all, condition{op: op, other: other, when: when})
	}
	for i, other := range others {
		if slices.Index(others, other) < i {
			continue
		}
		ops := []string{"==", "!="}
		if ordered {
			ops = append(ops, "<", ">=")
		}
		for _, op := range ops {
			add(op, other, "a "+op+" "+other)
			add(op, other, other+" "+map[string]string{"==": "==", "!=": "!=", "<": ">", ">=": "<="}[op]+" a")
		}
		add("in", other, "a in ["+other+"]")
	}
	var err error
	c.set, err = rules.Parse("rules.yaml", []byte(text.String()), rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}}})
	require.NoError(t, err)
	return c
}

// of is what the conditions with one of the other sides say of a change.
func (c *conditions) of(change *cdc.Change, others []string) (out []condition) {
	says := make(outcomes, len(c.all))
	c.set.Bind(change.Rel).Eval(change, says)
	for i, one := range c.all {
		if slices.Contains(others, one.other) {
			one.holds, one.decided = says[i].matched, !says[i].unknown
			out = append(out, one)
		}
	}
	return out
}

func quoteSQL(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// outcomes are the verdicts of rules.
type outcomes []struct{ matched, unknown bool }

func (outcomes) Invalidate(int, int, invalidation.Kind, []byte) {}
func (outcomes) Fallback(int, int, *rules.Fallback)             {}
func (outcomes) Lookup(*rules.Pending)                          {}
func (o outcomes) Verdict(rule int, v rules.Verdict) {
	o[rule].matched = o[rule].matched || v == rules.Matched
	o[rule].unknown = o[rule].unknown || v == rules.UnknownCondition
}
