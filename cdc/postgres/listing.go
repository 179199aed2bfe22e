package postgres

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// Watch says which tables must be published.
type Watch struct {
	// Tables are named exactly, and must exist.
	Tables []cdc.Table
	// Matches reports whether a pattern means the table; nil without patterns. What
	// it matches is published as far as it can be.
	Matches func(t cdc.Table) bool
	// Nearly returns a pattern that a table matches only nearly, empty if it matches none; nil
	// without patterns.
	Nearly func(t cdc.Table) string
	// Reads says what rules read, for column lists; nil: everything.
	Reads ReadsOf
	// Sees reports whether rules can see that values of a column changed; nil: they see all.
	Sees func(t cdc.Table, column string) bool
	// Unfit says what the rules cannot read of the published tables as the catalog
	// describes them; nil: they read nothing. It must not keep the map.
	Unfit func(tables map[cdc.Table]*TableInfo) []Problem
	// kin has the children of watched tables; nil: not read yet. See withKin.
	kin *kin
}

// NearMiss is a table that a pattern matches only nearly, so that it is not watched.
type NearMiss struct {
	cdc.Table
	Pattern string
}

// Error says so, with what to do.
func (n NearMiss) Error() string {
	return fmt.Sprintf("table %s is not watched, although it nearly matches %s: a capture takes one or more characters and no dot, and names are compared with regard to case; rename it, or write a rule for it", n.Table, n.Pattern)
}

// ReadsOf returns those columns of a table that rules read; columns are all that it has.
type ReadsOf func(t cdc.Table, columns []string) []string

// has reports whether the rules watch the table, or one that it inherits from.
func (w Watch) has(t cdc.Table) bool {
	return slices.ContainsFunc(w.kin.with(t), w.named)
}

// named reports whether rules name the table, exactly or by a pattern.
func (w Watch) named(t cdc.Table) bool {
	return slices.Contains(w.Tables, t) || w.Matches != nil && w.Matches(t)
}

// listed is a table as the comparison with the live catalog sees it.
type listed struct {
	cdc.Table
	published
	// Member reports that the publication holds the table, and Unnamed that it does so because it is one
	// of all tables or of the table's schema.
	Member, Unnamed bool
	Owned           bool
	// Unlogged reports that its changes are not in the log. Nothing else is known of it then.
	Unlogged bool
	// Inherited reports that other tables inherit, or inherited, from it.
	Inherited bool
	// Lacking names the table itself or the partition whose rows cannot be
	// identified, empty if all can be.
	Lacking string
	// Digest is that of the description.
	Digest string
}

// published identifies one stay of a table in the publication. Taking the
// table out and putting it back, or creating it again, changes it.
type published struct {
	// Relation is the table's OID, Entry that of its row in pg_publication_rel, or of its schema's in
	// pg_publication_namespace: 0 where the publication holds all tables.
	Relation, Entry uint32
}

// notPublished is the Entry of a table that the publication does not hold.
const notPublished = math.MaxUint32

// enterSchemas fills in the Entry of tables that the publication holds with their schema.
func (c Config) enterSchemas(ctx context.Context, conn *pgx.Conn, tables []listed) error {
	if !slices.ContainsFunc(tables, func(l listed) bool { return l.Unnamed }) {
		return nil
	}
	if version, err := serverVersion(ctx, conn); err != nil || version < schemasSince*10000 {
		return err
	}
	entries := make(map[string]uint32)
	rows, err := conn.Query(ctx, `SELECT n.nspname, e.oid FROM pg_catalog.pg_publication_namespace e JOIN pg_catalog.pg_namespace n ON n.oid = e.pnnspid
		JOIN pg_catalog.pg_publication p ON p.oid = e.pnpubid WHERE p.pubname = $1`, c.Publication)
	if err != nil {
		return fmt.Errorf("read the schemas of publication %q: %w", c.Publication, err)
	}
	var schema string
	var entry uint32
	if _, err := pgx.ForEachRow(rows, []any{&schema, &entry}, func() error { entries[schema] = entry; return nil }); err != nil {
		return fmt.Errorf("read the schemas of publication %q: %w", c.Publication, err)
	}
	for i := range tables {
		if t := &tables[i]; t.Unnamed {
			t.Entry = entries[t.Schema]
		}
	}
	return nil
}

// schemasSince is the first major version whose publications can hold schemas.
const schemasSince = 15

// namesQuery has every table that could be published, and unlogged ones, in one pass over pg_class; exactQuery looks up those with
// the names in its parameters.
const (
	namesQuery = `SELECT c.oid, n.nspname, c.relname, c.relpersistence <> 'p' FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid
WHERE c.relpersistence IN ('p', 'u') AND ` + publishable
	exactQuery = `SELECT c.oid, n.nspname, c.relname, false FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.name[]), pg_catalog.unnest($2::pg_catalog.name[])) w (schema, name)
JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name
WHERE c.relpersistence = 'p' AND ` + publishable
)

// manyNames is how many names are looked up one by one. For more, one pass takes less time.
const manyNames = 200

// publishable says so of the table c in the schema n, as long as it is logged.
const publishable = `c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'`

