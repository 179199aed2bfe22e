package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc/shape"
)

// description is what the catalog says a table contains.
type description struct {
	shape.Table
	// digest changes with everything in Table.
	digest string
	// foreign is HasForeign of the table.
	foreign bool
	// unlogged names a partition or child that is not logged, empty without one.
	unlogged string
}

// firstUserOID is the first OID that the server gives to what users create (FirstNormalObjectId
// in src/include/access/transam.h). Types below it do not change.
const firstUserOID = "16384"

// describeQuery describes the tables of the first parameter. The details come only for a table
// whose digest is not the one in the second parameter, at the same place. It locks no table.
//
// A partitioned table has no rows of its own, so the server notes in its partitions, and not in
// its column, that older rows have a default.
const describeQuery = `
WITH RECURSIVE watched AS MATERIALIZED (
  SELECT c.oid, c.relkind, c.relpersistence, c.relreplident, c.relfilenode, c.relowner, c.relhassubclass, y.xmin AS named, s.named AS schema_named, s.grants AS schema_grants,
    (SELECT d.encoding FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) AS encoding, w.seen
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.text[])) w (oid, seen) JOIN pg_catalog.pg_class c ON c.oid = w.oid
  LEFT JOIN pg_catalog.pg_type y ON y.oid = c.reltype
  LEFT JOIN (SELECT n.oid, n.xmin AS named, pg_catalog.md5(pg_catalog.concat_ws('|', n.nspowner, n.nspacl)) AS grants FROM pg_catalog.pg_namespace n OFFSET 0) s ON s.oid = c.relnamespace),
node AS (
  SELECT w.oid AS root, i.inhrelid, i.inhparent, i.xmin AS attached
  FROM watched w JOIN pg_catalog.pg_inherits i ON i.inhparent = w.oid WHERE NOT i.inhdetachpending
  UNION
  SELECT n.root, i.inhrelid, i.inhparent, i.xmin
  FROM node n JOIN pg_catalog.pg_inherits i ON i.inhparent = n.inhrelid WHERE NOT i.inhdetachpending),
tree AS MATERIALIZED (
  SELECT n.root,
    pg_catalog.string_agg(pg_catalog.concat_ws(' ', l.oid, n.inhparent, l.relkind, l.relpersistence, l.relreplident, l.relfilenode, n.attached), ',' ORDER BY l.oid, n.inhparent) AS nodes,
    pg_catalog.min(CASE WHEN l.relpersistence <> 'p' THEN pg_catalog.regexp_replace(l.oid::pg_catalog.regclass::pg_catalog.text, '^public\.', '') END) AS unlogged
  FROM node n JOIN pg_catalog.pg_class l ON l.oid = n.inhrelid GROUP BY n.root),
field AS MATERIALIZED (
  SELECT a.* FROM watched w, LATERAL (
    SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation, a.attgenerated, a.xmin AS written,
      CASE WHEN a.attgenerated <> '' THEN
        (SELECT pg_catalog.md5(d.adbin::pg_catalog.text) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END AS expression,
      a.atthasmissing OR a.attidentity <> '' OR w.relkind = 'p' AND (a.atthasdef OR a.atttypid >= ` + firstUserOID + ` AND EXISTS (
        SELECT FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid AND t.typdefault IS NOT NULL)) AS filled
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = w.oid AND a.attnum > 0 AND NOT a.attisdropped OFFSET 0) a),
part AS ( -- the types that a type is made of
  SELECT DISTINCT f.atttypid AS whole, f.atttypid AS type FROM field f WHERE f.atttypid >= ` + firstUserOID + `
  UNION
  SELECT p.whole, x.type FROM part p JOIN pg_catalog.pg_type t ON t.oid = p.type, LATERAL (
    SELECT t.typelem UNION ALL SELECT t.typbasetype
    UNION ALL SELECT r.rngsubtype FROM pg_catalog.pg_range r WHERE t.oid IN (r.rngtypid, r.rngmultitypid)
    UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) x (type)
  WHERE x.type >= ` + firstUserOID + `),
made AS MATERIALIZED (
  SELECT p.whole,
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('OID', e.oid::pg_catalog.int8, 'Text', e.enumlabel, 'Written', e.xmin::pg_catalog.text::pg_catalog.int8) ORDER BY e.oid)
     FROM pg_catalog.pg_enum e WHERE e.enumtypid = ANY (pg_catalog.array_agg(p.type))) AS labels,
    (SELECT pg_catalog.md5(pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attrelid, a.attnum, a.atttypid, a.atttypmod, a.attname, a.xmin), ',' ORDER BY a.attrelid, a.attnum))
     FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
     WHERE t.typtype = 'c' AND t.oid = ANY (pg_catalog.array_agg(p.type))) AS fields
  FROM part p GROUP BY p.whole),
summed AS ( -- a column that is altered gets a new row in pg_attribute
  SELECT f.attrelid, pg_catalog.string_agg(pg_catalog.concat_ws(' ', f.written, f.expression, m.labels, m.fields), ',' ORDER BY f.attnum) AS text
  FROM field f LEFT JOIN made m ON m.whole = f.atttypid GROUP BY f.attrelid),
digested AS MATERIALIZED (
  SELECT w.*, t.unlogged, t.nodes, pg_catalog.md5(pg_catalog.concat_ws('|', w.relkind, w.relpersistence, w.relreplident, w.relfilenode, w.named, w.schema_named,
    w.relhassubclass, w.encoding, s.text, t.nodes)) AS digest
  FROM watched w LEFT JOIN summed s ON s.attrelid = w.oid LEFT JOIN tree t ON t.root = w.oid),
detailed AS (
  SELECT f.attrelid, pg_catalog.json_agg(pg_catalog.json_build_object('Number', f.attnum, 'Name', f.attname, 'Type', f.atttypid::pg_catalog.int8, 'Mod', f.atttypmod,
    'Collation', f.attcollation::pg_catalog.int8, 'Generated', pg_catalog.ascii(f.attgenerated::pg_catalog.text), 'Expression', f.expression, 'Filled', f.filled,
    'Written', f.written::pg_catalog.text::pg_catalog.int8, 'Labels', m.labels, 'Fields', m.fields) ORDER BY f.attnum)::pg_catalog.text AS columns
  FROM field f JOIN digested d ON d.oid = f.attrelid AND d.digest IS DISTINCT FROM d.seen LEFT JOIN made m ON m.whole = f.atttypid GROUP BY f.attrelid)
SELECT d.oid, d.relkind::pg_catalog.text, d.relpersistence::pg_catalog.text, d.relreplident::pg_catalog.text, d.relfilenode,
  COALESCE(d.named::pg_catalog.text::pg_catalog.int8, 0) AS named, d.relowner, COALESCE(d.schema_named::pg_catalog.text::pg_catalog.int8, 0) AS schema_named,
  COALESCE(d.schema_grants, '') AS schema_grants, d.relhassubclass, d.encoding, d.digest,
  COALESCE(d.unlogged, '') AS unlogged, d.digest IS DISTINCT FROM d.seen AS other,
  COALESCE(c.columns, '[]') AS columns, CASE WHEN d.digest IS DISTINCT FROM d.seen THEN COALESCE(d.nodes, '') ELSE '' END AS nodes
FROM digested d LEFT JOIN detailed c ON c.attrelid = d.oid`

