package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// InactiveSlot is a slot that another pipeline left in the database: it was read once, and no process reads it now.
// Either the pipeline is down, or it was renamed or removed, and then the slot holds back the log for ever.
type InactiveSlot struct {
	Name string `json:"name"`
	// Retained is how much of the log the server keeps because of it, in bytes.
	Retained int64 `json:"retained_bytes"`
	// Shares reports that the two pipelines publish a table in common, or that this is not known.
	Shares bool `json:"-"`
}

// InactiveSlots finds slots that have a name as walpurge gives it, or that a publication's comment by `walpurge
// setup` names. One that is where setup made it belongs to a pipeline that has yet to start, and is left out.
func (c Config) InactiveSlots(ctx context.Context, conn *pgx.Conn) ([]InactiveSlot, error) {
	rows, err := conn.Query(ctx, `SELECT s.slot_name::pg_catalog.text, greatest(coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), s.restart_lsn), 0), 0)::bigint,
		p.oid IS NULL OR NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel WHERE prpubid = p.oid)
			OR NOT EXISTS (SELECT FROM pg_catalog.pg_publication_rel r JOIN pg_catalog.pg_publication o ON o.oid = r.prpubid WHERE o.pubname = $2)
			OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel theirs JOIN pg_catalog.pg_publication_rel r ON r.prrelid = theirs.prrelid
				JOIN pg_catalog.pg_publication o ON o.oid = r.prpubid WHERE theirs.prpubid = p.oid AND o.pubname = $2)
		FROM pg_catalog.pg_replication_slots s
		LEFT JOIN LATERAL (SELECT p.oid, d.comment FROM pg_catalog.pg_publication p, LATERAL (SELECT pg_catalog.split_part(coalesce(pg_catalog.obj_description(p.oid, 'pg_publication'), ''), E'\n', 1) AS comment) d
			WHERE p.pubname = s.slot_name OR pg_catalog.starts_with(d.comment, 'walpurge: slot ' || s.slot_name || ' ')
			ORDER BY p.pubname = s.slot_name LIMIT 1) p ON true
		WHERE s.slot_type = 'logical' AND s.plugin = 'pgoutput' AND s.database = pg_catalog.current_database() AND NOT s.active AND NOT s.temporary
		AND s.slot_name <> $1 AND (pg_catalog.starts_with(s.slot_name::pg_catalog.text, 'walpurge_') OR pg_catalog.starts_with(p.comment, 'walpurge: slot '))
		AND coalesce(p.comment, '') IS DISTINCT FROM 'walpurge: slot ' || s.slot_name || ' begins at ' || s.confirmed_flush_lsn
		ORDER BY 1`, c.Slot, c.Publication)
	if err != nil {
		return nil, fmt.Errorf("read the inactive slots: %w", err)
	}
	slots, err := pgx.CollectRows(rows, pgx.RowToStructByPos[InactiveSlot])
	if err != nil {
		return nil, fmt.Errorf("read the inactive slots: %w", err)
	}
	return slots, nil
}

// Fault says what the slot costs and how to end that.
func (s InactiveSlot) Fault() error {
	return &Fault{fmt.Errorf("slot %q of another pipeline of this database is inactive, and the server keeps %d MiB of the log because of it", s.Name, s.Retained>>20),
		fmt.Sprintf("start that pipeline; or, if it was renamed or removed, once all daemons of this one run: SELECT pg_drop_replication_slot('%s');", s.Name)}
}
