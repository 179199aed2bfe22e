package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// SchemaTable is a table as its owner declared it: what a first draft of rules
// is made from.
type SchemaTable struct {
	cdc.Table
	// Kind is as in pg_class.relkind: r, p (partitioned), v (view), m (materialized view)
	// or f (foreign table). Of the last three only Behind is read.
	Kind byte
	// Behind are the tables that a view reads.
	Behind []cdc.Table
	// Logged is false for an unlogged table.
	Logged   bool
	Identity cdc.Identity
	// Usable, Lacking, Differing and UnloggedLeaf are as in TableInfo, FullFails as in
	// Identities.
	Usable       bool
	FullFails    bool
	Lacking      string
	Differing    string
	UnloggedLeaf string
	Columns      []SchemaColumn
	// Key is the primary key in its own order, nil without one.
	Key []string
	// Unique is an index that could serve as replica identity, "" without one.
	Unique  string
	Foreign []ForeignKey
}

// SchemaColumn is one column.
type SchemaColumn struct {
	Name string
	Type string
	// NotNull, and Generated: computed from other columns and so not in the log.
	NotNull   bool
	Generated bool
	// Identity reports that old rows carry the column.
	Identity bool
	// DataType is what the values are.
	DataType cdc.DataType
}

// ForeignKey is a reference to another table, to the root where that is a
// partition.
type ForeignKey struct {
	Columns    []string
	Parent     cdc.Table
	Referenced []string
	// ParentKey is the primary key of the parent.
	ParentKey []string
}

// Tables that belong to an extension are its own business.
const schemaQuery = `
SELECT c.oid, n.nspname, c.relname, c.relkind::pg_catalog.text, c.relpersistence = 'p', ` + generatedMatter + `
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition AND c.relpersistence <> 't' AND n.nspname = ANY ($1)
AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e')
ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"`

const schemaColumnQuery = `
SELECT a.attrelid, a.attname, pg_catalog.format_type(a.atttypid, NULL), a.attnotnull, a.attgenerated <> ''
FROM pg_catalog.pg_attribute a
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

// names of the columns of an index's key, in its order.
const indexColumns = `(SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place)
    FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k (attnum, place) JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
    WHERE k.place <= i.indnkeyatts)`

const primaryKeyQuery = `SELECT i.indrelid, ` + indexColumns + ` FROM pg_catalog.pg_index i WHERE i.indisprimary AND i.indrelid = ANY ($1)`

const uniqueQuery = `
SELECT i.indrelid, pg_catalog.min(x.relname COLLATE "C")::pg_catalog.text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
WHERE i.indrelid = ANY ($1) AND i.indisunique AND i.indisvalid AND i.indimmediate AND NOT i.indisprimary AND i.indpred IS NULL AND i.indexprs IS NULL
AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = i.indrelid AND NOT a.attnotnull
                AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]))
GROUP BY i.indrelid`

const foreignQuery = `
SELECT f.conrelid,
       (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place) FROM pg_catalog.unnest(f.conkey) WITH ORDINALITY k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.conrelid AND a.attnum = k.attnum),
       n.nspname, p.relname,
       (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY k.place) FROM pg_catalog.unnest(f.confkey) WITH ORDINALITY k (attnum, place)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = f.confrelid AND a.attnum = k.attnum),
       coalesce((SELECT ` + indexColumns + ` FROM pg_catalog.pg_index i WHERE i.indisprimary AND i.indrelid = p.oid), '{}')
FROM pg_catalog.pg_constraint f JOIN pg_catalog.pg_class p ON p.oid = coalesce(pg_catalog.pg_partition_root(f.confrelid), f.confrelid)
JOIN pg_catalog.pg_namespace n ON n.oid = p.relnamespace
WHERE f.contype = 'f' AND f.conparentid = 0 AND f.conrelid = ANY ($1)
ORDER BY f.conrelid, f.conkey, f.conname COLLATE "C"`

// Schema reads the tables of the schemas that keep wants, sorted by name; keep
// is asked about every one. It sees one state of the catalog, and writes nothing.
// A schema that does not exist is a *Missing.
func Schema(ctx context.Context, conn *pgx.Conn, schemas []string, keep func(cdc.Table) bool) ([]SchemaTable, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	// With this path every name comes with its schema.
	if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true), pg_catalog.set_config('statement_timeout', '30s', true)"); err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	if err := schemasExist(ctx, conn, schemas); err != nil {
		return nil, err
	}
	tables, oids, err := listTables(ctx, conn, schemas, keep)
	if err != nil {
		return nil, err
	}
	for _, read := range []func(context.Context, *pgx.Conn, []uint32, map[uint32]*SchemaTable) error{readColumns, readKeys, readForeign} {
		if err := read(ctx, conn, oids, byOID(tables, oids)); err != nil {
			return nil, fmt.Errorf("read the catalog: %w", err)
		}
	}
	if err := readBehind(ctx, conn, oids, tables); err != nil {
		return nil, err
	}
	return tables, inspectAll(ctx, conn, tables)
}

func readBehind(ctx context.Context, conn *pgx.Conn, oids []uint32, tables []SchemaTable) error {
	var views []uint32
	for i := range tables {
		if tables[i].Kind == 'v' || tables[i].Kind == 'm' {
			views = append(views, oids[i])
		}
	}
	behind, err := tablesBehind(ctx, conn, views)
	for i := range tables {
		tables[i].Behind = behind[oids[i]]
	}
	return err
}

func schemasExist(ctx context.Context, conn *pgx.Conn, schemas []string) error {
	rows, _ := conn.Query(ctx, `SELECT nspname::pg_catalog.text FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' ORDER BY 1`)
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read the schemas: %w", err)
	}
	for _, s := range schemas {
		if !slices.Contains(all, s) {
			return &Missing{Fault{fmt.Errorf("schema %q does not exist in database %q", s, conn.Config().Database), "name one of " + strings.Join(all, ", ")}}
		}
	}
	return nil
}

