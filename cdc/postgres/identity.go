package postgres

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// Identities says which replica identities a table could have, and what they cost.
type Identities struct {
	// Table is the quoted name.
	Table string
	// Partitioned: each partition needs an identity of its own.
	Partitioned bool
	Columns     []IdentityColumn
	// Indexes are the unique indexes that could serve as they are: immediate, not
	// partial, over NOT NULL columns only; those with the fewest columns first.
	Indexes []IdentityIndex
	// FreeName is a quoted name that no index has.
	FreeName string
	// FullFails reports that old rows cannot be published whole, because of generated columns.
	FullFails bool
	// RowBytes is the average size of a row as the planner knows it, 0 if it does
	// not.
	RowBytes int64
}

// IdentityColumn is a column that an index could have.
type IdentityColumn struct {
	Name, Quoted string
	NotNull      bool
	Primary      bool
	// Sortable reports that a unique index can hold its type sensibly, Large that
	// it cannot hold each of its values: a btree takes no more than 2,704 bytes.
	Sortable, Large bool
	// Generated columns identify no row: they are not sent.
	Generated bool
}

// IdentityIndex is a unique index.
type IdentityIndex struct {
	// Quoted is the name for SQL.
	Quoted  string
	Columns []string
}

// A row of the second query is one index; the widths are those of pg_stats, which
// shows columns that the role may read.
const (
	identityQuery = `
SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), c.relkind = 'p',
  coalesce((SELECT pg_catalog.quote_ident(f) FROM pg_catalog.unnest(ARRAY['_identity', '_identity_2', '_identity_3', '_identity_4']) WITH ORDINALITY s (suffix, i),
              LATERAL (SELECT pg_catalog.left(c.relname, 50) || suffix AS f) x
            WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_class o WHERE o.relnamespace = c.relnamespace AND o.relname = f) ORDER BY i LIMIT 1), 'NAME'),
  coalesce((SELECT pg_catalog.sum(w) FROM (SELECT pg_catalog.max(s.avg_width) AS w FROM pg_catalog.pg_stats s WHERE s.schemaname = $1 AND s.tablename = $2 GROUP BY s.attname) x),
    CASE WHEN c.reltuples > 0 THEN c.relpages * pg_catalog.current_setting('block_size')::bigint / c.reltuples END, 0)::bigint,
  ` + generatedMatter + `
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2`

	identityColumnsQuery = `
SELECT a.attname, pg_catalog.quote_ident(a.attname), a.attnotnull,
  EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = a.attrelid AND i.indisprimary AND a.attnum = ANY ((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1])),
  a.atttypid <> 'jsonb'::pg_catalog.regtype AND t.typtype <> 'd' AND (t.typcategory IN ('A', 'E', 'R') OR EXISTS (SELECT FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
    WHERE m.amname = 'btree' AND o.opcdefault AND (o.opcintype = t.oid OR t.oid = 'varchar'::pg_catalog.regtype OR t.oid = 'cidr'::pg_catalog.regtype)))
  OR t.typtype = 'd' AND t.typcategory IN ('B', 'D', 'I', 'N', 'S', 'T'),
  a.attstorage IN ('x', 'e') AND (a.atttypmod < 0 OR a.atttypmod > 650), a.attgenerated <> ''
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`

	identityIndexesQuery = `
SELECT pg_catalog.quote_ident(x.relname), k.names
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid,
LATERAL (SELECT pg_catalog.array_agg(a.attname::pg_catalog.text ORDER BY o) AS names, pg_catalog.bool_and(a.attnotnull AND a.attgenerated = '') AS sound
         FROM pg_catalog.unnest((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1]) WITH ORDINALITY u (n, o) JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.n) k
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND k.sound
ORDER BY i.indnkeyatts, x.relname`
)

// InspectIdentities reads what a table could have as its replica identity.
func InspectIdentities(ctx context.Context, conn *pgx.Conn, t cdc.Table) (*Identities, error) {
	var oid uint32
	out := &Identities{}
	if err := conn.QueryRow(ctx, identityQuery, t.Schema, t.Name).Scan(&oid, &out.Table, &out.Partitioned, &out.FreeName, &out.RowBytes, &out.FullFails); err != nil {
		return nil, fmt.Errorf("read the sizes of %s: %w", t, err)
	}
	// A query that fails says so when its rows are collected.
	rows, _ := conn.Query(ctx, identityColumnsQuery, oid)
	var err error
	if out.Columns, err = pgx.CollectRows(rows, pgx.RowToStructByPos[IdentityColumn]); err != nil {
		return nil, fmt.Errorf("read the columns of %s: %w", t, err)
	}
	rows, _ = conn.Query(ctx, identityIndexesQuery, oid)
	if out.Indexes, err = pgx.CollectRows(rows, pgx.RowToStructByPos[IdentityIndex]); err != nil {
		return nil, fmt.Errorf("read the indexes of %s: %w", t, err)
	}
	return out, nil
}

// Offer says in one line how the table could get an identity that holds the
// columns, as SQL, the cheapest way first, empty if it cannot. An index has the primary key too,
// for others who read the table's changes.
func (i *Identities) Offer(columns []string) string {
	index := i.byIndex(columns)
	if i.FullFails {
		if index == "" {
			return ""
		}
		return "(a) " + index
	}
	full := fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", i.Table)
	switch {
	case i.Partitioned:
		full += " and the same for each of its partitions"
	case i.RowBytes > 0:
		full += fmt.Sprintf(" which adds about %d bytes of WAL to each UPDATE and DELETE, and all that is stored apart from the row", i.RowBytes)
	default:
		full += " which adds the whole old row to the WAL of each UPDATE and DELETE"
	}
	if index != "" {
		return "(a) " + index + " (b) " + full
	}
	return "(a) " + full
}

// byIndex is empty where no index can do. A partition has an index of its own, so
// no statement for the root would do for a partitioned table.
func (i *Identities) byIndex(columns []string) string {
	if i.Partitioned {
		return ""
	}
	var names, nullable, large []string
	for _, c := range i.Columns {
		if !c.Primary && !slices.Contains(columns, c.Name) {
			continue
		}
		if !c.Sortable || c.Generated {
			return ""
		}
		columns = append(slices.Clone(columns), c.Name)
		names = append(names, c.Quoted)
		if c.Large {
			large = append(large, c.Quoted)
		}
		if !c.NotNull {
			nullable = append(nullable, c.Quoted)
		}
	}
	missing := func(index IdentityIndex) func(string) bool {
		return func(c string) bool { return !slices.Contains(index.Columns, c) }
	}
	for _, index := range i.Indexes {
		if !slices.ContainsFunc(columns, missing(index)) {
			return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;", i.Table, index.Quoted)
		}
	}
	before, after := "", ""
	for _, c := range nullable {
		before += fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s SET NOT NULL; ", i.Table, c)
	}
	if len(nullable) > 0 {
		after = " (an identity's columns are NOT NULL: no row may have a NULL in " + strings.Join(nullable, ", ") + ", now or later)"
	}
	if len(large) > 0 {
		after += " (an index holds no value over 2,700 bytes: no row may have one in " + strings.Join(large, ", ") + ", now or later)"
	}
	return fmt.Sprintf("%sCREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s); ALTER TABLE %s REPLICA IDENTITY USING INDEX %s;%s",
		before, i.FreeName, i.Table, strings.Join(names, ", "), i.Table, i.FreeName, after)
}
