package postgres

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// TableInfo is what the live catalog says of a table.
type TableInfo struct {
	cdc.Table
	Identity cdc.Identity
	Columns  []ColumnInfo
	// Usable reports that PostgreSQL can identify rows of the table: without
	// it, publishing the table makes the application's UPDATE and DELETE fail.
	Usable bool
	// Lacking names the table itself or the partition that makes it unusable.
	Lacking string
	// Published reports that the pipeline's publication holds the table.
	Published bool
	// Root is set for a partition: rules watch the root.
	Root string
	// Owned reports that the connection's role may do what the owner may.
	Owned bool
	// Differing names a partition whose replica identity is not the root's:
	// the stream describes its old rows by the root's identity, so they would be
	// misread. It is empty if there is none.
	Differing string
	// IdentityIndex names the index of identity USING INDEX.
	IdentityIndex string
}

// ColumnInfo is one column.
type ColumnInfo struct {
	Name string
	Type string
	// Identity reports that old rows carry the column.
	Identity bool
	OID      uint32
	// Base is the type below domains, as format_type prints it; empty where there are none.
	Base string
	// DataType is what the values are.
	DataType cdc.DataType
	NotNull  bool
	// Toastable reports that a value may be so large that it is stored apart from
	// its row, and then is not sent with an UPDATE that leaves it as it was.
	Toastable bool
	// Generated reports that the server computes the column.
	Generated bool
	// Carried reports that the stream carries the column: the publication has
	// neither a column list without it, nor leaves out what is generated.
	Carried bool
}

// Column returns a column by name.
func (t *TableInfo) Column(name string) (ColumnInfo, bool) {
	i := slices.IndexFunc(t.Columns, func(c ColumnInfo) bool { return c.Name == name })
	if i < 0 {
		return ColumnInfo{}, false
	}
	return t.Columns[i], true
}

// The server looks for an identity at the table that the row lies in, so every
// partition must have one. A deferrable index never serves as one, and columns
// that an index merely includes are not part of it.
const (
	// leavesLateral are the partitions of c that hold rows, none for a plain table.
	leavesLateral = `LATERAL (SELECT ARRAY(SELECT t.relid::oid FROM pg_partition_tree(c.oid) t WHERE t.isleaf AND t.relid <> c.oid) AS oids) leaves`

	// lackingExpr names c itself or the partition that makes c unusable.
	lackingExpr = `coalesce((SELECT min(regexp_replace(l.oid::regclass::text, '^public\.', '')) FROM pg_class l
       WHERE l.oid = ANY (leaves.oids || c.oid) AND (l.oid <> c.oid OR c.relkind = 'r' OR leaves.oids = '{}')
       AND l.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index i
           WHERE i.indrelid = l.oid AND i.indisvalid AND i.indimmediate
           AND (l.relreplident = 'd' AND i.indisprimary OR l.relreplident = 'i' AND i.indisreplident))), '')`
)

// tableQuery reads many tables at once, by their place in the parameters.
const tableQuery = `
WITH member AS MATERIALIZED (SELECT g.relid FROM pg_publication p, LATERAL pg_get_publication_tables(p.pubname) g WHERE p.pubname = $3)
SELECT w.place, c.oid, c.relkind::text, c.relpersistence::text, c.relreplident::text,
       coalesce((SELECT rn.nspname || '.' || r.relname FROM pg_class r JOIN pg_namespace rn ON rn.oid = r.relnamespace
                 WHERE r.oid = pg_partition_root(c.oid) AND c.relispartition), ''),
       pg_has_role(c.relowner, 'USAGE'),
       c.oid IN (SELECT relid FROM member), ` + lackingExpr + `,
       coalesce((SELECT min(regexp_replace(l.oid::regclass::text, '^public\.', '')) FROM pg_class l
                 WHERE l.oid = ANY (leaves.oids) AND l.relreplident NOT IN (c.relreplident, 'f')), ''),
       coalesce((SELECT x.relname::text FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
                 WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'), '')
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY w (schema, name, place)
JOIN pg_namespace n ON n.nspname = w.schema JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = w.name, ` + leavesLateral

// A value is moved out of a row that is larger than about 2 kB (src/include/access/
// heaptoast.h, TOAST_TUPLE_THRESHOLD): so one can be that may be larger than that
// itself. A numeric or inet is moved as the last resort only, which takes more than
// 8 kB of them. In a very wide row shorter values may be moved as well.
const columnQuery = `
WITH listed AS MATERIALIZED ( -- attnames is there since PostgreSQL 15
  SELECT p.schemaname, p.tablename, to_jsonb(p)->'attnames' AS names FROM pg_publication_tables p WHERE p.pubname = $2)
SELECT a.attrelid, a.attname, regexp_replace(format_type(a.atttypid, a.atttypmod), '^public\.', ''),
       c.relreplident = 'f' OR EXISTS (SELECT FROM pg_index i
           WHERE i.indrelid = c.oid AND a.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1])
           AND (c.relreplident = 'd' AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)),
       a.atttypid, a.attnotnull,
       a.attstorage IN ('x', 'e')
           AND (b.base NOT IN ('bpchar'::regtype, 'varchar'::regtype) OR b.mod < 0 OR (b.mod - 4) * pg_encoding_max_length(d.encoding) > 2000)
           AND (b.base NOT IN ('bit'::regtype, 'varbit'::regtype) OR b.mod < 0 OR b.mod > 16000)
           AND NOT EXISTS (SELECT FROM pg_range r JOIN pg_type s ON s.oid = r.rngsubtype WHERE r.rngtypid = b.base AND s.typlen > 0),
       a.attgenerated <> '',
       -- right about generated columns since they can be published at all
       coalesce(listed.names ? a.attname, a.attgenerated = '')
           AND (a.attgenerated = '' OR current_setting('server_version_num')::int >= 180000)
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN listed ON listed.schemaname = n.nspname AND listed.tablename = c.relname
JOIN pg_type t ON t.oid = a.atttypid JOIN pg_database d ON d.datname = current_database(),
LATERAL (SELECT CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE t.oid END AS base,
                CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END AS mod) b
WHERE a.attrelid = ANY ($1) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum`