// describe reads the descriptions of tables. For those that are as known has them it returns what
// known has.
func describe(ctx context.Context, conn *pgx.Conn, tables []uint32, known map[uint32]*description) (map[uint32]*description, error) {
	seen := make([]string, len(tables))
	for i, oid := range tables {
		if d := known[oid]; d != nil {
			seen[i] = d.digest
		}
	}
	rows, err := conn.Query(ctx, describeQuery, pgx.QueryExecModeExec, tables, seen)
	if err != nil {
		return nil, fmt.Errorf("describe the tables: %w", err)
	}
	out := make(map[uint32]*description, len(tables))
	var kind, persistence, identity, columns, nodes string
	var other bool
	var d description
	_, err = pgx.ForEachRow(rows, []any{&d.OID, &kind, &persistence, &identity, &d.File, &d.Named, &d.Owner, &d.SchemaNamed, &d.SchemaGrants, &d.Inherited, &d.Encoding, &d.digest, &d.unlogged, &other, &columns, &nodes}, func() error {
		if !other {
			out[d.OID] = known[d.OID]
			return nil
		}
		one := d
		one.Kind, one.Persistence, one.Identity = kind[0], persistence[0], identity[0]
		if err := json.Unmarshal([]byte(columns), &one.Columns); err != nil {
			return err
		}
		one.Nodes, err = parseNodes(nodes)
		one.foreign = one.HasForeign()
		out[d.OID] = &one
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("describe the tables: %w", err)
	}
	return out, nil
}

// parseNodes reads the tree of describeQuery.
func parseNodes(text string) ([]shape.Node, error) {
	if text == "" {
		return nil, nil
	}
	out := make([]shape.Node, 0, strings.Count(text, ",")+1)
	for row := range strings.SplitSeq(text, ",") {
		f := strings.Split(row, " ")
		if len(f) != 7 || len(f[2])*len(f[3])*len(f[4]) != 1 {
			return nil, fmt.Errorf("partition %q is not seven fields", row)
		}
		n := shape.Node{Kind: f[2][0], Persistence: f[3][0], Identity: f[4][0]}
		for _, at := range []struct {
			to   *uint32
			text string
		}{{&n.OID, f[0]}, {&n.Parent, f[1]}, {&n.File, f[5]}, {&n.Attached, f[6]}} {
			v, err := strconv.ParseUint(at.text, 10, 32)
			if err != nil {
				return nil, err
			}
			*at.to = uint32(v)
		}
		out = append(out, n)
	}
	return out, nil
}
