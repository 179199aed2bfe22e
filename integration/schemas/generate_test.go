package schemas

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// generator makes a script of random numbers. It follows what its statements do where that is easy,
// so that most of them succeed; a statement that fails must fail in both databases.
type generator struct {
	*rand.Rand
	major  int
	s      *script
	tables []*table
	// down reports that the daemon is stopped, names counts what needs a name of its own.
	down  bool
	names int
	// schemas are those with tables; publication reports that another role has created the publication, and
	// bySchema that it is one of schemas.
	schemas               []string
	publication, bySchema bool
	// without are the names of what is not tried.
	without map[string]bool
}

// table is what rules watch.
type table struct {
	schema, name string
	kind         kind
	columns      []*column
	// key are the columns of the primary key, without one if it is empty.
	key []string
	// identity is FULL, DEFAULT or INDEX.
	identity string
	// leaves are the partitions or children, by number; nil where there is none.
	leaves [6]*leaf
	// away is the name that the table bears now, where it is another.
	awaySchema, awayName string
}

type kind string

const (
	plain    kind = "plain"
	byRange  kind = "partitioned by range"
	byList   kind = "partitioned by list"
	byHash   kind = "partitioned by hash"
	nested   kind = "partitioned twice"
	inherits kind = "with children"
)

type leaf struct {
	name     string
	attached bool
}

type column struct {
	name, typ string
	values    []string
	notNull   bool
	// generated columns are not written.
	generated bool
	// keyed columns can be in a key of the cache as their text.
	keyed bool
}

// columnTypes are what columns have, with SQL literals.
var columnTypes = []column{
	{typ: "int", values: []string{"1", "2", "-3"}, keyed: true},
	{typ: "bigint", values: []string{"1", "20000000000"}, keyed: true},
	{typ: "smallint", values: []string{"7", "8"}, keyed: true},
	{typ: "text", values: []string{"'a'", "'b'", "'c d'", "''", "'größe'", "'*'"}, keyed: true},
	{typ: "varchar(20)", values: []string{"'a'", "'b,c'", `'"q"'`}, keyed: true},
	{typ: "uuid", values: []string{"'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'", "'00000000-0000-0000-0000-000000000000'"}, keyed: true},
	{typ: "mood", values: []string{"'low'", "'high'", "'so so'"}, keyed: true},
	{typ: "code", values: []string{"'x1'", "'x2'"}, keyed: true},
	{typ: "numeric(8,2)", values: []string{"1.5", "2", "10.25"}, keyed: true},
	{typ: "date", values: []string{"'2026-11-30'", "'infinity'"}, keyed: true},
	{typ: "timestamptz", values: []string{"'2026-11-30 12:00:00.5+02'", "'-infinity'"}},
	{typ: "boolean", values: []string{"true", "false"}, keyed: true},
	{typ: "numeric", values: []string{"1.0", "1.00", "'NaN'"}},
	{typ: "jsonb", values: []string{`'{"a": 1}'`, `'[1, "x"]'`, "'null'"}},
	{typ: "ext.citext", values: []string{"'Abc'", "'aBC'"}},
	{typ: "char(6)", values: []string{"'ab'", "'abc'"}},
	{typ: "text[]", values: []string{"'{}'", "'{a,b}'", `'{"a,b",NULL,"NULL","x\"y"}'`, "'{{a,b},{c,d}}'"}},
	{typ: "int[]", values: []string{"'{1,2}'", "'{3}'"}},
	{typ: "bytea", values: []string{`'\x00ff'`}},
	{typ: "interval", values: []string{"'1 day'", "'24:00'"}},
	{typ: "int4range", values: []string{"'[1,5)'"}},
	{typ: "inet", values: []string{"'10.0.0.1/8'"}},
	{typ: "pair", values: []string{"ROW(1, 'a')", "NULL"}},
}