// Inspect reads the tables from the live catalog. A table that does not exist
// is a *Missing that lists tables of a similar name; all are reported together.
func Inspect(ctx context.Context, conn *pgx.Conn, publication string, tables []cdc.Table) (map[cdc.Table]*TableInfo, error) {
	found := make(map[cdc.Table]*TableInfo, len(tables))
	byOID := make(map[uint32]*TableInfo, len(tables))
	errs := make([]error, len(tables))
	there := make([]bool, len(tables))
	schemas, names := split(tables)
	rows, err := conn.Query(ctx, tableQuery, schemas, names, publication)
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	var place int64
	var oid uint32
	var kind, persistence, identity string
	var info TableInfo
	_, err = pgx.ForEachRow(rows, []any{&place, &oid, &kind, &persistence, &identity, &info.Root, &info.Owned, &info.Published, &info.Lacking, &info.Differing, &info.IdentityIndex}, func() error {
		one := info
		one.Table = tables[place-1]
		there[place-1] = true
		if errs[place-1] = unwatchable(one.Table, kind, persistence); errs[place-1] != nil {
			return nil
		}
		one.Usable = one.Lacking == ""
		one.Identity = cdc.Identity(identity[0])
		found[one.Table], byOID[oid] = &one, &one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	for i, t := range tables {
		if !there[i] {
			errs[i] = missingTable(ctx, conn, t)
		}
	}
	return found, errors.Join(append(errs, columns(ctx, conn, publication, byOID))...)
}

// unwatchable says why what bears a table's name has no changes.
func unwatchable(t cdc.Table, kind, persistence string) error {
	if kind != "r" && kind != "p" {
		return &Missing{Fault{fmt.Errorf("%s is not a table", t),
			"write rules for the tables behind it: only ordinary and partitioned tables have changes"}}
	}
	if persistence != "p" {
		return &Missing{Fault{fmt.Errorf("table %s is unlogged or temporary", t),
			"take its rules out, or ALTER TABLE " + quote(t.Schema, t.Name) + " SET LOGGED: the log has changes of ordinary tables only"}}
	}
	return nil
}

// columns fills in the columns of tables.
func columns(ctx context.Context, conn *pgx.Conn, publication string, tables map[uint32]*TableInfo) error {
	rows, err := conn.Query(ctx, columnQuery, slices.Collect(maps.Keys(tables)), publication)
	if err != nil {
		return fmt.Errorf("read the columns: %w", err)
	}
	var oid uint32
	var c ColumnInfo
	_, err = pgx.ForEachRow(rows, []any{&oid, &c.Name, &c.Type, &c.Identity, &c.OID, &c.NotNull, &c.Toastable, &c.Generated, &c.Carried}, func() error {
		tables[oid].Columns = append(tables[oid].Columns, c)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the columns: %w", err)
	}
	return columnDataTypes(ctx, conn, tables)
}

// columnDataTypes fills in what the columns' types are made of.
func columnDataTypes(ctx context.Context, conn *pgx.Conn, tables map[uint32]*TableInfo) error {
	var oids []uint32
	for _, t := range tables {
		for i := range t.Columns {
			oids = append(oids, t.Columns[i].OID)
		}
	}
	known := dataTypes{}
	if err := known.load(ctx, conn, dataTypeQuery, oids); err != nil {
		return err
	}
	for _, t := range tables {
		for i := range t.Columns {
			c := &t.Columns[i]
			c.DataType, c.Base = known.of(c.OID), known.below(c.OID)
		}
	}
	return nil
}

func missingTable(ctx context.Context, conn *pgx.Conn, t cdc.Table) error {
	rows, _ := conn.Query(ctx, `SELECT schemaname || '.' || tablename FROM pg_tables
		WHERE tablename = $1 OR schemaname = $2 AND left(tablename, 3) = left($1, 3) ORDER BY 1 LIMIT 5`, t.Name, t.Schema)
	near, err := pgx.CollectRows(rows, pgx.RowTo[string])
	fix := "create it, or correct the rule's table"
	if err == nil && len(near) > 0 {
		fix = "correct the rule's table; there is " + strings.Join(near, ", ")
	}
	return &Missing{Fault{fmt.Errorf("table %s does not exist in database %q", t, conn.Config().Database), fix}}
}

// quote makes an SQL identifier.
func quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }
