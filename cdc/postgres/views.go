package postgres

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// Kinds of relations that are not tables, as in pg_class.relkind.
const (
	kindView         = "v"
	kindMaterialized = "m"
	kindForeign      = "f"
)

// behindQuery returns the tables that views read, through other views and as the roots of
// partitions. What only the body of a function reads is not in the catalog.
const behindQuery = `
WITH RECURSIVE behind AS (
  SELECT v.oid AS view, v.oid FROM pg_catalog.unnest($1::pg_catalog.oid[]) v (oid)
  UNION
  SELECT b.view, d.refobjid FROM behind b JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind IN ('v', 'm')
  JOIN pg_catalog.pg_rewrite r ON r.ev_class = b.oid
  JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass)
SELECT DISTINCT b.view, n.nspname::pg_catalog.text, t.relname::pg_catalog.text
FROM behind b JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind IN ('r', 'p')
JOIN pg_catalog.pg_class t ON t.oid = COALESCE(pg_catalog.pg_partition_root(c.oid), c.oid) JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
ORDER BY 1, 2, 3`

// tablesBehind returns the tables that views read, by the OID of the view.
func tablesBehind(ctx context.Context, conn *pgx.Conn, views []uint32) (map[uint32][]cdc.Table, error) {
	out := make(map[uint32][]cdc.Table, len(views))
	if len(views) == 0 {
		return out, nil
	}
	rows, err := conn.Query(ctx, behindQuery, views)
	if err != nil {
		return nil, fmt.Errorf("read which tables are behind views: %w", err)
	}
	var view uint32
	var t cdc.Table
	_, err = pgx.ForEachRow(rows, []any{&view, &t.Schema, &t.Name}, func() error {
		out[view] = append(out[view], t)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which tables are behind views: %w", err)
	}
	return out, nil
}

// notTable says why a relation of another kind has no changes, and what to watch instead.
func notTable(t cdc.Table, kind string, behind []cdc.Table) error {
	instead := "write rules for the tables behind it: " + JoinTables(behind)
	if len(behind) == 0 {
		instead = "take its rules out: it reads no table"
	}
	switch kind {
	case kindView:
		return &Missing{Fault{fmt.Errorf("%s is a view, and only tables have changes", t), instead}}
	case kindMaterialized:
		return &Missing{Fault{fmt.Errorf("%s is a materialized view, and only tables have changes", t),
			fmt.Sprintf("%s; what REFRESH changes is purged by a rule with `message: %s` and, in the transaction of each REFRESH MATERIALIZED VIEW %s, after it: %s",
				instead, RefreshPrefix, quote(t.Schema, t.Name), RefreshMessage(t))}}
	case kindForeign:
		return &Missing{Fault{fmt.Errorf("%s is a foreign table, whose changes are in the log of another database", t),
			"take its rules out, and watch the table in its own database, with another pipeline"}}
	}
	return &Missing{Fault{fmt.Errorf("%s is not a table", t), "name an ordinary or a partitioned table: only those have changes"}}
}

// notTablesQuery has everything with rows that rules cannot watch by its name, with its kind and, for a
// partition, the root.
const notTablesQuery = `SELECT c.oid, n.nspname, c.relname, c.relkind::pg_catalog.text, COALESCE(rn.nspname, ''), COALESCE(r.relname, '')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN (pg_catalog.pg_class r JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace) ON c.relispartition AND r.oid = pg_catalog.pg_partition_root(c.oid)
WHERE (c.relkind IN ('v', 'm', 'f') OR c.relispartition AND c.relkind IN ('r', 'p')) AND c.relpersistence <> 't'
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' ORDER BY n.nspname, c.relname`

// NotTables says of what patterns of a Watch match why it is not watched: views, foreign tables, and
// partitions of tables that are not watched themselves.
func (c Config) NotTables(ctx context.Context, conn *pgx.Conn, w Watch) (out []error, err error) {
	if w.Matches == nil {
		return nil, nil
	}
	rows, err := conn.Query(ctx, notTablesQuery)
	if err != nil {
		return nil, fmt.Errorf("list the views: %w", err)
	}
	type relation struct {
		oid  uint32
		name cdc.Table
		kind string
		root cdc.Table
	}
	var found []relation
	var oids []uint32
	var r relation
	_, err = pgx.ForEachRow(rows, []any{&r.oid, &r.name.Schema, &r.name.Name, &r.kind, &r.root.Schema, &r.root.Name}, func() error {
		if w.named(r.name) && (r.root.Name == "" || !w.named(r.root)) {
			found, oids = append(found, r), append(oids, r.oid)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the views: %w", err)
	}
	behind, err := tablesBehind(ctx, conn, oids)
	for _, r := range found {
		if r.root.Name != "" {
			out = append(out, partitionFault(r.name, r.root.String()))
		} else {
			out = append(out, notTable(r.name, r.kind, behind[r.oid]))
		}
	}
	return out, err
}

// partitionFault says that a table is a partition.
func partitionFault(t cdc.Table, root string) error {
	return &Missing{Fault{fmt.Errorf("table %s is a partition", t), "watch its root " + root + " in the rule"}}
}

// RefreshPrefix is the prefix of the messages that are proposed for materialized views.
const RefreshPrefix = "cache.purge"

// RefreshMessage is the statement that purges what is cached of a materialized view, as a rule
// for messages takes it. The key is an example.
func RefreshMessage(t cdc.Table) string {
	return fmt.Sprintf(`SELECT pg_logical_emit_message(true, '%s', '{"keys": ["%s"]}');`, RefreshPrefix, strings.NewReplacer("'", "''", `\`, `\\`, `"`, `\"`).Replace(t.Name))
}

// JoinTables lists tables in one line.
func JoinTables(tables []cdc.Table) string {
	names := make([]string, len(tables))
	for i, t := range tables {
		names[i] = t.String()
	}
	return strings.Join(names, ", ")
}