func one[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

func (g *generator) odds(percent int) bool { return g.IntN(100) < percent }

func (g *generator) name(prefix string) string {
	g.names++
	return fmt.Sprintf("%s_%d", prefix, g.names)
}

func quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

// now is the table's name as it is now.
func (t *table) now() string { return quote(t.awaySchema, t.awayName) }

func (t *table) partitioned() bool { return strings.HasPrefix(string(t.kind), "partitioned") }

func (t *table) leaf(l *leaf) string { return quote(t.schema, l.name) }

// attached are the leaves that belong to the table.
func (t *table) attached() (out []*leaf) {
	for _, l := range t.leaves {
		if l != nil && l.attached {
			out = append(out, l)
		}
	}
	return out
}

// some is one of the leaves that belong to the table, nil if there is none.
func (g *generator) some(t *table) *leaf {
	if all := t.attached(); len(all) > 0 {
		return all[g.IntN(len(all))]
	}
	return nil
}

func (t *table) column(name string) *column {
	i := slices.IndexFunc(t.columns, func(c *column) bool { return c.name == name })
	if i < 0 {
		return nil
	}
	return t.columns[i]
}

// generate makes the script of a seed.
func generate(seed uint64, major int, without []string) *script {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 20)), major: major, s: &script{seed: seed}, without: make(map[string]bool)}
	for _, name := range without {
		g.without[name] = true
	}
	g.setup("CREATE TYPE mood AS ENUM ('low', 'high', 'so so')")
	g.setup("CREATE TYPE pair AS (n int, s text)")
	g.setup("CREATE DOMAIN code AS text CHECK (value ~ '^x')")
	schemas := []string{"public"}
	for _, name := range []string{"shop", "Odd Schema", "größe"} {
		if g.odds(40) {
			schemas = append(schemas, name)
			g.setup("CREATE SCHEMA " + quote(name))
		}
	}
	for range 1 + g.IntN(2) {
		g.tables = append(g.tables, g.table(one(g, schemas...)))
	}
	g.s.watch = nil
	for _, t := range g.tables {
		g.watch(t)
	}
	if g.odds(25) {
		g.tenants()
	}
	g.schemas = schemas
	if g.odds(30) && !g.without["publications"] {
		g.publish()
	}
	for range 6 + g.IntN(9) {
		t := one(g, g.tables...)
		switch {
		case g.down && g.odds(50):
			g.s.steps = append(g.s.steps, step{kind: start})
			g.down = false
		case g.odds(4) && !(g.without["stop while a table is away"] && g.away()):
			g.s.steps = append(g.s.steps, step{kind: stop})
			g.down = true
		case !g.down && g.odds(5) && !g.without["kill"] && !(g.without["stop while a table is away"] && g.away()):
			g.s.steps = append(g.s.steps, step{kind: kill, sql: []string{g.write(t), g.write(t)}})
			if sql := g.alter(t); sql != "" {
				last := &g.s.steps[len(g.s.steps)-1]
				last.sql = append(last.sql, sql)
			}
			g.down = true
		case !g.down && len(g.s.watch) > 0 && g.odds(8) && !g.without["reload"]:
			g.s.steps = append(g.s.steps, step{kind: reload, sql: []string{g.write(t)}, rules: g.someRules()})
		case g.odds(6) && !g.without["open writers"]:
			g.s.steps = append(g.s.steps, step{sql: []string{other + "BEGIN; " + g.change(t), g.beside(t), other + g.change(t) + "; COMMIT"}})
		case g.odds(4) && !g.without["prepared transactions"]:
			g.s.steps = append(g.s.steps, step{sql: []string{"BEGIN; " + g.block(t, 0) + "PREPARE TRANSACTION " + gid, one(g, "COMMIT", "COMMIT", "ROLLBACK") + " PREPARED " + gid}})
		default:
			var sql []string
			for range one(g, 1, 1, 1, 2, 3) {
				if s := one(g, g.write, g.alter)(t); s != "" {
					sql = append(sql, s)
				}
			}
			if len(sql) > 0 {
				g.s.steps = append(g.s.steps, step{sql: sql})
			}
		}
	}
	return g.s
}

