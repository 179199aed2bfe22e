package lookup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// Problem is why the database would not answer a lookup.
type Problem struct {
	Text string
	// Offset is the byte of the lookup's SQL that it is about, -1 for none.
	Offset int
	// Forbidden reports that only a privilege is missing.
	Forbidden bool
}

// Error says what is wrong.
func (p *Problem) Error() string { return p.Text }

// Source is a relation that a lookup reads.
type Source struct {
	cdc.Table
	// Changes reports that its changes can be watched: it is a table, and not
	// a materialized view or one that lies elsewhere.
	Changes bool
}

// Inspect has the server look at a lookup, and returns the tables that it reads,
// those behind views included, partitions by their root. It is a *Problem where
// the lookup could not be asked. It runs nothing that returns a row, in a
// transaction that is read-only and rolled back.
func Inspect(ctx context.Context, conn *pgx.Conn, l *rules.Lookup) ([]Source, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, fmt.Errorf("begin a transaction: %w", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // there is nothing to keep
	pg := conn.PgConn()
	if _, err := pg.Exec(ctx, "SET LOCAL statement_timeout = '10s'").ReadAll(); err != nil {
		return nil, fmt.Errorf("set a timeout: %w", err)
	}
	const written, wrapped = "walpurge_written", "walpurge_wrapped"
	if _, err := pg.Prepare(ctx, written, l.SQL, nil); err != nil {
		return nil, problem(l, err)
	}
	// Prepared statements outlive their transaction.
	defer func() { _ = pg.Deallocate(context.WithoutCancel(ctx), written) }()
	d, err := pg.Prepare(ctx, wrapped, fmt.Sprintf("SELECT * FROM (%s\n) AS walpurge_lookup LIMIT 0", l.SQL), nil)
	if err != nil {
		p := problem(l, err)
		if wrong := new(Problem); errors.As(p, &wrong) {
			return nil, &Problem{Text: "it is not one SELECT that changes nothing; " + wrong.Text, Offset: -1}
		}
		return nil, p
	}
	defer func() { _ = pg.Deallocate(context.WithoutCancel(ctx), wrapped) }()
	if err := columns(l, d.Fields); err != nil {
		return nil, err
	}
	// The generic plan keeps what a NULL argument would plan away.
	explain := "EXPLAIN EXECUTE " + written
	if n := len(d.ParamOIDs); n > 0 {
		explain += "(" + strings.TrimSuffix(strings.Repeat("NULL, ", n), ", ") + ")"
	}
	for _, sql := range []string{"SET LOCAL plan_cache_mode = force_generic_plan", explain} {
		if _, err := pg.Exec(ctx, sql).ReadAll(); err != nil {
			return nil, problem(l, err)
		}
	}
	if res := pg.ExecPrepared(ctx, wrapped, make([][]byte, len(d.ParamOIDs)), nil, nil).Read(); res.Err != nil {
		return nil, problem(l, res.Err)
	}
	return sources(ctx, tx)
}

// sources are the relations that the transaction has locked: whatever the server
// has to do with while it reads, rewrites and plans a statement.
func sources(ctx context.Context, tx pgx.Tx) ([]Source, error) {
	// The user's own SQL is done, and what follows must mean the server's functions and operators.
	if _, err := tx.Exec(ctx, "SET LOCAL search_path = pg_catalog"); err != nil {
		return nil, fmt.Errorf("read what the lookup reads: %w", err)
	}
	rows, err := tx.Query(ctx, `SELECT DISTINCT n.nspname, c.relname, c.relkind IN ('r', 'p')
		FROM pg_catalog.pg_locks l JOIN pg_catalog.pg_class r ON r.oid = l.relation
		JOIN pg_catalog.pg_class c ON c.oid = coalesce(pg_catalog.pg_partition_root(r.oid)::pg_catalog.oid, r.oid) JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE l.locktype = 'relation' AND l.pid = pg_catalog.pg_backend_pid() AND r.relkind IN ('r', 'p', 'm', 'f')
		AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
		AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') ORDER BY 1, 2`)
	if err != nil {
		return nil, fmt.Errorf("read what the lookup reads: %w", err)
	}
	out, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Source, err error) {
		err = row.Scan(&s.Schema, &s.Name, &s.Changes)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what the lookup reads: %w", err)
	}
	return out, nil
}

// columns makes sure that the answer has the columns that templates name.
func columns(l *rules.Lookup, fields []pgconn.FieldDescription) error {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.Name
	}
	for _, want := range l.Columns {
		count := 0
		for _, name := range names {
			if name == want {
				count++
			}
		}
		switch {
		case count == 0:
			return &Problem{Text: fmt.Sprintf("values name its column %q, which the answer does not have; it has %s", want, strings.Join(slices.Compact(names), ", ")), Offset: -1}
		case count > 1:
			return &Problem{Text: fmt.Sprintf("the answer has %d columns %q; give each a name of its own, with AS", count, want), Offset: -1}
		}
	}
	return nil
}

// passing reports whether an error may be gone when the statement is tried again:
// a lock that is held, a server that is full or stops (manual, appendix
// "PostgreSQL Error Codes").
func passing(code string) bool {
	return slices.Contains([]string{"08", "40", "53", "55", "57", "58", "XX"}, code[:min(len(code), 2)])
}

// problem makes a server's refusal one of the lookup; other errors stay as they are.
func problem(l *rules.Lookup, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || passing(pg.Code) {
		return plain(err)
	}
	p := &Problem{Text: fmt.Sprintf("PostgreSQL says: %s (SQLSTATE %s)", pg.Message, pg.Code), Offset: -1, Forbidden: pg.Code == codePrivilege}
	if pg.Hint != "" {
		p.Text += "; hint: " + pg.Hint
	}
	// Position counts characters from 1.
	seen := int32(1)
	for i := range l.SQL {
		if seen == pg.Position {
			p.Offset = i
		}
		seen++
	}
	return p
}
