package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpurge/walpurge/cdc"
)

// rowTimeout is how long looking for a row may take.
const rowTimeout = "10s"

// relationQuery reads what a Relation message would say of a table: the columns
// that the publication names, or all but generated ones. Servers before 15 have
// no column lists, those before 18 never publish a generated column.
const relationQuery = `
SELECT c.relkind = 'p', a.attname, a.atttypid, a.atttypmod
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_publication_tables p ON p.pubname = $3 AND p.schemaname = n.nspname AND p.tablename = c.relname
WHERE n.nspname = $1 AND c.relname = $2 AND a.attnum > 0 AND NOT a.attisdropped
AND (a.attgenerated = '' OR pg_catalog.current_setting('server_version_num')::int >= 180000 AND pg_catalog.to_jsonb(p)->'attnames' ? a.attname::pg_catalog.text)
AND (pg_catalog.to_jsonb(p)->'attnames' IS NULL OR pg_catalog.to_jsonb(p)->'attnames' ? a.attname::pg_catalog.text)
ORDER BY a.attnum`

// ReadChange reads the one row of a table for which where holds, an SQL condition
// that is used as it is, and returns it as the log would carry it: inserted,
// deleted, or updated to what it was. It runs in a transaction that cannot
// write, and stops looking after ten seconds.
//
// None or several rows, a condition that the server refuses, and a table that
// does not exist or is a partition are a *Missing. Values that PostgreSQL
// keeps out of line count as sent, which an update that does not touch them
// would not do.
func (c Config) ReadChange(ctx context.Context, conn *pgx.Conn, t cdc.Table, where string, op cdc.Op) (*cdc.Change, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read a row of %s: %w", t, err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	infos, err := Inspect(ctx, conn, c.Publication, []cdc.Table{t})
	if err != nil {
		return nil, err
	}
	info := infos[t]
	switch {
	case info.Root != "":
		return nil, &Missing{Fault{fmt.Errorf("table %s is a partition", t), "name its root " + info.Root + ", as rules do"}}
	case !info.Usable && op != cdc.Insert:
		return nil, info.IdentityFault()
	}
	rel, from, err := c.relation(ctx, tx, info)
	if err != nil {
		return nil, err
	}
	row, err := readRow(ctx, tx, rel, from, where)
	var none *noRow
	if errors.As(err, &none) && info.Inherited {
		return c.readChild(ctx, tx, t, where, op, err)
	}
	if err != nil {
		return nil, err
	}
	return changeOf(rel, row, op), nil
}

// readChild is ReadChange for a row of a table that inherits from t: it is handed over as a row of t,
// with the columns and the replica identity of its own table. none is returned if there is no such row.
func (c Config) readChild(ctx context.Context, tx pgx.Tx, t cdc.Table, where string, op cdc.Op, none error) (*cdc.Change, error) {
	k, err := readKin(ctx, tx.Conn())
	if err != nil {
		return nil, err
	}
	for _, child := range slices.SortedFunc(maps.Keys(k.names), compareTables) {
		if !slices.Contains(k.names[child], t) {
			continue
		}
		infos, err := Inspect(ctx, tx.Conn(), c.Publication, []cdc.Table{child})
		if err != nil {
			return nil, err
		}
		rel, from, err := c.relation(ctx, tx, infos[child])
		if err != nil {
			return nil, err
		}
		row, err := readRow(ctx, tx, rel, from, where)
		var another *noRow
		switch {
		case errors.As(err, &another):
			continue
		case err != nil:
			return nil, err
		case !infos[child].Usable && op != cdc.Insert:
			return nil, infos[child].IdentityFault()
		}
		rel.Schema, rel.Name = t.Schema, t.Name
		return changeOf(rel, row, op), nil
	}
	return nil, none
}

// noRow is a Missing: no row meets the condition.
type noRow struct{ Missing }

// Unwrap returns the Missing.
func (e *noRow) Unwrap() error { return &e.Missing }