// publish creates the publication, as another role may.
func (g *generator) publish() {
	g.publication, g.bySchema = true, g.major >= 15 && g.odds(50)
	what := "ALL TABLES"
	if g.bySchema {
		what = "TABLES IN SCHEMA " + quote(g.schemas[0])
	}
	g.setup(fmt.Sprintf("CREATE PUBLICATION %s FOR %s WITH (publish_via_partition_root)", publication, what))
}

// someRules are names of one or more rules.
func (g *generator) someRules() (out []string) {
	for _, w := range g.s.watch {
		if w.yaml != "" && g.odds(60) {
			out = append(out, w.name)
		}
	}
	if out == nil {
		return []string{one(g, g.s.watch...).name}
	}
	return out
}

// away reports that a table bears another name than rules have for it.
func (g *generator) away() bool {
	return slices.ContainsFunc(g.tables, func(t *table) bool { return t.now() != quote(t.schema, t.name) })
}

func (g *generator) setup(sql string) { g.s.setup = append(g.s.setup, sql) }

// table makes one with rows.
func (g *generator) table(schema string) *table {
	name := one(g, "orders", "Order Table", "größe")
	t := &table{schema: schema, name: g.name(name), kind: one(g, plain, plain, byRange, byRange, byList, byHash, nested, inherits)}
	t.awaySchema, t.awayName = t.schema, t.name
	if t.kind == inherits && g.without["children"] {
		t.kind = plain
	}
	t.columns = []*column{{name: "id", typ: "int", notNull: true, keyed: true}, {name: "region", typ: "int", notNull: true, keyed: true}}
	for _, name := range []string{"ref", "status", "note", "Odd Col"}[:2+g.IntN(3)] {
		c := one(g, columnTypes...)
		c.name, c.notNull = name, name == "ref"
		if name == "note" && g.odds(50) {
			c = column{name: name, typ: "text", values: []string{"'n1'", "'n2'", "repeat('x', 3000)"}}
		}
		t.columns = append(t.columns, &c)
	}
	t.identity = one(g, "FULL", "FULL", "DEFAULT", "INDEX")
	switch t.kind {
	case byList, nested:
		t.key = []string{"id", "region"}
	default:
		t.key = []string{"id"}
	}
	if t.identity == "FULL" && g.odds(20) {
		t.key = nil
	}
	var defs []string
	for _, c := range t.columns {
		def := quote(c.name) + " " + c.typ
		if c.notNull {
			def += " NOT NULL"
		}
		defs = append(defs, def)
	}
	if g.odds(25) && (t.identity == "DEFAULT" || g.major < 18) {
		defs = append(defs, "made int GENERATED ALWAYS AS (region * 2) STORED")
		t.columns = append(t.columns, &column{name: "made", typ: "int", generated: true})
	}
	if len(t.key) > 0 {
		defs = append(defs, "PRIMARY KEY ("+strings.Join(t.key, ", ")+")")
	}
	by := map[kind]string{byRange: " PARTITION BY RANGE (id)", nested: " PARTITION BY RANGE (id)", byList: " PARTITION BY LIST (region)", byHash: " PARTITION BY HASH (id)"}[t.kind]
	g.setup(fmt.Sprintf("CREATE TABLE %s (%s)%s", t.now(), strings.Join(defs, ", "), by))
	if c := t.column("note"); c != nil && c.typ == "text" && g.odds(50) {
		// Large values lie outside of the row, and are not sent as long as they stay as they are.
		g.setup(fmt.Sprintf("ALTER TABLE %s ALTER note SET STORAGE EXTERNAL", t.now()))
	}
	if g.odds(15) {
		g.setup(fmt.Sprintf(`CREATE FUNCTION %[1]s() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.region := (NEW.region + 1) %% 3; RETURN NEW; END';
CREATE TRIGGER %[1]s BEFORE INSERT ON %[2]s FOR EACH ROW EXECUTE FUNCTION %[1]s()`, g.name("before"), t.now()))
	}
	if t.identity == "INDEX" {
		g.setup(fmt.Sprintf("CREATE UNIQUE INDEX ON %s (%s)", t.now(), strings.Join(append(slices.Clone(t.key), "ref"), ", ")))
	}
	if t.kind != plain {
		for i := range 3 {
			g.setup(g.addLeaf(t, i))
		}
	}
	g.setup(t.identify())
	g.setup(g.insert(t, t.now(), 12))
	return t
}

