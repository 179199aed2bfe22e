package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/failpoint"
)

// tablesPrefix marks the messages in the log that announce a gap of some tables.
// One written in the transaction that publishes a table is durable if and only
// if the table is published, and comes through the slot at just that position:
// the slot cannot be confirmed past it before its purge is in the stream.
const tablesPrefix = "walpurge.tables"

// announcement is the content of such a message. Everybody may write one, so it
// is not believed: what entered the publication is read from the catalog, by the
// transaction's id, and for Tables Nonce must be that of the reader.
type announcement struct {
	Publication string           `json:"publication"`
	Tables      []cdc.Table      `json:"tables,omitempty"`
	Causes      []cdc.TableCause `json:"causes,omitempty"`
	Nonce       string           `json:"nonce,omitempty"`
	// Again marks the second announcement of tables that were published, which has a nonce.
	Again bool `json:"again,omitempty"`
}

// announce has the step write its tables into the log in its own transaction.
func (s *Step) announce(publication string, tables []cdc.Table) {
	s.tables = tables
	s.message = encode(announcement{Publication: publication})
}

// Republish takes the table out of the publication and puts it back, with all columns and
// rows, in one announced transaction: what was left out before is then purged as a gap.
func (c Config) Republish(t *TableInfo) Step {
	return c.republish(only(t.Inherited) + quote(t.Schema, t.Name))
}

func (c Config) republish(table string) Step {
	s := Step{SQL: fmt.Sprintf("ALTER PUBLICATION %s DROP TABLE %s; ALTER PUBLICATION %s ADD TABLE %s", quote(c.Publication), table, quote(c.Publication), table)}
	s.announce(c.Publication, nil)
	return s
}

// encode cannot fail: the type holds text only.
func encode(a announcement) string {
	b, _ := json.Marshal(a)
	return string(b)
}

// Script is the step as SQL that a human can run, without a semicolon at its end.
func (s Step) Script() string {
	if s.message == "" {
		return s.SQL
	}
	return fmt.Sprintf("BEGIN; %s; SELECT pg_logical_emit_message(true, '%s', '%s'); COMMIT",
		s.SQL, tablesPrefix, strings.ReplaceAll(s.message, "'", "''"))
}

// lockTimeout is how long a table that is busy with a VACUUM or a change of its
// shape may keep us from publishing it; whoever wants the table waits behind us.
const lockTimeout = "2s"

// run carries the step out. For one that publishes tables it returns what they
// are in the publication now.
func (s Step) run(ctx context.Context, conn *pgx.Conn, publication string) (map[cdc.Table]published, error) {
	if s.message == "" {
		_, err := conn.Exec(ctx, s.SQL)
		return nil, err
	}
	now := make(map[cdc.Table]published, len(s.tables))
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('lock_timeout', $1, true), pg_catalog.set_config('synchronous_commit', 'local', true)", lockTimeout); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, s.SQL); err != nil {
			return err
		}
		schemas, names := split(s.tables)
		rows, err := tx.Query(ctx, `SELECT n.nspname, c.relname, c.oid, r.oid FROM pg_catalog.pg_publication p
			JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE p.pubname = $1 AND (n.nspname, c.relname) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest($2::pg_catalog.text[]), pg_catalog.unnest($3::pg_catalog.text[])))`, publication, schemas, names)
		if err != nil {
			return err
		}
		var t cdc.Table
		var p published
		if _, err := pgx.ForEachRow(rows, []any{&t.Schema, &t.Name, &p.Relation, &p.Entry}, func() error { now[t] = p; return nil }); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, "SELECT pg_catalog.pg_logical_emit_message(true, $1::pg_catalog.text, $2::pg_catalog.text)", tablesPrefix, s.message)
		return err
	})
	if err == nil {
		failpoint.Crash("die_after_widening")
	}
	return now, err
}