func listTables(ctx context.Context, conn *pgx.Conn, schemas []string, keep func(cdc.Table) bool) (tables []SchemaTable, oids []uint32, err error) {
	rows, _ := conn.Query(ctx, schemaQuery, schemas)
	var oid uint32
	var t SchemaTable
	var kind string
	_, err = pgx.ForEachRow(rows, []any{&oid, &t.Schema, &t.Name, &kind, &t.Logged, &t.FullFails}, func() error {
		if keep(t.Table) {
			t.Kind = kind[0]
			tables, oids = append(tables, t), append(oids, oid)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("list the tables: %w", err)
	}
	return tables, oids, nil
}

func byOID(tables []SchemaTable, oids []uint32) map[uint32]*SchemaTable {
	out := make(map[uint32]*SchemaTable, len(tables))
	for i := range tables {
		out[oids[i]] = &tables[i]
	}
	return out
}

func readColumns(ctx context.Context, conn *pgx.Conn, oids []uint32, tables map[uint32]*SchemaTable) error {
	rows, _ := conn.Query(ctx, schemaColumnQuery, oids)
	var oid uint32
	var c SchemaColumn
	_, err := pgx.ForEachRow(rows, []any{&oid, &c.Name, &c.Type, &c.NotNull, &c.Generated}, func() error {
		tables[oid].Columns = append(tables[oid].Columns, c)
		return nil
	})
	return err
}

func readKeys(ctx context.Context, conn *pgx.Conn, oids []uint32, tables map[uint32]*SchemaTable) error {
	var oid uint32
	var key []string
	rows, _ := conn.Query(ctx, primaryKeyQuery, oids)
	if _, err := pgx.ForEachRow(rows, []any{&oid, &key}, func() error {
		tables[oid].Key = slices.Clone(key)
		return nil
	}); err != nil {
		return err
	}
	var index string
	rows, _ = conn.Query(ctx, uniqueQuery, oids)
	_, err := pgx.ForEachRow(rows, []any{&oid, &index}, func() error {
		tables[oid].Unique = index
		return nil
	})
	return err
}

func readForeign(ctx context.Context, conn *pgx.Conn, oids []uint32, tables map[uint32]*SchemaTable) error {
	var oid uint32
	var f ForeignKey
	rows, _ := conn.Query(ctx, foreignQuery, oids)
	_, err := pgx.ForEachRow(rows, []any{&oid, &f.Columns, &f.Parent.Schema, &f.Parent.Name, &f.Referenced, &f.ParentKey}, func() error {
		one := f
		one.Columns, one.Referenced, one.ParentKey = slices.Clone(f.Columns), slices.Clone(f.Referenced), slices.Clone(f.ParentKey)
		tables[oid].Foreign = append(tables[oid].Foreign, one)
		return nil
	})
	return err
}

// inspectAll asks what the checks ask, so that the two never disagree.
func inspectAll(ctx context.Context, conn *pgx.Conn, tables []SchemaTable) error {
	var names []cdc.Table
	for i := range tables {
		if t := &tables[i]; (t.Kind == 'r' || t.Kind == 'p') && t.Logged {
			names = append(names, t.Table)
		}
	}
	infos, err := Inspect(ctx, conn, "", names)
	if err != nil {
		return err
	}
	for i := range tables {
		if info := infos[tables[i].Table]; info != nil {
			t := &tables[i]
			for n := range t.Columns {
				c, _ := info.Column(t.Columns[n].Name)
				t.Columns[n].DataType, t.Columns[n].Identity = c.DataType, c.Identity
			}
			t.Identity, t.Usable, t.Lacking, t.Differing = info.Identity, info.Usable, info.Lacking, info.Differing
			t.UnloggedLeaf = info.UnloggedLeaf
		}
	}
	return nil
}
