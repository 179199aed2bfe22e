package integration

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
	"github.com/walpurge/walpurge/cdc/watermark"
)

// peerColumn is a column and the SQL expressions that its values are drawn from.
type peerColumn struct {
	name, typ string
	values    []string
}

var peerColumns = []peerColumn{
	{"flag", "bool", []string{"true", "false"}},
	{"i2", "int2", []string{"-32768", "32767", "0"}},
	{"i4", "int4", []string{"-2147483648", "2147483647", "(random() * 1000)::int"}},
	{"i8", "int8", []string{"-9223372036854775808", "9223372036854775807", "42"}},
	{"num", "numeric", []string{"'NaN'", "'Infinity'", "1e200", "-0.000000000000000000000000000001", "123456789012345678901234567890.123456789", "0.10"}},
	{"num2", "numeric(12, 2)", []string{"1.5", "-99999.999", "0"}},
	{"f4", "float4", []string{"'Infinity'", "'-Infinity'", "'NaN'", "1.1", "1e-40", "3.4028235e38"}},
	{"f8", "float8", []string{"'Infinity'", "'-Infinity'", "'NaN'", "0.1 + 0.2", "5e-324", "-0.0", "random()"}},
	{"t", "text", []string{"''", "'plain'", `E'quote '' "double" \\ back\nline\ttab'`, "'ünïcödé 漢字 🎉'", "repeat('x', 1500)", "' lead and trail '"}},
	{"vc", "varchar(20)", []string{"''", "'varchar'", "'trail   '"}},
	{"ch", "char(8)", []string{"''", "'abc'", "'12345678'"}},
	{"u", "uuid", []string{"gen_random_uuid()", "'00000000-0000-0000-0000-000000000000'"}},
	{"d", "date", []string{"'infinity'", "'-infinity'", "'0044-03-15 BC'", "'2024-02-29'", "'294276-12-31'"}},
	{"ti", "time", []string{"'00:00'", "'24:00'", "'23:59:59.999999'"}},
	{"tiz", "timetz", []string{"'12:00+05:30'", "'00:00:00.1-15:59'"}},
	{"ts", "timestamp", []string{"'infinity'", "'2024-02-29 12:00:00.000001'", "'0001-01-01 00:00:00 BC'", "clock_timestamp()"}},
	{"tsz", "timestamptz", []string{"'infinity'", "'-infinity'", "'2024-06-30 23:59:59.5 America/New_York'", "'4713-01-01 00:00:00+00 BC'", "clock_timestamp()"}},
	{"iv", "interval", []string{"'1 year 2 mons -3 days 04:05:06.789'", "'-00:00:00.000001'", "'0'", "'178000000 years'"}},
	{"js", "json", []string{`'{"a": 1, "a":  2}'`, "'null'", "'[]'"}},
	{"jb", "jsonb", []string{`'{"b": [1, 2.50, "x"], "a": null}'`, `'"\u00e9"'`, "'12345678901234567890'"}},
	{"ta", "text[]", []string{`ARRAY['a,b', 'c"d', 'e\f', '{}', NULL, 'NULL', '']`, "'{}'"}},
	{"ia", "int[]", []string{"'{1,2,NULL}'", "'[0:1]={5,6}'"}},
	{"ia2", "int[][]", []string{"'{{1,2},{3,4}}'"}},
	{"by", "bytea", []string{`'\x'`, `'\x00ff27225c'`, "decode(repeat('ab', 200), 'hex')"}},
	{"en", "mood", []string{"'fine'", `'so, "so"'`}},
	{"ip", "inet", []string{"'10.0.0.1'", "'10.0.0.1/8'", "'::ffff:1.2.3.4'"}},
	{"net", "cidr", []string{"'10.0.0.0/8'", "'2001:db8::/32'"}},
	{"mac", "macaddr", []string{"'08:00:2b:01:02:03'"}},
	{"cash", "money", []string{"'-1234.56'", "0"}},
	{"pt", "point", []string{"'(1.5,-2)'", "'(NaN,Infinity)'"}},
	{"tv", "tsvector", []string{"to_tsvector('simple', 'a ''fat'' cat:1')", "''"}},
	{"rg", "int4range", []string{"'[1,5]'", "'empty'", "'(,)'"}},
	{"tr", "tstzrange", []string{"'[2024-01-01 00:00+00,infinity]'"}},
	{"co", "pair", []string{`ROW(1, 'a "b", (c)')`, "ROW(NULL, '')"}},
	{"dom", "positive", []string{"1", "77"}},
	{"bits", "varbit", []string{"B'1010'", "B''"}},
	{`Odd "Name"`, "text", []string{"'odd'", "''"}},
}

