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
	// digest changes with everything in Table, and with lacking.
	digest string
	// lacking is that of listed.
	lacking string
	// foreign is HasForeign of the table.
	foreign bool
	// unlogged names a partition or child that is not logged, empty without one.
	unlogged string
}

// firstUserOID is the first OID that the server gives to what users create (FirstNormalObjectId
// in src/include/access/transam.h). Types below it do not change.
const firstUserOID = "16384"

// describeQuery lists and describes those of the tables in the first parameter that can be published:
// permanent, and no partition, because rules watch the root. The details come only for a table whose
// digest is not the one in the second parameter, at the same place. It locks no table.
//
// The digest has the rows of the catalog that the details are read from by their xmin, since whatever
// alters these writes new rows. It also changes with what Lacking and columnQuery depend on: the indexes
// that identify rows and the table's entry in the publication.
//
// A partitioned table has no rows of its own, so the server notes in its partitions, and not in
// its column, that older rows have a default.
var describeQuery = `
WITH RECURSIVE publication AS MATERIALIZED (
  SELECT p.oid, p.pubname, pg_catalog.to_jsonb(p) ->> 'pubgencols' AS generated FROM pg_catalog.pg_publication p WHERE p.pubname = $3),
member AS MATERIALIZED (SELECT g.relid FROM publication p, LATERAL pg_catalog.pg_get_publication_tables(p.pubname) g),
watched AS MATERIALIZED (
  SELECT c.oid, c.relname, c.relkind, c.relpersistence, c.relreplident, c.relfilenode, c.relowner, c.relhassubclass, y.xmin AS named,
    s.nspname, s.named AS schema_named, s.grants AS schema_grants, COALESCE(r.oid, 0) AS entry, col.digest AS columns, col.types, idx.text AS indexes, idx.keyed, w.seen
  FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.oid[]), pg_catalog.unnest($2::pg_catalog.text[])) w (oid, seen) JOIN pg_catalog.pg_class c ON c.oid = w.oid
  JOIN (SELECT n.oid, n.nspname, n.xmin AS named, pg_catalog.md5(pg_catalog.concat_ws('|', n.nspowner, n.nspacl)) AS grants FROM pg_catalog.pg_namespace n OFFSET 0) s ON s.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_type y ON y.oid = c.reltype
  LEFT JOIN pg_catalog.pg_publication_rel r ON r.prrelid = c.oid AND r.prpubid = (SELECT p.oid FROM publication p),
  LATERAL (SELECT pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(a.attnum, a.xmin), 0)) AS digest, pg_catalog.array_agg(a.atttypid) FILTER (WHERE a.atttypid >= ` + firstUserOID + `) AS types
    FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) col,
  LATERAL (SELECT pg_catalog.string_agg(` + indexDigest + `, ',' ORDER BY i.indexrelid) AS text, COALESCE(pg_catalog.bool_or(i.indisprimary), false) AS keyed
    FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident)) idx
  WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition),
node AS (
  SELECT w.oid AS root, i.inhrelid, i.inhparent, i.xmin AS attached
  FROM watched w JOIN pg_catalog.pg_inherits i ON i.inhparent = w.oid WHERE NOT i.inhdetachpending
  UNION
  SELECT n.root, i.inhrelid, i.inhparent, i.xmin
  FROM node n JOIN pg_catalog.pg_inherits i ON i.inhparent = n.inhrelid WHERE NOT i.inhdetachpending),
tree AS MATERIALIZED ( -- a primary key of the root is that of its partitions
  SELECT n.root, pg_catalog.bit_xor(pg_catalog.hash_record_extended(ROW(l.oid, n.inhparent, l.relkind, l.relpersistence, l.relreplident, l.relfilenode, n.attached), 0)) AS digest,
    pg_catalog.bit_xor(CASE WHEN w.relkind = 'p' AND l.relkind = 'r' AND (l.relreplident = 'i' OR NOT w.keyed) THEN pg_catalog.hash_record_extended(ROW(l.oid,
      (SELECT pg_catalog.string_agg(` + indexDigest + `, ',' ORDER BY i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = l.oid AND ` + identityIndex + `)), 0) END) AS indexes,
    pg_catalog.min(CASE WHEN l.relpersistence <> 'p' THEN pg_catalog.regexp_replace(l.oid::pg_catalog.regclass::pg_catalog.text, '^public\.', '') END) AS unlogged
  FROM node n JOIN watched w ON w.oid = n.root JOIN pg_catalog.pg_class l ON l.oid = n.inhrelid GROUP BY n.root),
part AS ( -- the types that a type is made of
  SELECT DISTINCT t.type AS whole, t.type FROM watched w, LATERAL pg_catalog.unnest(w.types) t (type)
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
typed AS MATERIALIZED (
  SELECT w.oid, pg_catalog.string_agg(m.digest, ',' ORDER BY t.place) AS text
  FROM watched w, LATERAL pg_catalog.unnest(w.types) WITH ORDINALITY t (type, place)
  JOIN (SELECT m.whole, pg_catalog.md5(pg_catalog.concat_ws(' ', m.labels, m.fields)) AS digest FROM made m OFFSET 0) m ON m.whole = t.type GROUP BY w.oid),
digested AS MATERIALIZED (
  SELECT w.*, t.unlogged, (SELECT d.encoding FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) AS encoding, pg_catalog.md5(pg_catalog.concat_ws('|',
    w.relkind, w.relpersistence, w.relreplident, w.relfilenode, w.named, w.schema_named, w.relhassubclass, (SELECT d.encoding FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()),
    w.entry, (SELECT p.generated FROM publication p), w.columns, m.text, 'i', w.indexes, 't', t.digest, t.indexes)) AS digest
  FROM watched w LEFT JOIN tree t ON t.root = w.oid LEFT JOIN typed m ON m.oid = w.oid),
other AS MATERIALIZED (SELECT d.oid, d.relkind FROM digested d WHERE d.digest IS DISTINCT FROM d.seen),
detailed AS (
  SELECT o.oid,
    (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('Number', a.attnum, 'Name', a.attname, 'Type', a.atttypid::pg_catalog.int8, 'Mod', a.atttypmod,
      'Collation', a.attcollation::pg_catalog.int8, 'Generated', pg_catalog.ascii(a.attgenerated::pg_catalog.text), 'Expression', CASE WHEN a.attgenerated <> '' THEN
        (SELECT pg_catalog.md5(d.adbin::pg_catalog.text) FROM pg_catalog.pg_attrdef d WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END,
      'Filled', a.atthasmissing OR a.attidentity <> '' OR o.relkind = 'p' AND (a.atthasdef OR a.atttypid >= ` + firstUserOID + ` AND EXISTS (
        SELECT FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid AND t.typdefault IS NOT NULL)),
      'Written', a.xmin::pg_catalog.text::pg_catalog.int8, 'Labels', m.labels, 'Fields', m.fields) ORDER BY a.attnum)::pg_catalog.text
     FROM pg_catalog.pg_attribute a LEFT JOIN made m ON m.whole = a.atttypid WHERE a.attrelid = o.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
    (SELECT ` + lackingExpr("$3") + ` FROM pg_catalog.pg_class c, ` + leavesLateral + ` WHERE c.oid = o.oid) AS lacking
  FROM other o),
listed AS (
  SELECT n.root, pg_catalog.string_agg(pg_catalog.concat_ws(' ', l.oid, n.inhparent, l.relkind, l.relpersistence, l.relreplident, l.relfilenode, n.attached), ',' ORDER BY l.oid, n.inhparent) AS nodes
  FROM other o JOIN node n ON n.root = o.oid JOIN pg_catalog.pg_class l ON l.oid = n.inhrelid GROUP BY n.root)
SELECT d.nspname, d.relname, d.oid, d.entry, d.oid IN (SELECT m.relid FROM member m), pg_catalog.pg_has_role(d.relowner, 'USAGE'), d.relkind = 'r' AND d.relhassubclass,
  d.relkind::pg_catalog.text, d.relpersistence::pg_catalog.text, d.relreplident::pg_catalog.text, d.relfilenode,
  COALESCE(d.named::pg_catalog.text::pg_catalog.int8, 0), d.relowner, d.schema_named::pg_catalog.text::pg_catalog.int8, d.schema_grants, d.relhassubclass, d.encoding,
  d.digest, COALESCE(d.unlogged, ''), o.oid IS NOT NULL, COALESCE(o.columns, '[]'), COALESCE(o.lacking, ''), COALESCE(l.nodes, '')
FROM digested d LEFT JOIN detailed o ON o.oid = d.oid LEFT JOIN listed l ON l.root = d.oid`