// relation also returns where its rows are: tables that inherit from an ordinary
// one have changes of their own.
func (c Config) relation(ctx context.Context, tx pgx.Tx, info *TableInfo) (rel *cdc.Relation, from string, err error) {
	rel = &cdc.Relation{Schema: info.Schema, Name: info.Name, Identity: info.Identity}
	rows, _ := tx.Query(ctx, relationQuery, info.Schema, info.Name, c.Publication)
	var col cdc.Column
	partitioned := false
	whole := true
	if _, err := pgx.ForEachRow(rows, []any{&partitioned, &col.Name, &col.TypeOID, &col.TypeMod}, func() error {
		c, found := info.Column(col.Name)
		if col.Type = nil; found {
			col.Type = &c.DataType
		}
		col.Key, whole = c.Identity, whole && c.Identity
		rel.Columns = append(rel.Columns, col)
		return nil
	}); err != nil {
		return nil, "", fmt.Errorf("read the columns of %s: %w", info.Table, err)
	}
	// Old rows of a partitioned table have what the identities of its partitions agree on.
	if partitioned && rel.Identity == cdc.IdentityFull && !whole {
		rel.Identity = cdc.IdentityDefault
	}
	from = quote(info.Schema, info.Name)
	if !partitioned {
		from = "ONLY " + from
	}
	return rel, from, nil
}

// readRow reads the row's text as a walsender would write it: with the settings
// of its session, by the same output functions.
func readRow(ctx context.Context, tx pgx.Tx, rel *cdc.Relation, from, where string) (cdc.Tuple, error) {
	for _, sql := range []string{applySettings(true), "SET LOCAL statement_timeout = '" + rowTimeout + "'", "SET LOCAL " + userPath(tx.Conn().Config())} {
		if _, err := tx.Exec(ctx, sql); err != nil {
			return nil, fmt.Errorf("prepare the session: %w", err)
		}
	}
	sql := "SELECT"
	for i, col := range rel.Columns {
		if i > 0 {
			sql += ","
		}
		sql += " " + quote(col.Name)
	}
	// The condition has lines of its own, so that a comment in it ends with it.
	sql += " FROM " + from + " WHERE (\n" + where + "\n) LIMIT 2"
	// The extended protocol takes one statement, so the condition cannot end the
	// transaction and begin another.
	rows, err := tx.Query(ctx, sql, pgx.QueryExecModeDescribeExec, pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return nil, explainRow(rel, err)
	}
	defer rows.Close()
	var row cdc.Tuple
	n := 0
	for ; rows.Next(); n++ {
		row = nil
		for _, raw := range rows.RawValues() {
			v := cdc.Value{Kind: cdc.Null}
			if raw != nil {
				v = cdc.Value{Kind: cdc.Text, Data: append([]byte{}, raw...)}
			}
			row = append(row, v)
		}
	}
	switch err := rows.Err(); {
	case err != nil:
		return nil, explainRow(rel, err)
	case n == 0:
		return nil, &noRow{Missing{Fault{fmt.Errorf("no row of %s meets the condition", rel), "correct --where, or write the row into --change"}}}
	case n > 1:
		return nil, &Missing{Fault{fmt.Errorf("several rows of %s meet the condition", rel), "name one of them in --where, as by its primary key"}}
	}
	return row, nil
}

// changeOf is what the log would carry of an operation on the row.
func changeOf(rel *cdc.Relation, row cdc.Tuple, op cdc.Op) *cdc.Change {
	ch := &cdc.Change{Op: op, Rel: rel}
	if op != cdc.Delete {
		ch.New = row
	}
	// An update that leaves the identity as it was has no old row, unless the
	// identity is the whole row.
	if op == cdc.Delete || op == cdc.Update && rel.Identity == cdc.IdentityFull {
		ch.Old = make(cdc.Tuple, len(row))
		for i := range row {
			if rel.Columns[i].Key {
				ch.Old[i] = row[i]
			}
		}
	}
	return ch
}

// explainRow tells the server's refusals apart: of the condition, and of the user.
func explainRow(rel *cdc.Relation, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return fmt.Errorf("read a row of %s: %w", rel, err)
	}
	brief := &refusal{text: fmt.Sprintf("read a row of %s: %s (SQLSTATE %s)", rel, pg.Message, pg.Code), err: err}
	name := quote(rel.Schema, rel.Name)
	switch {
	case pg.Code == codePrivilege:
		return &Fault{brief, "let its owner GRANT SELECT ON " + name + " to the user of postgres.url (one that row security does not bind), or write the row into --change"}
	case pg.Code == codeCanceled:
		return &Fault{brief, "write a condition that an index answers within " + rowTimeout}
	case len(pg.Code) == 5 && (pg.Code[:2] == classSyntax || pg.Code[:2] == classData):
		return &Missing{Fault{brief, `correct --where; it is a condition in SQL, like --where "id = 7"`}}
	}
	return brief
}

// SQLSTATE codes and classes of a query's errors.
const (
	codeCanceled = "57014" // statement_timeout
	classSyntax  = "42"    // syntax error or access rule violation
	classData    = "22"    // data exception
)