// list reads the tables that are watched, or could be, with their descriptions, and those that patterns
// miss nearly. Descriptions that are as known has them are the same.
func (c Config) list(ctx context.Context, conn *pgx.Conn, w Watch, known map[uint32]*description) ([]listed, map[uint32]*description, []NearMiss, error) {
	query, args := namesQuery, []any{pgx.QueryExecModeExec}
	exact := make(map[cdc.Table]bool, len(w.Tables))
	for _, t := range slices.Concat(w.Tables, w.heirs()) {
		exact[t] = true
	}
	if w.Matches == nil && len(exact) <= manyNames {
		schemas, names := split(slices.Collect(maps.Keys(exact)))
		query, args = exactQuery, append(args, schemas, names)
	}
	watched := func(t cdc.Table) bool { return exact[t] || w.Matches != nil && w.Matches(t) }
	rows, err := conn.Query(ctx, query, args...)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list the tables: %w", err)
	}
	var oids []uint32
	var near []NearMiss
	var oid uint32
	var unlogged bool
	var t cdc.Table
	var others []listed
	_, err = pgx.ForEachRow(rows, []any{&oid, &t.Schema, &t.Name, &unlogged}, func() error {
		switch {
		case unlogged && exact[t]: // it counts as missing
		case unlogged && watched(t):
			others = append(others, listed{Table: t, published: published{Relation: oid}, Unlogged: true})
		case watched(t):
			oids = append(oids, oid)
		case w.Nearly != nil:
			if pattern := w.Nearly(t); pattern != "" {
				near = append(near, NearMiss{t, pattern})
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, nil, fmt.Errorf("list the tables: %w", err)
	}
	tables, described, err := c.describe(ctx, conn, oids, known)
	// What was renamed in between is not watched any more.
	tables = slices.DeleteFunc(tables, func(l listed) bool { return !watched(l.Table) })
	return append(tables, others...), described, near, err
}

// split makes parameters of table names.
func split(tables []cdc.Table) (schemas, names []string) {
	schemas, names = make([]string, len(tables)), make([]string, len(tables))
	for i, t := range tables {
		schemas[i], names[i] = t.Schema, t.Name
	}
	return schemas, names
}

// NearMisses lists the tables that patterns of a Watch match only nearly.
func (c Config) NearMisses(ctx context.Context, conn *pgx.Conn, w Watch) ([]NearMiss, error) {
	if w.Nearly == nil {
		return nil, nil
	}
	_, _, near, err := c.list(ctx, conn, w, nil)
	return near, err
}

// Resolve returns the tables that a Watch means and that are published, or can be
// by Ensure: those named exactly, and those that a pattern matches. What a
// pattern matches and only an operator can publish is left out, and left says
// why: one tenant's table must not keep all others from being purged.
func (c Config) Resolve(ctx context.Context, conn *pgx.Conn, w Watch) (tables []cdc.Table, left []error, err error) {
	return c.resolve(ctx, conn, w, c.unpublishable)
}

// ResolveAll is Resolve for an operator who may publish every table: left out is
// only what must not be published.
func (c Config) ResolveAll(ctx context.Context, conn *pgx.Conn, w Watch) (tables []cdc.Table, left []error, err error) {
	c.Manage = true
	return c.resolve(ctx, conn, w, func(l *listed) error {
		l.Owned = true
		return c.unpublishable(l)
	})
}

func (c Config) resolve(ctx context.Context, conn *pgx.Conn, w Watch, unpublishable func(*listed) error) (tables []cdc.Table, left []error, err error) {
	if w, err = withKin(ctx, conn, w); err != nil {
		return nil, nil, err
	}
	tables = append(tables, w.Tables...)
	if w.Matches == nil && len(w.heirs()) == 0 {
		return tables, nil, nil
	}
	all, _, _, err := c.list(ctx, conn, w, nil)
	if err != nil {
		return nil, nil, err
	}
	exact := make(map[cdc.Table]bool, len(tables))
	for _, t := range tables {
		exact[t] = true
	}
	for i := range all {
		if exact[all[i].Table] {
			continue
		}
		if fault := unpublishable(&all[i]); fault != nil {
			left = append(left, fault)
			continue
		}
		tables = append(tables, all[i].Table)
	}
	return tables, left, nil
}

// unpublishable says why the daemon cannot publish a table, nil where it is
// published or can be.
func (c Config) unpublishable(l *listed) error {
	add := Step{SQL: fmt.Sprintf("ALTER PUBLICATION %s ADD TABLE %s", quote(c.Publication), only(l.Inherited)+quote(l.Schema, l.Name))}
	add.announce(c.Publication, []cdc.Table{l.Table})
	switch {
	case l.Unlogged:
		return unlogged(l.Table, "u")
	case l.Member:
		return nil
	case l.Lacking != "":
		return (&TableInfo{Table: l.Table, Lacking: l.Lacking, publication: c.Publication}).IdentityFault()
	case !c.Manage:
		return &Fault{fmt.Errorf("table %s is not published, and postgres.manage is false: its changes are not seen", l.Table), add.Script()}
	case !l.Owned:
		return &Fault{fmt.Errorf("table %s is not published, and belongs to another role than ours: its changes are not seen", l.Table), "let its owner run: " + add.Script()}
	}
	return nil
}