// peer makes both tables, changes random rows, and remembers what PostgreSQL
// itself prints for them.
type peer struct {
	t    *testing.T
	conn *pgconn.PgConn
	rng  *rand.Rand
	cols []peerColumn
	want []peerChange
	// newest is PostgreSQL 18 and later, which refuse updates of a published table with FULL and a
	// generated column.
	newest bool
}

// peerChange is what a change must look like: the row before and after, as
// PostgreSQL prints it; a nil value is NULL.
type peerChange struct {
	op       cdc.Op
	table    string
	old, new map[string]*string
}

func (p *peer) exec(sql string) []*pgconn.Result {
	p.t.Helper()
	res, err := p.conn.Exec(p.t.Context(), sql).ReadAll()
	require.NoError(p.t, err, sql)
	return res
}

// row reads a row in the text form of the protocol.
func (p *peer) row(table string, id int) map[string]*string {
	p.t.Helper()
	res := p.exec(fmt.Sprintf("SELECT * FROM %s WHERE id = %d", table, id))[0]
	if len(res.Rows) == 0 {
		return nil
	}
	row := make(map[string]*string)
	for i, f := range res.FieldDescriptions {
		row[f.Name] = nil
		if v := res.Rows[0][i]; v != nil {
			row[f.Name] = new(string(v))
		}
	}
	delete(row, "gen")
	return row
}

func (p *peer) value(c peerColumn) string {
	if p.rng.IntN(6) == 0 {
		return "NULL"
	}
	return fmt.Sprintf("CAST(%s AS %s)", c.values[p.rng.IntN(len(c.values))], c.typ)
}