// indexDigest changes with what makes the index i identify rows.
const indexDigest = `pg_catalog.concat(i.indexrelid, ':', i.indkey, i.indnkeyatts, i.indisreplident, i.indisprimary, i.indisvalid, i.indimmediate)`

// describe lists and describes tables. For those that are as known has them it returns the description
// that known has.
func (c Config) describe(ctx context.Context, conn *pgx.Conn, tables []uint32, known map[uint32]*description) ([]listed, map[uint32]*description, error) {
	seen := make([]string, len(tables))
	for i, oid := range tables {
		if d := known[oid]; d != nil {
			seen[i] = d.digest
		}
	}
	// Planned at each call: a plan for any parameters was measured to be ten
	// times slower.
	rows, err := conn.Query(ctx, describeQuery, pgx.QueryExecModeExec, tables, seen, c.Publication)
	if err != nil {
		return nil, nil, fmt.Errorf("describe the tables: %w", err)
	}
	list, out := make([]listed, 0, len(tables)), make(map[uint32]*description, len(tables))
	var kind, persistence, identity, columns, nodes string
	var other bool
	var l listed
	var d description
	_, err = pgx.ForEachRow(rows, []any{&l.Schema, &l.Name, &l.Relation, &l.Entry, &l.Member, &l.Owned, &l.Inherited,
		&kind, &persistence, &identity, &d.File, &d.Named, &d.Owner, &d.SchemaNamed, &d.SchemaGrants, &d.Inherited, &d.Encoding,
		&d.digest, &d.unlogged, &other, &columns, &d.lacking, &nodes}, func() error {
		is := known[l.Relation]
		if other {
			one := d
			one.OID, one.Kind, one.Persistence, one.Identity = l.Relation, kind[0], persistence[0], identity[0]
			if err := json.Unmarshal([]byte(columns), &one.Columns); err != nil {
				return err
			}
			var err error
			if one.Nodes, err = parseNodes(nodes); err != nil {
				return err
			}
			one.foreign = one.HasForeign()
			is = &one
		}
		out[l.Relation] = is
		one := l
		one.Lacking, one.Digest, one.Unnamed = is.lacking, is.digest, l.Member && l.Entry == 0
		list = append(list, one)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("describe the tables: %w", err)
	}
	return list, out, nil
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
