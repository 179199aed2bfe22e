package schemas

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// answer is what the queries behind the keys of a rule answer.
type answer struct {
	// columns are the table's, by name.
	columns map[string]int
	rows    map[string][]map[string]any
}

func (w *world) ask(ctx context.Context, x watch) (*answer, error) {
	a := &answer{columns: make(map[string]int), rows: make(map[string][]map[string]any)}
	name := pgx.Identifier{x.table.Schema, x.table.Name}.Sanitize()
	rows, err := w.app.Query(ctx, "SELECT attname::text, attnum::int FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped", name)
	if err != nil {
		return nil, err
	}
	var column string
	var number int
	if _, err := pgx.ForEachRow(rows, []any{&column, &number}, func() error { a.columns[column] = number; return nil }); err != nil {
		return nil, err
	}
	cond := "true"
	if x.cond != "" {
		cond = x.cond
	}
	rows, err = w.app.Query(ctx, fmt.Sprintf("SELECT k, to_jsonb(t)::text FROM %s t, LATERAL (SELECT DISTINCT (%s)::text AS k) x WHERE k IS NOT NULL AND (%s)", name, x.key, cond), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	var key, row string
	_, err = pgx.ForEachRow(rows, []any{&key, &row}, func() error {
		d := json.NewDecoder(strings.NewReader(row))
		d.UseNumber()
		fields := make(map[string]any)
		if err := d.Decode(&fields); err != nil {
			return err
		}
		a.rows[x.name+":"+key] = append(a.rows[x.name+":"+key], withoutNulls(fields))
		return nil
	})
	return a, err
}

// withoutNulls is a row without its NULLs: a query that reads a new column, or a new attribute of a
// composite, answers as before then.
func withoutNulls(row map[string]any) map[string]any {
	for name, v := range row {
		switch v := v.(type) {
		case nil:
			delete(row, name)
		case map[string]any:
			row[name] = withoutNulls(v)
		}
	}
	return row
}

// changes are the keys of which the answer is another now, with both answers. A column that is gone
// or renamed is not compared: the query that reads it is another query now. A new column is, since
// a default gives rows that have a value in it.
func (a *answer) changes(now *answer, reads []string) map[string]string {
	out := make(map[string]string)
	for _, keys := range []map[string][]map[string]any{a.rows, now.rows} {
		for key := range keys {
			if change := a.change(now, now, key, reads); change != "" {
				out[key] = change
			}
		}
	}
	return out
}

// change is that of one key, with both answers, and empty if there is none. Columns count as they are
// at last.
func (a *answer) change(now, last *answer, key string, reads []string) string {
	compared := func(column string) bool {
		if len(reads) > 0 {
			return slices.Contains(reads, column)
		}
		if _, is := last.columns[column]; !is {
			return false
		}
		number, is := now.columns[column]
		if _, was := a.columns[column]; was {
			return is
		}
		for _, n := range a.columns {
			if n == number {
				return false
			}
		}
		return is
	}
	text := func(rows []map[string]any) string {
		var out []string
		for _, row := range rows {
			kept := make(map[string]any)
			for column, v := range row {
				if compared(column) {
					kept[column] = v
				}
			}
			b, _ := json.Marshal(kept)
			out = append(out, string(b))
		}
		slices.Sort(out)
		return strings.Join(out, " ")
	}
	if was, is := text(a.rows[key]), text(now.rows[key]); was != is {
		return fmt.Sprintf("was [%s], is [%s]", was, is)
	}
	return ""
}