func quoted(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func (p *peer) tables(names ...string) {
	p.exec(`CREATE TYPE mood AS ENUM ('fine', 'so, "so"'); CREATE TYPE pair AS (n int, s text); CREATE DOMAIN positive AS int CHECK (VALUE > 0)`)
	if p.exec("SELECT 1 FROM pg_available_extensions WHERE name = 'hstore'")[0].Rows != nil {
		p.exec("CREATE EXTENSION hstore")
		p.cols = append(p.cols, peerColumn{"hs", "hstore", []string{`'a=>1, "b c"=>NULL, d=>"\"q\""'`, "''"}})
	}
	for _, name := range names {
		var b strings.Builder
		for _, c := range p.cols {
			fmt.Fprintf(&b, ", %s %s", quoted(c.name), c.typ)
		}
		if name == "peer_key" || !p.newest {
			b.WriteString(", gen int GENERATED ALWAYS AS (id * 2) STORED")
		}
		p.exec(fmt.Sprintf("CREATE TABLE %s (id int PRIMARY KEY%s, big text); ALTER TABLE %s ALTER COLUMN big SET STORAGE EXTERNAL", name, b.String(), name))
	}
}

func (p *peer) insert(table string, id int) {
	names, values := []string{"id", "big"}, []string{fmt.Sprint(id), "NULL"}
	switch p.rng.IntN(8) {
	case 0:
		values[1] = "repeat('abcdefgh', 131072)" // 1 MiB
	case 1:
		values[1] = "repeat('y', 10000)"
	}
	for _, c := range p.cols {
		names, values = append(names, quoted(c.name)), append(values, p.value(c))
	}
	p.exec(fmt.Sprintf("INSERT INTO %s (%s) VALUES (%s)", table, strings.Join(names, ", "), strings.Join(values, ", ")))
	p.want = append(p.want, peerChange{cdc.Insert, table, nil, p.row(table, id)})
}

// update changes some columns, now and then the key, and the large one only on purpose.
func (p *peer) update(table string, id, moved int) {
	old := p.row(table, id)
	var sets []string
	if moved != id {
		sets = append(sets, fmt.Sprintf("id = %d", moved))
	}
	for range 1 + p.rng.IntN(5) {
		c := p.cols[p.rng.IntN(len(p.cols))]
		if set := quoted(c.name) + " = "; !slices.ContainsFunc(sets, func(s string) bool { return strings.HasPrefix(s, set) }) {
			sets = append(sets, set+p.value(c))
		}
	}
	if p.rng.IntN(5) == 0 {
		sets = append(sets, "big = repeat('z', 5000)")
	}
	p.exec(fmt.Sprintf("UPDATE %s SET %s WHERE id = %d", table, strings.Join(sets, ", "), id))
	p.want = append(p.want, peerChange{cdc.Update, table, old, p.row(table, moved)})
}

func (p *peer) delete(table string, id int) {
	old := p.row(table, id)
	p.exec(fmt.Sprintf("DELETE FROM %s WHERE id = %d", table, id))
	p.want = append(p.want, peerChange{cdc.Delete, table, old, nil})
}

// got is a change with its bytes copied.
type got struct {
	op       cdc.Op
	rel      *cdc.Relation
	old, new cdc.Tuple
}

// gatherer is a handler that keeps everything.
type gatherer struct {
	mu    sync.Mutex
	all   []got
	ready chan struct{}
}

func (g *gatherer) Start(context.Context, cdc.Session) error { close(g.ready); return nil }

func (g *gatherer) Change(_ context.Context, _ *cdc.Txn, c *cdc.Change) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all = append(g.all, got{c.Op, c.Rel, cloneTuple(c.Old), cloneTuple(c.New)})
	return nil
}

func (g *gatherer) Abort(context.Context, *cdc.Txn) error  { return nil }
func (g *gatherer) Commit(context.Context, *cdc.Txn) error { return nil }
func (g *gatherer) Reads(*cdc.Txn, *cdc.Relation) []bool   { return nil }

func (g *gatherer) Hears(*cdc.Txn, string) int { return 1 << 30 }

func (g *gatherer) TableGap(context.Context, *cdc.Txn, cdc.TableGap) error {
	return errors.New("the tables were published from the start")
}
func (g *gatherer) Rest(context.Context, cdc.Rest) error { return nil }
func (g *gatherer) Message(context.Context, *cdc.Txn, string, []byte) error {
	return nil
}

func (g *gatherer) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.all)
}

func cloneTuple(t cdc.Tuple) cdc.Tuple {
	out := slices.Clone(t)
	for i := range out {
		out[i].Data = slices.Clone(out[i].Data)
	}
	return out
}

