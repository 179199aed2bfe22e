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
	// Lacking names the table itself or the partition that makes it unusable. A reason other than
	// a missing identity follows the name: see IdentityFault.
	Lacking string
	// Published reports that the pipeline's publication, which may not exist, holds the table.
	Published   bool
	publication string
	// Root is set for a partition: rules watch the root.
	Root string
	// Owned reports that the connection's role may do what the owner may.
	Owned bool
	// Differing names a partition whose replica identity lacks columns of the root's, so that old
	// rows of it do not carry them. It is empty if no partition does. DifferingIdentity is the identity
	// that the partition needs, as SQL.
	Differing, DifferingIdentity string
	Partitioned                  bool
	// UnloggedLeaf and ForeignLeaf name a partition whose changes PostgreSQL does not log here:
	// an unlogged one, and one that is a foreign table. They are empty without one.
	UnloggedLeaf, ForeignLeaf string
	// Ancestors are the tables that it inherits from, directly or not; Inherited reports that others
	// inherit, or inherited, from it.
	Ancestors []cdc.Table
	Inherited bool
	// IdentityIndex names the index of identity USING INDEX.
	IdentityIndex string
}

// ColumnInfo is one column.
type ColumnInfo struct {
	Name string
	Type string
	// Identity reports that old rows carry the column, wherever they lie.
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

// DifferingText says what is wrong with the partition Differing.
func (t *TableInfo) DifferingText() string {
	return fmt.Sprintf("partition %s of %s has another replica identity than the root (%s), so old rows of it are misread", t.Differing, t.Table, t.Identity)
}

// The server looks for an identity at the table that the row lies in, so every
// partition must have one. A deferrable index never serves as one, and columns
// that an index merely includes are not part of it.
const (
	// leavesLateral are the partitions of c that hold rows, none for a plain table; away are those
	// whose rows are in another database. They need no identity.
	leavesLateral = `LATERAL (SELECT coalesce(pg_catalog.array_agg(k.oid) FILTER (WHERE k.relkind <> 'f'), '{}') AS oids,
         coalesce(pg_catalog.array_agg(k.oid) FILTER (WHERE k.relkind = 'f'), '{}') AS away
       FROM pg_catalog.pg_partition_tree(c.oid) t JOIN pg_catalog.pg_class k ON k.oid = t.relid WHERE t.isleaf AND t.relid <> c.oid) leaves`

	// identityIndex says of the index i that it is the identity of l.
	identityIndex = `(l.relreplident = 'd' AND i.indisprimary OR l.relreplident = 'i' AND i.indisreplident)`
	// identityColumn joins the columns a of the index i.
	identityColumn = `pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])`

	// generatedMatter says of c that the server would refuse to publish its old rows whole, as long as the
	// publication sends no generated columns.
	generatedMatter = `(pg_catalog.current_setting('server_version_num')::int >= 180000
    AND EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> ''))`

	// nameOf is the name of l as SQL takes it.
	nameOf = `pg_catalog.regexp_replace(l.oid::pg_catalog.regclass::pg_catalog.text, '^public\.', '')`
)

// The reasons in Lacking: since PostgreSQL 18 a publication can send generated columns, and then
// the server refuses UPDATE and DELETE where it does not send one that old rows need.
const (
	lackingStored  = "\tstored"
	lackingVirtual = "\tvirtual"
	// lackingKey: there is no identity, and FULL would be of no use.
	lackingKey = "\tkey"
)

// fullFails says of l that its old rows cannot be published whole, by the publication or at all.
const fullFails = `(pg_catalog.current_setting('server_version_num')::int >= 180000 AND EXISTS (SELECT FROM pg_catalog.pg_attribute a
         WHERE a.attrelid = l.oid AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = 'v' OR a.attgenerated = 's' AND NOT g.sent)))`

// lackingExpr names c itself or the partition that makes c unusable; publication is a parameter.
func lackingExpr(publication string) string {
	return `coalesce((SELECT pg_catalog.min(` + nameOf + ` || w.why) FROM pg_catalog.pg_class l, LATERAL (SELECT CASE
         WHEN l.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i
           WHERE i.indrelid = l.oid AND i.indisvalid AND i.indimmediate AND ` + identityIndex + `) THEN CASE WHEN ` + fullFails + ` THEN E'` + lackingKey + `' ELSE '' END
         WHEN pg_catalog.current_setting('server_version_num')::int < 180000 THEN NULL
         WHEN l.relreplident = 'f' THEN
           CASE WHEN NOT ` + fullFails + ` THEN NULL
             WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = l.oid AND a.attnum > 0 AND a.attgenerated = 'v') THEN E'` + lackingVirtual + `' ELSE E'` + lackingStored + `' END
         WHEN NOT g.sent AND EXISTS (SELECT FROM pg_catalog.pg_index i JOIN ` + identityColumn + ` WHERE i.indrelid = l.oid AND ` + identityIndex + ` AND a.attgenerated <> ''
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_attribute ra ON ra.attrelid = c.oid
             WHERE p.pubname = ` + publication + ` AND r.prrelid = c.oid AND ra.attname = a.attname AND ra.attnum::pg_catalog.text = ANY (pg_catalog.string_to_array(pg_catalog.translate(pg_catalog.to_jsonb(r)->>'prattrs', '[],', ''), ' ')))) THEN E'` + lackingStored + `' END AS why,
         g.sent FROM (SELECT coalesce((SELECT pg_catalog.to_jsonb(p)->>'pubgencols' = 's' FROM pg_catalog.pg_publication p WHERE p.pubname = ` + publication + `), false) AS sent) g) w
       WHERE l.oid = ANY (leaves.oids || c.oid) AND (l.oid <> c.oid OR c.relkind = 'r' OR leaves.oids = '{}' AND leaves.away = '{}')
       AND w.why IS NOT NULL), '')`
}

// tableQuery reads many tables at once, by their place in the parameters.
var tableQuery = `
WITH member AS MATERIALIZED (SELECT g.relid FROM pg_catalog.pg_publication p, LATERAL pg_catalog.pg_get_publication_tables(p.pubname) g WHERE p.pubname = $3)
SELECT w.place, c.oid, c.relkind::pg_catalog.text, c.relpersistence::pg_catalog.text, c.relreplident::pg_catalog.text,
       coalesce((SELECT rn.nspname || '.' || r.relname FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace
                 WHERE r.oid = pg_catalog.pg_partition_root(c.oid) AND c.relispartition), ''),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       c.oid IN (SELECT relid FROM member), ` + lackingExpr("$3") + `, coalesce(differing.name, ''), coalesce(differing.needs, ''),
       coalesce((SELECT x.relname::pg_catalog.text FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
                 WHERE i.indrelid = c.oid AND i.indisreplident AND c.relreplident = 'i'), ''),
       coalesce((SELECT pg_catalog.min(` + nameOf + `) FROM pg_catalog.pg_class l WHERE l.oid = ANY (leaves.oids) AND l.relpersistence = 'u'), ''),
       coalesce((SELECT pg_catalog.min(` + nameOf + `) FROM pg_catalog.pg_class l WHERE l.oid = ANY (leaves.away)), ''),
       c.relkind = 'r' AND c.relhassubclass, up.schemas, up.names
FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.text[]), pg_catalog.unnest($2::pg_catalog.text[])) WITH ORDINALITY w (schema, name, place)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name, ` + leavesLateral + `
LEFT JOIN LATERAL (
  SELECT ` + nameOf + ` AS name, CASE c.relreplident WHEN 'd' THEN 'DEFAULT' WHEN 'i' THEN
           coalesce((SELECT 'USING INDEX ' || pg_catalog.quote_ident(x.relname) FROM pg_catalog.pg_index r JOIN pg_catalog.pg_index i ON pg_catalog.pg_partition_root(i.indexrelid) = r.indexrelid
             JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE r.indrelid = c.oid AND r.indisreplident AND i.indrelid = l.oid), 'FULL') ELSE 'FULL' END AS needs
  FROM pg_catalog.pg_class l WHERE l.oid = ANY (leaves.oids) AND CASE
    WHEN l.relreplident = 'f' OR l.relreplident = 'd' AND c.relreplident = 'd' THEN false -- a primary key of the root is that of its partitions
    WHEN c.relreplident = 'f' THEN true
    ELSE EXISTS (SELECT FROM pg_catalog.pg_index ri JOIN pg_catalog.pg_attribute ra ON ra.attrelid = ri.indrelid AND ra.attnum = ANY ((ri.indkey::pg_catalog.int2[])[0:ri.indnkeyatts - 1])
      WHERE ri.indrelid = c.oid AND (c.relreplident = 'd' AND ri.indisprimary OR c.relreplident = 'i' AND ri.indisreplident)
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i JOIN ` + identityColumn + ` WHERE i.indrelid = l.oid AND ` + identityIndex + ` AND a.attname = ra.attname)) END
  ORDER BY 1 LIMIT 1) differing ON true,
LATERAL (
  WITH RECURSIVE up AS (
    SELECT i.inhparent AS oid FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND NOT c.relispartition
    UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.oid)
  SELECT coalesce(pg_catalog.array_agg(un.nspname::pg_catalog.text ORDER BY un.nspname, u.relname), '{}') AS schemas, coalesce(pg_catalog.array_agg(u.relname::pg_catalog.text ORDER BY un.nspname, u.relname), '{}') AS names
  FROM up JOIN pg_catalog.pg_class u ON u.oid = up.oid AND u.relkind = 'r' JOIN pg_catalog.pg_namespace un ON un.oid = u.relnamespace) up`

// A value is moved out of a row that is larger than about 2 kB (src/include/access/
// heaptoast.h, TOAST_TUPLE_THRESHOLD): so one can be that may be larger than that
// itself. A numeric or inet is moved as the last resort only, which takes more than
// 8 kB of them. In a very wide row shorter values may be moved as well.
const columnQuery = `
WITH listed AS MATERIALIZED ( -- attnames is there since PostgreSQL 15
  SELECT p.schemaname, p.tablename, pg_catalog.to_jsonb(p)->'attnames' AS names FROM pg_catalog.pg_publication_tables p WHERE p.pubname = $2),
carried AS MATERIALIZED ( -- what old rows carry: columns of every partition's identity that is not FULL
  SELECT c.oid, NOT EXISTS (SELECT FROM pg_catalog.pg_class l WHERE l.oid = ANY (h.oids) AND l.relreplident <> 'f') AS whole,
         ARRAY(SELECT a.attname FROM pg_catalog.pg_class l JOIN pg_catalog.pg_index i ON i.indrelid = l.oid AND ` + identityIndex + ` JOIN ` + identityColumn + `
           WHERE l.oid = ANY (h.oids) AND l.relreplident <> 'f' GROUP BY a.attname
           HAVING pg_catalog.count(DISTINCT l.oid) = (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class l WHERE l.oid = ANY (h.oids) AND l.relreplident <> 'f')) AS names
  FROM pg_catalog.pg_class c, ` + leavesLateral + `, LATERAL (SELECT CASE leaves.oids WHEN '{}' THEN ARRAY[c.oid] ELSE leaves.oids END AS oids) h WHERE c.oid = ANY ($1))
SELECT a.attrelid, a.attname, pg_catalog.regexp_replace(pg_catalog.format_type(a.atttypid, a.atttypmod), '^public\.', ''),
       carried.whole OR a.attname = ANY (carried.names),
       a.atttypid, a.attnotnull,
       a.attstorage IN ('x', 'e')
           AND (b.base NOT IN ('bpchar'::pg_catalog.regtype, 'varchar'::pg_catalog.regtype) OR b.mod < 0 OR (b.mod - 4) * pg_catalog.pg_encoding_max_length(d.encoding) > 2000)
           AND (b.base NOT IN ('bit'::pg_catalog.regtype, 'varbit'::pg_catalog.regtype) OR b.mod < 0 OR b.mod > 16000)
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_range r JOIN pg_catalog.pg_type s ON s.oid = r.rngsubtype WHERE r.rngtypid = b.base AND s.typlen > 0),
       a.attgenerated <> '',
       -- right about generated columns since they can be published at all
       coalesce(listed.names ? a.attname, a.attgenerated = '')
           AND (a.attgenerated = '' OR pg_catalog.current_setting('server_version_num')::int >= 180000)
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace JOIN carried ON carried.oid = c.oid
LEFT JOIN listed ON listed.schemaname = n.nspname AND listed.tablename = c.relname
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid JOIN pg_catalog.pg_database d ON d.datname = pg_catalog.current_database(),
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
	others := make(map[uint32]string)
	places := make(map[uint32]int64)
	var upSchemas, upNames []string
	_, err = pgx.ForEachRow(rows, []any{&place, &oid, &kind, &persistence, &identity, &info.Root, &info.Owned, &info.Published, &info.Lacking, &info.Differing, &info.DifferingIdentity, &info.IdentityIndex, &info.UnloggedLeaf, &info.ForeignLeaf, &info.Inherited, &upSchemas, &upNames}, func() error {
		one := info
		one.Table = tables[place-1]
		there[place-1] = true
		if kind != "r" && kind != "p" {
			others[oid], places[oid] = kind, place-1
			return nil
		}
		if errs[place-1] = unlogged(one.Table, persistence); errs[place-1] != nil {
			return nil
		}
		one.publication = publication
		for i := range upSchemas {
			one.Ancestors = append(one.Ancestors, cdc.Table{Schema: upSchemas[i], Name: upNames[i]})
		}
		one.Usable, one.Partitioned = one.Lacking == "", kind == "p"
		one.Identity = cdc.Identity(identity[0])
		found[one.Table], byOID[oid] = &one, &one
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the catalog: %w", err)
	}
	behind, err := tablesBehind(ctx, conn, slices.Collect(maps.Keys(others)))
	if err != nil {
		return nil, err
	}
	for oid, kind := range others {
		errs[places[oid]] = notTable(tables[places[oid]], kind, behind[oid])
	}
	for i, t := range tables {
		if !there[i] {
			errs[i] = missingTable(ctx, conn, t)
		}
	}
	return found, errors.Join(append(errs, columns(ctx, conn, publication, byOID))...)
}

// unlogged says why a table's changes are not in the log, nil if they are.
func unlogged(t cdc.Table, persistence string) error {
	if persistence == "p" {
		return nil
	}
	return &Missing{Fault{fmt.Errorf("table %s is unlogged or temporary", t),
		"take its rules out, or ALTER TABLE " + quote(t.Schema, t.Name) + " SET LOGGED: the log has changes of ordinary tables only"}}
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
	rows, _ := conn.Query(ctx, `SELECT schemaname || '.' || tablename FROM pg_catalog.pg_tables
		WHERE tablename = $1 OR schemaname = $2 AND pg_catalog.left(tablename, 3) = pg_catalog.left($1, 3) ORDER BY 1 LIMIT 5`, t.Name, t.Schema)
	near, err := pgx.CollectRows(rows, pgx.RowTo[string])
	fix := "create it, or correct the rule's table"
	if err == nil && len(near) > 0 {
		fix = "correct the rule's table; there is " + strings.Join(near, ", ")
	}
	return &Missing{Fault{fmt.Errorf("table %s does not exist in database %q", t, conn.Config().Database), fix}}
}

// quote makes an SQL identifier.
func quote(parts ...string) string { return pgx.Identifier(parts).Sanitize() }
