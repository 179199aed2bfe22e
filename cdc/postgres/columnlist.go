package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// columnListsSince is the first major version whose publications can name columns.
const columnListsSince = 15

// columnList is which columns of a table a publication sends. An empty list is all of them.
type columnList struct {
	// Own reports that the publication names the table, and has the columns for it; one
	// of all tables or of whole schemas has no lists.
	Own bool
	Has []string
	// Want are those that rules read and those that identify a row: without one of
	// the latter the application's UPDATE and DELETE fail.
	Want []string
}

// lacks reports that the publication leaves out what must be sent.
func (l *columnList) lacks() bool {
	if !l.Own || len(l.Has) == 0 {
		return false
	}
	return len(l.Want) == 0 || !contains(l.Has, l.Want)
}

// spare reports that it sends what nobody needs.
func (l *columnList) spare() bool {
	if !l.Own || len(l.Want) == 0 {
		return false
	}
	return len(l.Has) == 0 || !contains(l.Want, l.Has)
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}

// An identity counts wherever rows lie, since the server looks for it there. What is
// generated cannot be listed, except, from PostgreSQL 18 on, what is stored: before, a list
// makes UPDATE and DELETE fail where a generated column belongs to the identity.
const columnListQuery = `
SELECT w.place, r.oid IS NOT NULL,
  coalesce((SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum = ANY (r.prattrs::pg_catalog.int2[])), '{}'),
  EXISTS (SELECT FROM pg_catalog.pg_class l WHERE l.oid = ANY (leaves.oids || c.oid) AND (l.relreplident = 'f'
    OR pg_catalog.current_setting('server_version_num')::int < 180000 AND EXISTS (SELECT FROM pg_catalog.pg_index i JOIN ` + identityColumn + `
      WHERE i.indrelid = l.oid AND ` + identityIndex + ` AND a.attgenerated <> ''))),
  ARRAY(SELECT DISTINCT a.attname::pg_catalog.text FROM pg_catalog.pg_class l
    JOIN pg_catalog.pg_index i ON i.indrelid = l.oid AND ` + identityIndex + `
    JOIN ` + identityColumn + `
    WHERE l.oid = ANY (leaves.oids || c.oid)),
  ARRAY(SELECT a.attname::pg_catalog.text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
    AND (a.attgenerated = '' OR a.attgenerated = 's' AND pg_catalog.current_setting('server_version_num')::int >= 180000) ORDER BY a.attnum)
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) WITH ORDINALITY w (schema, name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
LEFT JOIN (pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication p ON p.oid = r.prpubid AND p.pubname = $3) ON r.prrelid = c.oid, ` + leavesLateral

// columnLists compares the lists of the publication with what rules read; nil where the
// configuration asks for none. Tables that do not exist are left out.
func (c Config) columnLists(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, reads ReadsOf) (map[cdc.Table]*columnList, error) {
	if !c.ColumnLists || reads == nil || len(tables) == 0 {
		return nil, nil
	}
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return nil, err
	}
	if version < columnListsSince*10000 {
		return nil, &Fault{fmt.Errorf("postgres.column_lists: the server is PostgreSQL %d, which has no column lists", version/10000),
			fmt.Sprintf("take it out, or upgrade to %d or newer", columnListsSince)}
	}
	out := make(map[cdc.Table]*columnList, len(tables))
	schemas, names := split(tables)
	rows, err := conn.Query(ctx, columnListQuery, schemas, names, c.Publication)
	if err != nil {
		return nil, fmt.Errorf("read the column lists: %w", err)
	}
	var place int64
	var l columnList
	var full bool // no list may leave out anything
	var identity, columns []string
	_, err = pgx.ForEachRow(rows, []any{&place, &l.Own, &l.Has, &full, &identity, &columns}, func() error {
		t, one := tables[place-1], &columnList{Own: l.Own, Has: slices.Clone(l.Has)}
		if !full {
			one.Want = wanted(columns, identity, reads(t, columns))
		}
		out[t] = one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the column lists: %w", err)
	}
	return out, nil
}

// wanted is what identifies a row and what is read, in the table's order; empty if that
// is every column.
func wanted(columns, identity, read []string) []string {
	var out []string
	for _, name := range columns {
		if slices.Contains(identity, name) || slices.Contains(read, name) {
			out = append(out, name)
		}
	}
	if len(out) == len(columns) {
		return nil
	}
	return out
}

// widen are the steps that add to the tables' lists what must be sent. What else they
// have stays: a daemon never narrows a publication, since another's rules may need it.
func (c Config) widen(tables []cdc.Table, lists map[cdc.Table]*columnList, kin *kin) []Step {
	return c.relist(tables, lists, kin, (*columnList).lacks, func(l *columnList) []string {
		if len(l.Want) == 0 {
			return nil
		}
		return union(l.Has, l.Want)
	})
}

// narrow are the steps that take out of lists what nobody needs.
func (c Config) narrow(tables []cdc.Table, lists map[cdc.Table]*columnList, kin *kin) []Step {
	return c.relist(tables, lists, kin, func(l *columnList) bool { return l.spare() && !l.lacks() }, func(l *columnList) []string { return l.Want })
}

// relist replaces the lists of those tables that want it. A publication cannot alter one,
// so its tables leave and enter again in one transaction, which nobody sees. It is announced:
// what was written before comes without what is new, and others see tables come back.
func (c Config) relist(tables []cdc.Table, lists map[cdc.Table]*columnList, kin *kin, which func(*columnList) bool, to func(*columnList) []string) []Step {
	var some []cdc.Table
	now := make(map[cdc.Table]*columnList)
	for _, t := range tables {
		if l := lists[t]; l != nil && which(l) {
			some = append(some, t)
			now[t] = &columnList{Want: to(l)}
		}
	}
	var steps []Step
	for chunk := range slices.Chunk(some, tablesPerStep) {
		s := Step{SQL: fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE %s",
			quote(c.Publication), quoted(chunk, nil, kin), quote(c.Publication), quoted(chunk, now, kin))}
		s.announce(c.Publication, chunk)
		steps = append(steps, s)
	}
	return steps
}

// union has the columns of both, each once.
func union(a, b []string) []string {
	out := slices.Clone(a)
	for _, name := range b {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

// quoted writes tables for a publication, with the columns that lists want. Without ONLY the
// statement takes in the children of a table, whatever their replica identity is.
func quoted(tables []cdc.Table, lists map[cdc.Table]*columnList, kin *kin) string {
	out := make([]string, len(tables))
	for i, t := range tables {
		out[i] = only(kin != nil && kin.inherited[t]) + quote(t.Schema, t.Name)
		if l := lists[t]; l != nil && len(l.Want) > 0 {
			columns := make([]string, len(l.Want))
			for n, name := range l.Want {
				columns[n] = quote(name)
			}
			out[i] += " (" + strings.Join(columns, ", ") + ")"
		}
	}
	return strings.Join(out, ", ")
}

func only(inherited bool) string {
	if inherited {
		return "ONLY "
	}
	return ""
}

// The statistics of the server say how large these tables are, so that none is locked.
const outOfLineQuery = `
SELECT w.place, COALESCE((SELECT pg_catalog.sum(t.relpages) FROM pg_catalog.pg_class l JOIN pg_catalog.pg_class t ON t.oid = l.reltoastrelid
  WHERE l.oid = c.oid OR l.oid IN (SELECT p.relid FROM pg_catalog.pg_partition_tree(c.oid) p)), 0)::pg_catalog.int8 * pg_catalog.current_setting('block_size')::pg_catalog.int8
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) WITH ORDINALITY w (schema, name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name`

// muchOutOfLine is how many bytes of a table are stored out of line before it is worth a note.
const muchOutOfLine = 16 << 20

// UnreadColumnsNotes names the tables of which many bytes are stored out of line, in columns that the
// publication sends and no rule reads: a list of columns would leave these out.
func (c Config) UnreadColumnsNotes(ctx context.Context, conn *pgx.Conn, infos map[cdc.Table]*TableInfo, reads ReadsOf) ([]string, error) {
	version, err := serverVersion(ctx, conn)
	if err != nil || version < columnListsSince*10000 || c.ColumnLists {
		return nil, err
	}
	unread := make(map[cdc.Table][]string)
	var tables []cdc.Table
	for t, info := range infos {
		var names []string
		for i := range info.Columns {
			names = append(names, info.Columns[i].Name)
		}
		read := reads(t, names)
		for i := range info.Columns {
			if col := &info.Columns[i]; col.Toastable && col.Carried && !col.Identity && !slices.Contains(read, col.Name) {
				unread[t] = append(unread[t], col.Name)
			}
		}
		if len(unread[t]) > 0 {
			tables = append(tables, t)
		}
	}
	slices.SortFunc(tables, compareTables)
	schemas, names := split(tables)
	rows, err := conn.Query(ctx, outOfLineQuery, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("read the sizes of tables: %w", err)
	}
	var out []string
	var place, size int64
	_, err = pgx.ForEachRow(rows, []any{&place, &size}, func() error {
		if t := tables[place-1]; size >= muchOutOfLine {
			out = append(out, fmt.Sprintf("PostgreSQL sends %s of %s with each INSERT and with each UPDATE that changes it, and no rule reads it; %d MiB of the table are stored out of line: postgres.column_lists: true leaves such columns out",
				strings.Join(unread[t], ", "), t, size>>20))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the sizes of tables: %w", err)
	}
	slices.Sort(out)
	return out, nil
}