// pinned opens a connection with the settings that the reader uses, so that both
// sides print alike.
func pinned(t *testing.T, url string) *pgconn.PgConn {
	t.Helper()
	cfg, err := pgconn.ParseConfig(url)
	require.NoError(t, err)
	for name, value := range map[string]string{"DateStyle": "ISO", "TimeZone": "UTC", "IntervalStyle": "postgres", "extra_float_digits": "1", "bytea_output": "hex", "client_encoding": "UTF8"} {
		cfg.RuntimeParams[name] = value
	}
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestDecoderAgreesWithPostgreSQL compares every value of random changes with
// what PostgreSQL prints for the same row. The server's own settings are odd,
// so that only the pinned ones can be right.
func TestDecoderAgreesWithPostgreSQL(t *testing.T) {
	t.Parallel()
	r := newRig(t, rigOptions{postgres: map[string]string{
		"datestyle": "German, DMY", "timezone": "Asia/Kathmandu", "intervalstyle": "iso_8601", "extra_float_digits": "-3", "bytea_output": "escape",
	}})
	p := &peer{t: t, conn: pinned(t, r.pg.URL("app")), rng: rand.New(rand.NewPCG(4, 2)), cols: slices.Clone(peerColumns)}
	p.newest = string(p.exec("SELECT current_setting('server_version_num')::int >= 180000")[0].Rows[0][0]) == "t"
	tables := []string{"peer_full", "peer_key"}
	p.tables(tables...)
	p.exec("ALTER TABLE peer_full REPLICA IDENTITY FULL")

	cfg := postgres.DefaultConfig("peer")
	cfg.URL = r.pg.URL("app")
	g := &gatherer{ready: make(chan struct{})}
	reader := postgres.NewReader(cfg, postgres.Options{
		StopGrace: 5 * time.Second,
		Board:     watermark.NewBoard(), Confirm: watermark.ConfirmSynced, Logger: slog.New(slog.DiscardHandler),
		Watch: func() postgres.Watch {
			return postgres.Watch{Tables: []cdc.Table{{Schema: "public", Name: "peer_full"}, {Schema: "public", Name: "peer_key"}}}
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- reader.Run(ctx, g) }()
	defer func() { stop(); require.NoError(t, <-done) }()
	<-g.ready
	p.exec("SELECT pg_create_logical_replication_slot('recorded', 'pgoutput')")

	for id := range 40 {
		for _, table := range tables {
			p.insert(table, id)
			for range p.rng.IntN(3) {
				p.update(table, id, id)
			}
			if p.rng.IntN(3) == 0 {
				p.update(table, id, id+1000)
				p.delete(table, id+1000)
			} else if p.rng.IntN(3) == 0 {
				p.delete(table, id)
			}
		}
	}
	eventually(t, 30*time.Second, func() bool { return g.count() == len(p.want) }, "every change arrives")
	unchanged := 0
	for i, want := range p.want {
		unchanged += g.all[i].compare(t, want)
	}
	require.Positive(t, unchanged, "large values that were not sent are among them")
	sameAsPeer(t, pinned(t, r.pg.URL("app")))
}

// compare checks one change and returns how many values were not sent.
func (g got) compare(t *testing.T, want peerChange) (unchanged int) {
	t.Helper()
	require.Equal(t, want.op, g.op)
	require.Equal(t, "public."+want.table, g.rel.String())
	moved := want.new != nil && want.old != nil && *want.old["id"] != *want.new["id"]
	full := want.table == "peer_full"
	require.Equal(t, want.old != nil && (full || moved || want.op == cdc.Delete), g.old != nil, "%v of %s has an old row", want.op, want.table)
	require.Equal(t, want.new != nil, g.new != nil)
	for i, col := range g.rel.Columns {
		if g.old != nil {
			if v := g.old[i]; !full && col.Name != "id" {
				require.Equal(t, cdc.Absent, v.Kind, "%s lies outside of the identity", col.Name)
			} else {
				same(t, col.Name, want.old[col.Name], v)
			}
		}
		if g.new == nil {
			continue
		}
		if v := g.new[i]; v.Kind == cdc.Unchanged {
			unchanged++
			require.Equal(t, "big", col.Name)
			require.Equal(t, want.old["big"], want.new["big"])
		} else {
			same(t, col.Name, want.new[col.Name], v)
		}
	}
	if g.new != nil {
		require.Len(t, want.new, len(g.new), "no column is left out but the generated one")
	}
	return unchanged
}

func same(t *testing.T, column string, want *string, got cdc.Value) {
	t.Helper()
	if want == nil {
		require.Equal(t, cdc.Null, got.Kind, column)
		return
	}
	require.Equal(t, cdc.Text, got.Kind, column)
	require.True(t, *want == string(got.Data), "%s: want %.100q, got %.100q", column, *want, got.Data)
}
