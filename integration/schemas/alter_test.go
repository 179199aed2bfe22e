package schemas

import (
	"fmt"
	"strings"
)

// alteration is a kind of DDL. make returns its statement, empty where the table does not have what
// it takes.
type alteration struct {
	name   string
	weight int
	make   func(g *generator, t *table) string
}

var alterations = []alteration{
	{"nothing", 4, func(g *generator, t *table) string {
		return fmt.Sprintf(one(g, "ANALYZE %s", "VACUUM %s", "COMMENT ON TABLE %s IS 'x'", "ALTER TABLE %s ALTER region SET STATISTICS 10",
			"ALTER TABLE %s ALTER region SET DEFAULT 1", "REINDEX TABLE %s", "ALTER TABLE %s ENABLE ROW LEVEL SECURITY", "GRANT SELECT ON %s TO PUBLIC",
			"ALTER TABLE %s ADD CHECK (region < 100)", "LOCK TABLE %s", "CREATE INDEX ON %s (region)"), t.now())
	}},
	{"rewrite", 1, func(g *generator, t *table) string {
		at := t.now()
		if l := g.some(t); l != nil {
			at = t.leaf(l)
		}
		return "VACUUM FULL " + at
	}},
	{"create a leaf", 3, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		if t.kind == plain || t.leaves[i] != nil {
			return ""
		}
		return g.addLeaf(t, i) + "; " + t.identify()
	}},
	{"leaf of another identity", 2, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		if t.kind == plain || t.leaves[i] != nil || len(t.key) == 0 {
			return ""
		}
		return g.addLeaf(t, i)
	}},
	{"truncate a leaf", 2, func(g *generator, t *table) string {
		if l := g.some(t); l != nil {
			return "TRUNCATE " + t.leaf(l)
		}
		return ""
	}},
	{"truncate only the parent", 1, func(_ *generator, t *table) string {
		if t.kind != inherits {
			return ""
		}
		return "TRUNCATE ONLY " + t.now()
	}},
	{"drop a leaf", 2, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		l := t.leaves[i]
		if l == nil {
			return ""
		}
		t.leaves[i] = nil
		return "DROP TABLE " + t.leaf(l)
	}},
	{"detach", 2, func(g *generator, t *table) string {
		l := g.some(t)
		switch {
		case l == nil:
			return ""
		case t.kind == inherits:
			l.attached = false
			return fmt.Sprintf("ALTER TABLE %s NO INHERIT %s", t.leaf(l), t.now())
		}
		l.attached = false
		return fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s%s", t.now(), t.leaf(l), one(g, "", " CONCURRENTLY"))
	}},
	{"attach", 2, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		l := t.leaves[i]
		switch {
		case t.kind == plain || l != nil && l.attached || l == nil && t.kind == inherits:
			return ""
		case l != nil && t.kind == inherits:
			l.attached = true
			return fmt.Sprintf("ALTER TABLE %s INHERIT %s", t.leaf(l), t.now())
		case l != nil:
			// What was written meanwhile is no change of the table's.
			l.attached = true
			return fmt.Sprintf("DELETE FROM %s WHERE id %% 2 = 0; ALTER TABLE %s ATTACH PARTITION %s %s", t.leaf(l), t.now(), t.leaf(l), t.bounds(i))
		}
		l = &leaf{name: g.name(t.name + " new"), attached: true}
		t.leaves[i] = l
		return fmt.Sprintf("CREATE TABLE %[1]s (LIKE %[2]s INCLUDING ALL); INSERT INTO %[1]s (id, region, ref) VALUES (%[4]d, %[5]d, CAST(%[6]s AS %[7]s)); ALTER TABLE %[2]s ATTACH PARTITION %[1]s %[3]s; %[8]s",
			t.leaf(l), t.now(), t.bounds(i), 10*i, i, t.column("ref").values[0], t.column("ref").typ, t.identify())
	}},
	{"detach and attach", 1, func(g *generator, t *table) string {
		if !t.partitioned() {
			return ""
		}
		for i, l := range t.leaves {
			if l != nil && l.attached {
				return fmt.Sprintf("BEGIN; ALTER TABLE %[1]s DETACH PARTITION %[2]s; DELETE FROM %[2]s; ALTER TABLE %[1]s ATTACH PARTITION %[2]s %[3]s; COMMIT", t.now(), t.leaf(l), t.bounds(i))
			}
		}
		return ""
	}},
	{"unlogged leaf", 1, func(g *generator, t *table) string {
		// The server refuses it for children, which are published themselves.
		if l := g.some(t); l != nil && t.kind != inherits {
			return fmt.Sprintf("ALTER TABLE %s SET UNLOGGED", t.leaf(l))
		}
		return ""
	}},
	{"add a column", 2, func(g *generator, t *table) string {
		c := one(g, columnTypes...)
		c.name = g.name("added")
		t.columns = append(t.columns, &c)
		return fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", t.now(), c.name, c.typ)
	}},
	{"add a column with a default", 2, func(g *generator, t *table) string {
		c := one(g, columnTypes...)
		c.name = g.name("added")
		t.columns = append(t.columns, &c)
		return fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s DEFAULT CAST(%s AS %s)", t.now(), c.name, c.typ, c.values[0], c.typ)
	}},
	{"add a serial column", 1, func(g *generator, t *table) string {
		c := &column{name: g.name("added"), typ: "int", generated: true}
		t.columns = append(t.columns, c)
		return fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s %s", t.now(), c.name, one(g, "serial", "int DEFAULT 3 + length('ab')", "int NOT NULL DEFAULT 5"))
	}},
	{"add a generated column", 1, func(g *generator, t *table) string {
		if g.major >= 18 && t.identity != "DEFAULT" {
			return "" // PostgreSQL refuses updates of such a table once it is published
		}
		c := &column{name: g.name("added"), typ: "int", generated: true}
		t.columns = append(t.columns, c)
		return fmt.Sprintf("ALTER TABLE %s ADD COLUMN %s int GENERATED ALWAYS AS (region + 1) STORED", t.now(), c.name)
	}},
	{"drop a column", 2, func(g *generator, t *table) string {
		i := 2 + g.IntN(len(t.columns)-2)
		c := t.columns[i]
		if c.name == "ref" {
			return "" // it may be the identity, without which updates fail
		}
		t.columns = append(t.columns[:i:i], t.columns[i+1:]...)
		return fmt.Sprintf("ALTER TABLE %s DROP COLUMN %s", t.now(), quote(c.name))
	}},
	{"rename a column", 2, func(g *generator, t *table) string {
		c := t.columns[1+g.IntN(len(t.columns)-1)]
		was := c.name
		if was == "region" || was == "ref" {
			return fmt.Sprintf("ALTER TABLE %[1]s RENAME COLUMN %[2]s TO gone; ALTER TABLE %[1]s RENAME COLUMN gone TO %[2]s", t.now(), quote(was))
		}
		c.name = one(g, "note", "status", "Odd Col", "other")
		if t.column(c.name) != c {
			c.name = g.name("renamed")
		}
		return fmt.Sprintf("ALTER TABLE %s RENAME COLUMN %s TO %s", t.now(), quote(was), quote(c.name))
	}},
	{"swap columns", 1, func(g *generator, t *table) string {
		var texts []*column
		for _, c := range t.columns[2:] {
			if c.name != "ref" && !c.generated {
				texts = append(texts, c)
			}
		}
		if len(texts) < 2 || texts[0].typ != texts[1].typ {
			return ""
		}
		a, b := quote(texts[0].name), quote(texts[1].name)
		return fmt.Sprintf("BEGIN; ALTER TABLE %[1]s RENAME COLUMN %[2]s TO swap; ALTER TABLE %[1]s RENAME COLUMN %[3]s TO %[2]s; ALTER TABLE %[1]s RENAME COLUMN swap TO %[3]s; COMMIT", t.now(), a, b)
	}},
	{"change a type", 2, func(g *generator, t *table) string {
		c := t.columns[2+g.IntN(len(t.columns)-2)]
		// A query that takes an array apart has no answer once the column is a text.
		if c.generated || c.name == "ref" && (t.identity == "INDEX" || strings.HasSuffix(c.typ, "[]")) {
			return ""
		}
		to, using := "text", fmt.Sprintf("lower(%s::text) || '!'", quote(c.name))
		switch {
		case c.typ == "int" && g.odds(50):
			to, using = "bigint", quote(c.name)+" + 1"
		case c.typ == "text" && g.odds(30):
			to, using = "text", fmt.Sprintf("upper(%s)", quote(c.name))
		case c.typ == "varchar(20)":
			to, using = "varchar(40)", quote(c.name)
		}
		c.typ = to
		if to == "text" {
			c.values = []string{"'a'", "'b'"}
		}
		return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s USING %s", t.now(), quote(c.name), to, using)
	}},
	{"rename a label", 1, func(g *generator, _ *table) string {
		return one(g, "ALTER TYPE mood RENAME VALUE 'low' TO 'lower'", "ALTER TYPE mood RENAME VALUE 'lower' TO 'low'", "ALTER TYPE mood RENAME VALUE 'high' TO 'higher'",
			"ALTER TYPE mood ADD VALUE IF NOT EXISTS 'none' BEFORE 'low'", "ALTER TYPE mood RENAME TO temper; ALTER TYPE temper RENAME TO mood")
	}},
	{"identity of all", 2, func(g *generator, t *table) string {
		if len(t.key) == 0 || g.major >= 18 {
			return ""
		}
		was := t.identity
		t.identity = one(g, "FULL", "DEFAULT")
		if was == "INDEX" {
			t.identity = was
		}
		return t.identify()
	}},
	{"identity of the root", 1, func(g *generator, t *table) string {
		if len(t.key) == 0 || g.major >= 18 {
			return ""
		}
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", t.now(), one(g, "FULL", "DEFAULT"))
	}},
	{"identity of a leaf", 2, func(g *generator, t *table) string {
		l := g.some(t)
		if len(t.key) == 0 || l == nil || g.major >= 18 {
			return ""
		}
		return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY %s", t.leaf(l), one(g, "FULL", "DEFAULT"))
	}},
	{"rename the table", 2, func(g *generator, t *table) string {
		if t.awayName != t.name {
			was := t.now()
			t.awayName = t.name
			return fmt.Sprintf("ALTER TABLE %s RENAME TO %s", was, quote(t.name))
		}
		was := t.now()
		t.awayName = t.name + " away"
		return fmt.Sprintf("ALTER TABLE %s RENAME TO %s", was, quote(t.awayName))
	}},
	{"rename to and fro", 1, func(g *generator, t *table) string {
		away := quote(t.awaySchema, "for a moment")
		return fmt.Sprintf("ALTER TABLE %s RENAME TO \"for a moment\"; %s; ALTER TABLE %s RENAME TO %s", t.now(), strings.ReplaceAll(g.change(t), t.now(), away), away, quote(t.awayName))
	}},
	{"another schema", 1, func(g *generator, t *table) string {
		was := t.now()
		if t.awaySchema != t.schema {
			t.awaySchema = t.schema
		} else {
			t.awaySchema = "ext"
		}
		return fmt.Sprintf("ALTER TABLE %s SET SCHEMA %s", was, quote(t.awaySchema))
	}},
	{"attach with other columns", 1, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		if !t.partitioned() || t.leaves[i] != nil {
			return ""
		}
		l := &leaf{name: g.name(t.name + " odd"), attached: true}
		t.leaves[i] = l
		return fmt.Sprintf("CREATE TABLE %[1]s (junk int, LIKE %[2]s INCLUDING ALL); ALTER TABLE %[1]s DROP COLUMN junk; ALTER TABLE %[2]s ATTACH PARTITION %[1]s %[3]s; %[4]s",
			t.leaf(l), t.now(), t.bounds(i), t.identify())
	}},
	{"foreign leaf", 1, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		if !t.partitioned() || t.leaves[i] != nil || len(t.key) > 0 {
			return "" // PostgreSQL has no foreign partition of a table with a unique index
		}
		return fmt.Sprintf("CREATE FOREIGN TABLE %s PARTITION OF %s %s SERVER files OPTIONS (filename '/dev/null')", quote(t.awaySchema, g.name("far")), t.now(), t.bounds(i))
	}},
	{"part of a leaf", 2, func(g *generator, t *table) string {
		if t.kind != nested {
			return ""
		}
		return fmt.Sprintf(`DO $$ DECLARE leaf regclass; parent regclass; BEGIN
  SELECT relid, parentrelid INTO leaf, parent FROM pg_partition_tree(to_regclass('%s')) WHERE level = 2 ORDER BY relid::oid OFFSET %d LIMIT 1;
  EXECUTE format('%s', leaf, parent); END $$`, t.now(), g.IntN(3), one(g, "TRUNCATE %1$s", "DROP TABLE %1$s", "ALTER TABLE %2$s DETACH PARTITION %1$s"))
	}},
	{"child without a key", 1, func(g *generator, t *table) string {
		i := g.IntN(len(t.leaves))
		if t.kind != inherits || t.leaves[i] != nil {
			return ""
		}
		l := &leaf{name: g.name(t.name + " bare"), attached: true}
		t.leaves[i] = l
		return fmt.Sprintf("CREATE TABLE %s () INHERITS (%s)", t.leaf(l), t.now())
	}},
	{"rename the schema", 1, func(_ *generator, t *table) string {
		if t.awaySchema == "ext" {
			return ""
		}
		was := t.awaySchema
		if was == t.schema {
			t.awaySchema = "away of " + t.schema
		} else {
			t.awaySchema = t.schema
		}
		return fmt.Sprintf("ALTER SCHEMA %s RENAME TO %s", quote(was), quote(t.awaySchema))
	}},
	{"drop and create", 1, func(g *generator, t *table) string {
		if t.kind != plain || len(t.key) == 0 {
			return ""
		}
		return fmt.Sprintf("CREATE TABLE %[1]s (LIKE %[2]s INCLUDING ALL); DROP TABLE %[2]s CASCADE; ALTER TABLE %[1]s RENAME TO %[3]s; %[4]s; %[5]s",
			quote(t.awaySchema, "again"), t.now(), quote(t.awayName), t.identify(), g.insert(t, t.now(), 6))
	}},
	{"publication", 3, func(g *generator, t *table) string {
		if !g.publication {
			return ""
		}
		alter := "ALTER PUBLICATION " + publication + " "
		switch g.IntN(4) {
		case 0:
			if g.bySchema {
				return fmt.Sprintf("%[1]sDROP TABLES IN SCHEMA %[2]s; %[3]s; %[1]sADD TABLES IN SCHEMA %[2]s", alter, quote(g.schemas[0]), g.change(t))
			}
		case 1:
			return alter + "SET (publish_via_partition_root = false); " + g.change(t) + "; " + alter + "SET (publish_via_partition_root)"
		case 2:
			return "BEGIN; " + g.change(t) + "; " + alter + one(g, "SET (publish = 'insert')", "SET (publish_via_partition_root = false)", "OWNER TO CURRENT_USER") + "; ROLLBACK"
		}
		return alter + "SET (publish = 'insert'); " + g.change(t) + "; " + alter + "SET (publish = 'insert, update, delete, truncate')"
	}},
	{"unlogged and logged", 1, func(g *generator, t *table) string {
		if !g.publication || t.kind != plain {
			return ""
		}
		return fmt.Sprintf("ALTER TABLE %[1]s SET UNLOGGED; %[2]s; ALTER TABLE %[1]s SET LOGGED", t.now(), g.change(t))
	}},
	{"change a composite type", 1, func(g *generator, _ *table) string {
		return "ALTER TYPE pair " + one(g, "ADD ATTRIBUTE more text", "DROP ATTRIBUTE IF EXISTS more", "RENAME ATTRIBUTE s TO t", "RENAME ATTRIBUTE t TO s", "DROP ATTRIBUTE s")
	}},
	{"change an expression", 1, func(g *generator, t *table) string {
		if t.column("made") == nil || g.major < 17 {
			return ""
		}
		return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN made SET EXPRESSION AS (region * 3)", t.now())
	}},
	{"drop an expression", 1, func(_ *generator, t *table) string {
		c := t.column("made")
		if c == nil {
			return ""
		}
		c.generated, c.values = false, []string{"1", "2"}
		return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN made DROP EXPRESSION", t.now())
	}},
	{"replace the table", 1, func(g *generator, t *table) string {
		if t.kind != plain || len(t.key) == 0 {
			return ""
		}
		return fmt.Sprintf("BEGIN; CREATE TABLE %[1]s (LIKE %[2]s INCLUDING ALL); ALTER TABLE %[2]s RENAME TO %[3]s; ALTER TABLE %[1]s RENAME TO %[4]s; %[5]s; COMMIT",
			quote(t.awaySchema, "copy"), t.now(), quote(g.name("replaced")), quote(t.awayName), t.identify())
	}},
}

