package schemas

import (
	"fmt"
	"strings"
)

// literal is a value for a column.
func (g *generator) literal(c *column) string {
	switch {
	case c.name == "id":
		return fmt.Sprint(g.IntN(30))
	case c.name == "region":
		return fmt.Sprint(g.IntN(3))
	case !c.notNull && g.odds(20):
		return "NULL"
	}
	return fmt.Sprintf("CAST(%s AS %s)", one(g, c.values...), c.typ)
}

// written are the columns that a statement can write.
func (t *table) written() (out []*column) {
	for _, c := range t.columns {
		if !c.generated {
			out = append(out, c)
		}
	}
	return out
}

func names(columns []*column) string {
	out := make([]string, len(columns))
	for i, c := range columns {
		out[i] = quote(c.name)
	}
	return strings.Join(out, ", ")
}

func (g *generator) insert(t *table, into string, rows int) string {
	columns := t.written()
	var values []string
	for i := range rows {
		row := make([]string, len(columns))
		for n, c := range columns {
			row[n] = g.literal(c)
			if c.name == "id" && rows > 5 {
				row[n] = fmt.Sprint(2 * i) // most of them are new
			}
		}
		values = append(values, "("+strings.Join(row, ", ")+")")
	}
	conflict := ""
	if len(t.key) > 0 {
		conflict = " ON CONFLICT DO NOTHING"
	}
	return fmt.Sprintf("INSERT INTO %s (%s) VALUES %s%s", into, names(columns), strings.Join(values, ", "), conflict)
}

func (g *generator) set(t *table) string {
	var sets []string
	for _, c := range t.written() {
		if c.name != "id" && g.odds(40) {
			sets = append(sets, fmt.Sprintf("%s = %s", quote(c.name), g.literal(c)))
		}
	}
	if g.odds(10) {
		sets = append(sets, "id = id + 10")
	}
	if len(sets) == 0 {
		sets = append(sets, "region = "+fmt.Sprint(g.IntN(3)))
	}
	return strings.Join(sets, ", ")
}

func (g *generator) where() string {
	return one(g, fmt.Sprintf("id = %d", 2*g.IntN(12)), fmt.Sprintf("id BETWEEN %d AND %d", g.IntN(20), g.IntN(30)), fmt.Sprintf("region = %d", g.IntN(3)), "id % 3 = 0")
}

// target is the table, or a part of it.
func (g *generator) target(t *table) string {
	if l := g.some(t); l != nil && g.odds(35) {
		return t.leaf(l)
	}
	return t.now()
}

// change is one statement that changes rows.
func (g *generator) change(t *table) string {
	at := g.target(t)
	switch g.IntN(10) {
	case 0, 1:
		return g.insert(t, at, 1+g.IntN(3))
	case 2, 3, 4:
		return fmt.Sprintf("UPDATE %s SET %s WHERE %s", at, g.set(t), g.where())
	case 5, 6:
		return fmt.Sprintf("DELETE FROM %s WHERE %s", at, g.where())
	case 7:
		if len(t.key) == 0 {
			return g.insert(t, at, 1)
		}
		return strings.TrimSuffix(g.insert(t, t.now(), 1), " DO NOTHING") + fmt.Sprintf(" (%s) DO UPDATE SET %s", strings.Join(t.key, ", "), "ref = excluded.ref")
	case 8:
		if g.major < 15 {
			return fmt.Sprintf("DELETE FROM %s WHERE %s", at, g.where())
		}
		return fmt.Sprintf(`MERGE INTO %s m USING (SELECT %d AS id) s ON m.id = s.id WHEN MATCHED AND m.region = 1 THEN DELETE WHEN MATCHED THEN UPDATE SET region = %d`,
			t.now(), 2*g.IntN(12), g.IntN(3))
	default:
		return fmt.Sprintf("WITH d AS (DELETE FROM %s WHERE %s RETURNING *) SELECT count(*) FROM d", at, g.where())
	}
}

// write is a step that changes rows.
func (g *generator) write(t *table) string {
	switch n := g.IntN(12); {
	case n == 0:
		return fmt.Sprintf("SET session_replication_role = replica; %s; RESET session_replication_role", g.change(t))
	case n == 1:
		return fmt.Sprintf("COPY %s (id, region, ref) FROM STDIN\n%d\t%d\t%s\n", t.now(), g.IntN(40), g.IntN(3), strings.Trim(t.column("ref").values[0], "'"))
	case n < 5:
		return "BEGIN; " + g.block(t, 0) + one(g, "COMMIT", "COMMIT", "COMMIT", "ROLLBACK")
	case n == 5:
		return "TRUNCATE " + t.now()
	case n == 6:
		return fmt.Sprintf("DO $$ BEGIN %s; RAISE 'no'; EXCEPTION WHEN OTHERS THEN %s; END $$", g.change(t), strings.Replace(g.change(t), ") SELECT", ") SELECT", 1))
	}
	return g.change(t)
}

// block is what a transaction does, with a semicolon behind each statement.
func (g *generator) block(t *table, depth int) string {
	var b strings.Builder
	for range 1 + g.IntN(3) {
		if depth < 2 && g.odds(30) {
			name := g.name("s")
			fmt.Fprintf(&b, "SAVEPOINT %s; %s", name, g.block(t, depth+1))
			b.WriteString(one(g, "", "ROLLBACK TO "+name+"; ", "RELEASE "+name+"; "))
			continue
		}
		b.WriteString(g.change(t) + "; ")
	}
	return b.String()
}
