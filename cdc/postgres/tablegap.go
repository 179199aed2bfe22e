package postgres

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// tableGap returns the tables that an announcement concerns, which came through the slot. It blocks while
// it asks the database; an error ends the session, and the announcement comes again with the next one.
func (r *Reader) tableGap(ctx context.Context, tx *cdc.Txn, a announcement) (gap cdc.TableGap, err error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	err = r.questions.ask(ctx, func(conn *pgx.Conn) error {
		gap, err = r.tableGapOf(ctx, conn, tx, a)
		return err
	})
	return gap, err
}

func (r *Reader) tableGapOf(ctx context.Context, conn *pgx.Conn, tx *cdc.Txn, a announcement) (cdc.TableGap, error) {
	gap := cdc.TableGap{}
	if err := visible(ctx, conn, tx.XID); err != nil {
		return gap, err
	}
	rows, err := conn.Query(ctx, `SELECT n.nspname, c.relname FROM pg_catalog.pg_publication p
		JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid JOIN pg_catalog.pg_class c ON c.oid = r.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
		WHERE p.pubname = $1 AND (r.xmin::pg_catalog.text = $2 OR $3 AND (n.nspname, c.relname) IN (SELECT * FROM ROWS FROM (pg_catalog.unnest($4::pg_catalog.text[]), pg_catalog.unnest($5::pg_catalog.text[]))))`,
		r.cfg.Publication, strconv.FormatUint(uint64(uint32(tx.XID)), 10), r.watching.wrote(a.Nonce), schemasOf(a), namesOf(a))
	if err != nil {
		return gap, fmt.Errorf("read which tables were published: %w", err)
	}
	var t cdc.Table
	if _, err := pgx.ForEachRow(rows, []any{&t.Schema, &t.Name}, func() error {
		gap.Tables = append(gap.Tables, t)
		return nil
	}); err != nil {
		return gap, fmt.Errorf("read which tables were published: %w", err)
	}
	if r.watching.wrote(a.Nonce) {
		gap.Tables, gap.Causes = a.Tables, a.Causes // those that are gone, too
	}
	if len(gap.Tables) == 0 {
		return gap, nil // everyone can write such a message
	}
	// What was published may be a child of a table that rules watch.
	kin, err := r.readKin(ctx, conn)
	if err != nil {
		return gap, err
	}
	gap.Tables = kin.with(gap.Tables...)
	if gap.Open, err = writers(ctx, conn, gap.Tables, tx.XID); err != nil {
		return gap, err
	}
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return gap, err
	}
	if again := a.Again && r.watching.wrote(a.Nonce); !again && len(gap.Tables) > 0 && (r.staysUnpublished(version) || leavesOutAttached(version, gap.Causes)) {
		r.reconnect.published(gap.Tables, gap.Open, false)
		return gap, r.remember(ctx)
	}
	return gap, nil
}

// leavesOutAttached reports that the walsender may go on leaving out the rows of a partition because
// it met them before the partition was attached: PostgreSQL 14 decides that once per session and table
// (rel_sync_cache_relation_cb in src/backend/replication/pgoutput/pgoutput.c).
func leavesOutAttached(version int, causes []cdc.TableCause) bool {
	return version < 150000 && (slices.Contains(causes, cdc.LeafCame) || slices.Contains(causes, cdc.LeafReattached))
}

// visible waits until others see a transaction: a walsender may send its end
// before that, and the catalog would not yet show what it did.
func visible(ctx context.Context, conn *pgx.Conn, xid uint64) error {
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		var is bool
		err := conn.QueryRow(ctx, "SELECT pg_catalog.pg_visible_in_snapshot($1::pg_catalog.text::pg_catalog.xid8, pg_catalog.pg_current_snapshot())", strconv.FormatUint(xid, 10)).Scan(&is)
		if err != nil {
			return fmt.Errorf("wait until transaction %d is visible: %w", xid, err)
		}
		if is {
			return nil
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return fmt.Errorf("wait until transaction %d is visible: %w", xid, context.Cause(ctx))
		}
	}
}

func schemasOf(a announcement) []string { s, _ := split(a.Tables); return s }
func namesOf(a announcement) []string   { _, n := split(a.Tables); return n }

// writers are the transactions that have written to the tables and not ended: a
// writer keeps its lock to its end, and a lock of its own id. What they wrote
// before the tables were published is decoded with the catalog of that moment,
// so it is not sent even if they commit later. The publication need not name the tables: it may be one
// of all tables or of whole schemas.
func writers(ctx context.Context, conn *pgx.Conn, tables []cdc.Table, near uint64) ([]uint64, error) {
	schemas, names := split(tables)
	rows, err := conn.Query(ctx, `WITH watched AS MATERIALIZED (
		SELECT c.oid FROM ROWS FROM (pg_catalog.unnest($1::pg_catalog.name[]), pg_catalog.unnest($2::pg_catalog.name[])) w (schema, name)
		JOIN pg_catalog.pg_namespace n ON n.nspname = w.schema JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = w.name)
		SELECT DISTINCT t.transactionid::pg_catalog.text::bigint FROM pg_catalog.pg_locks t
		WHERE t.locktype = 'transactionid' AND t.mode = 'ExclusiveLock' AND t.granted AND t.virtualtransaction IN (
			SELECT l.virtualtransaction FROM pg_catalog.pg_locks l
			WHERE l.locktype = 'relation' AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock', 'ShareUpdateExclusiveLock')
			AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
			AND l.relation IN (SELECT w.oid FROM watched w UNION ALL SELECT p.relid FROM watched w, pg_catalog.pg_partition_tree(w.oid) p))`, schemas, names)
	if err != nil {
		return nil, fmt.Errorf("read who writes to the tables: %w", err)
	}
	var out []uint64
	var xid int64
	_, err = pgx.ForEachRow(rows, []any{&xid}, func() error {
		w := widener{newest: near}
		out = append(out, w.widen(uint32(xid)))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read who writes to the tables: %w", err)
	}
	return out, nil
}