// tenants makes tables of a pattern, of which some come later.
func (g *generator) tenants() {
	names := []string{"a", "b_2"}
	if !g.without["odd tenants"] {
		names = append(names, "acme-corp", "müller", "Big Co")
	}
	g.setup("CREATE SCHEMA tenant_none")
	yaml := "    keys: ['tenants:{tenant}:{id}']\n"
	for i, name := range names {
		schema := "tenant_" + name
		t := &table{schema: schema, name: "orders", awaySchema: schema, awayName: "orders", kind: plain, key: []string{"id"}, identity: "DEFAULT", columns: []*column{
			{name: "id", typ: "int", notNull: true, keyed: true}, {name: "region", typ: "int", notNull: true, keyed: true}, {name: "ref", typ: "text", values: []string{"'a'", "'b'"}, notNull: true},
		}}
		g.s.watch = append(g.s.watch, watch{name: "tenants", table: cdc.Table{Schema: schema, Name: "orders"}, pattern: "tenant_{tenant}.orders", yaml: yaml, key: fmt.Sprintf("'%s:' || t.id", name)})
		yaml = ""
		create := fmt.Sprintf("CREATE SCHEMA %s; CREATE TABLE %s (id int PRIMARY KEY, region int NOT NULL, ref text NOT NULL); %s", quote(schema), t.now(), g.insert(t, t.now(), 3))
		if i == 0 || g.odds(50) {
			g.setup(create)
		} else {
			g.s.steps = append(g.s.steps, step{sql: []string{create}})
		}
		g.tables = append(g.tables, t)
	}
}

// identify gives the table and all of its leaves its identity.
func (t *table) identify() string {
	set := "REPLICA IDENTITY " + t.identity
	if t.identity == "INDEX" {
		set = "REPLICA IDENTITY USING INDEX "
	}
	return fmt.Sprintf(`DO $$ DECLARE r record; BEGIN
  FOR r IN SELECT c.oid::regclass AS name, (SELECT x.relname FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid AND i.indisunique AND NOT i.indisprimary LIMIT 1) AS index
    FROM pg_class c WHERE c.oid = to_regclass('%[1]s') OR c.oid IN (SELECT relid FROM pg_partition_tree(to_regclass('%[1]s')))
      OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('%[1]s')) LOOP
    EXECUTE format('ALTER TABLE %%s %[2]s', r.name) || %[3]s;
  END LOOP; END $$`, t.now(), set, map[bool]string{true: "quote_ident(r.index)", false: "''"}[t.identity == "INDEX"])
}

// bounds of leaf i.
func (t *table) bounds(i int) string {
	switch t.kind {
	case byList:
		if i == 5 {
			return "DEFAULT"
		}
		return fmt.Sprintf("FOR VALUES IN (%d)", i)
	case byHash:
		return fmt.Sprintf("FOR VALUES WITH (MODULUS 3, REMAINDER %d)", i%3)
	}
	if i == 5 {
		return "DEFAULT"
	}
	return fmt.Sprintf("FOR VALUES FROM (%d) TO (%d)", 10*i, 10*i+10)
}