// beside is DDL that does not wait for those who write to the table.
func (g *generator) beside(t *table) string {
	for _, i := range g.Perm(len(alterations)) {
		switch alterations[i].name {
		case "rename a label", "attach", "change a composite type":
			if sql := alterations[i].make(g, t); sql != "" {
				return sql
			}
		}
	}
	return "COMMENT ON SCHEMA public IS 'x'"
}

// alter is a step of DDL.
func (g *generator) alter(t *table) string {
	sum := 0
	for _, a := range alterations {
		sum += a.weight
	}
	for range 20 {
		n := g.IntN(sum)
		for _, a := range alterations {
			if n -= a.weight; n >= 0 {
				continue
			}
			if g.without[a.name] {
				break
			}
			before := t.clone()
			sql := a.make(g, t)
			switch {
			case sql == "":
			case !strings.HasPrefix(sql, "BEGIN") && g.odds(8) && !g.without["DDL that is rolled back"]:
				*t = *before
				return one(g, "BEGIN; "+sql+"; ROLLBACK", "BEGIN; SAVEPOINT ddl; "+sql+"; ROLLBACK TO ddl; "+g.change(t)+"; COMMIT")
			case !strings.HasPrefix(sql, "BEGIN") && g.odds(12) && !g.without["DDL and changes in one transaction"]:
				return "BEGIN; " + g.change(before) + "; " + sql + "; " + g.change(t) + "; COMMIT"
			default:
				return sql
			}
			break
		}
	}
	return ""
}

// clone is a copy that an alteration of the table leaves as it is.
func (t *table) clone() *table {
	out := *t
	out.columns = nil
	for _, c := range t.columns {
		one := *c
		out.columns = append(out.columns, &one)
	}
	for i, l := range t.leaves {
		if l != nil {
			one := *l
			out.leaves[i] = &one
		}
	}
	return &out
}