// addLeaf makes partition or child i.
func (g *generator) addLeaf(t *table, i int) string {
	l := &leaf{name: g.name(fmt.Sprintf("%s leaf", t.name)), attached: true}
	t.leaves[i] = l
	if t.kind == inherits {
		// A child has neither keys nor identity of its parent.
		sql := fmt.Sprintf("CREATE TABLE %s (extra text) INHERITS (%s)", t.leaf(l), t.now())
		if len(t.key) > 0 {
			sql += fmt.Sprintf("; ALTER TABLE %s ADD PRIMARY KEY (%s)", t.leaf(l), strings.Join(t.key, ", "))
		}
		if t.identity == "INDEX" {
			sql += fmt.Sprintf("; CREATE UNIQUE INDEX ON %s (%s)", t.leaf(l), strings.Join(append(slices.Clone(t.key), "ref"), ", "))
		}
		return sql
	}
	sql := fmt.Sprintf("CREATE TABLE %s PARTITION OF %s %s", t.leaf(l), t.now(), t.bounds(i))
	if t.kind == nested && g.odds(50) {
		sql += " PARTITION BY LIST (region)"
		for _, values := range []string{"FOR VALUES IN (0, 1)", "DEFAULT"} {
			sql += fmt.Sprintf("; CREATE TABLE %s PARTITION OF %s %s", quote(t.schema, g.name(l.name)), t.leaf(l), values)
		}
	}
	return sql
}

// watch makes rules for the table.
func (g *generator) watch(t *table) {
	known := func(c string) bool {
		return t.identity == "FULL" || slices.Contains(t.key, c) || t.identity == "INDEX" && c == "ref"
	}
	add := func(w watch, columns ...string) {
		w.name, w.table = fmt.Sprintf("r%d", len(g.s.watch)), cdc.Table{Schema: t.schema, Name: t.name}
		w.yaml = strings.ReplaceAll(w.yaml, "RULE", w.name)
		if slices.ContainsFunc(columns, func(c string) bool { return !known(c) }) {
			w.yaml += fmt.Sprintf("    unknown: {key_prefixes: ['%s:']}\n", w.name)
		}
		g.s.watch = append(g.s.watch, w)
	}
	for range 1 + g.IntN(3) {
		switch ref, status := t.column("ref"), t.column("status"); g.IntN(8) {
		case 0, 1:
			add(watch{yaml: "    keys: ['RULE:{id}']\n", key: "t.id"}, "id")
		case 2:
			if ref.keyed {
				add(watch{yaml: "    keys: ['RULE:{ref}']\n", key: "t.ref"}, "ref")
			} else if strings.HasSuffix(ref.typ, "[]") && !g.without["arrays"] {
				add(watch{yaml: "    keys: ['RULE:{ref}']\n", key: "unnest(t.ref)"}, "ref")
			} else if strings.HasPrefix(ref.typ, "char") && !g.without["char"] {
				add(watch{yaml: "    keys: ['RULE:{ref}']\n", key: "t.ref"}, "ref")
			}
		case 3:
			if status.typ == "text" || status.typ == "mood" || status.typ == "code" || status.typ == "varchar(20)" || strings.HasPrefix(status.typ, "char") && !g.without["char"] {
				value, compared := strings.Trim(status.values[0], "'"), "t.status"
				if status.typ == "mood" {
					compared += "::text" // a label that was renamed is no error in a rule, and equal to nothing
				}
				add(watch{yaml: fmt.Sprintf("    when: row.status == \"%s\"\n    keys: ['RULE:{id}']\n", value), key: "t.id", cond: fmt.Sprintf("%s = '%s'", compared, value)}, "id")
			}
		case 4:
			if t.column("note") != nil {
				add(watch{yaml: "    when: changed(id, note)\n    keys: ['RULE:{id}']\n", key: "t.id", reads: []string{"note"}}, "id")
			}
		case 5:
			add(watch{yaml: "    keys: ['RULE:{region}:{id}']\n", key: "t.region || ':' || t.id"}, "region", "id")
		case 7:
			add(watch{yaml: "    ops: [update]\n    keys: ['RULE:{id}']\n", key: "t.id", updates: true}, "id")
		case 6:
			add(watch{yaml: "    keys: ['RULE:all']\n", key: "'all'"})
		}
	}
}
