package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// oldest is the first major version with logical messages in pgoutput, which
// the heartbeat needs.
const oldest = 14

// preflight finds what no statement of ours could mend.
func (c Config) preflight(ctx context.Context, conn *pgx.Conn) error {
	version, err := serverVersion(ctx, conn)
	if err != nil {
		return err
	}
	var errs []error
	if version < oldest*10000 {
		errs = append(errs, &Fault{fmt.Errorf("the server is PostgreSQL %d", version/10000), fmt.Sprintf("upgrade to %d or newer", oldest)})
	}
	var level, user string
	var may bool
	err = conn.QueryRow(ctx, `SELECT pg_catalog.current_setting('wal_level'), current_user,
		rolreplication OR rolsuper OR EXISTS (SELECT FROM pg_catalog.pg_roles r
			WHERE r.rolname IN ('rds_replication', 'rds_superuser', 'azure_pg_admin') AND pg_catalog.pg_has_role(current_user, r.oid, 'member'))
		FROM pg_catalog.pg_roles WHERE rolname = current_user`).Scan(&level, &user, &may)
	if err != nil {
		return fmt.Errorf("read wal_level and role: %w", err)
	}
	if level != "logical" {
		errs = append(errs, &Fault{fmt.Errorf("wal_level is %q", level), "ALTER SYSTEM SET wal_level = 'logical'; then restart PostgreSQL"})
	}
	if !may {
		errs = append(errs, &Fault{fmt.Errorf("role %q has no REPLICATION privilege", user), fmt.Sprintf("ALTER ROLE %s REPLICATION;", quote(user))})
	}
	return errors.Join(errs...)
}

func serverVersion(ctx context.Context, conn *pgx.Conn) (int, error) {
	var s string
	if err := conn.QueryRow(ctx, "SHOW server_version_num").Scan(&s); err != nil {
		return 0, fmt.Errorf("read the server's version: %w", err)
	}
	return strconv.Atoi(s)
}

func (c Config) publicationExists(ctx context.Context, conn *pgx.Conn) (bool, error) {
	options, faults, err := c.publication(ctx, conn)
	if err != nil {
		return false, err
	}
	errs := make([]error, len(faults))
	for i, p := range faults {
		errs[i] = p.err
	}
	return options != "", errors.Join(errs...)
}

// publication reads the publication's own options, as a text that changes with
// them and is empty if there is no publication, and says what is wrong with them.
func (c Config) publication(ctx context.Context, conn *pgx.Conn) (options string, faults []Problem, err error) {
	var viaRoot, allOps bool
	var filtered, schemas, names []string // the tables or partitions with a row filter, and their roots
	err = conn.QueryRow(ctx, `SELECT p.oid || ' ' || p.xmin, p.pubviaroot, p.pubinsert AND p.pubupdate AND p.pubdelete AND p.pubtruncate,
		f.filtered, f.schemas, f.names
		FROM pg_catalog.pg_publication p, LATERAL (SELECT coalesce(pg_catalog.array_agg(pg_catalog.regexp_replace(l.oid::pg_catalog.regclass::pg_catalog.text, '^public\.', '') ORDER BY l.oid), '{}') AS filtered,
			coalesce(pg_catalog.array_agg(n.nspname::pg_catalog.text ORDER BY l.oid), '{}') AS schemas, coalesce(pg_catalog.array_agg(t.relname::pg_catalog.text ORDER BY l.oid), '{}') AS names
			FROM pg_catalog.pg_publication_rel r
			JOIN pg_catalog.pg_class l ON l.oid = r.prrelid JOIN pg_catalog.pg_class t ON t.oid = coalesce(pg_catalog.pg_partition_root(l.oid), l.oid) JOIN pg_catalog.pg_namespace n ON n.oid = t.relnamespace
			WHERE r.prpubid = p.oid AND pg_catalog.to_jsonb(r)->>'prqual' IS NOT NULL) f -- a column since PostgreSQL 15
		WHERE p.pubname = $1`, c.Publication).Scan(&options, &viaRoot, &allOps, &filtered, &schemas, &names)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil, nil
	}
	if err != nil {
		return "", nil, fmt.Errorf("read publication %q: %w", c.Publication, err)
	}
	if !viaRoot {
		faults = append(faults, problemOf(&Fault{fmt.Errorf("publication %q does not publish partitions by their root", c.Publication),
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish_via_partition_root = true);", quote(c.Publication))}))
	}
	if !allOps {
		faults = append(faults, problemOf(&Fault{fmt.Errorf("publication %q does not publish every operation", c.Publication),
			fmt.Sprintf("ALTER PUBLICATION %s SET (publish = 'insert, update, delete, truncate');", quote(c.Publication))}))
	}
	for i := range names {
		faults = append(faults, problemOf(&Fault{fmt.Errorf("publication %q has a row filter on %s, so changes would be missed", c.Publication, filtered[i]),
			c.republish(filtered[i]).Script() + ";"}, cdc.Table{Schema: schemas[i], Name: names[i]}))
	}
	return options, faults, nil
}

// slotsLeft makes sure that the server has room for one more slot.
func slotsLeft(ctx context.Context, conn *pgx.Conn) error {
	var used, limit int
	err := conn.QueryRow(ctx, `SELECT pg_catalog.count(*), pg_catalog.current_setting('max_replication_slots')::int FROM pg_catalog.pg_replication_slots`).Scan(&used, &limit)
	if err != nil {
		return fmt.Errorf("count the replication slots: %w", err)
	}
	if used >= limit {
		return &Fault{fmt.Errorf("all %d replication slots of the server are taken", limit),
			"drop one that no client reads (SELECT slot_name, active FROM pg_replication_slots), or ALTER SYSTEM SET max_replication_slots and restart PostgreSQL"}
	}
	return nil
}

// slotInfo is a row of pg_replication_slots.
type slotInfo struct {
	Plugin    string
	Database  string
	TwoPhase  bool
	Active    bool
	ActivePID int
	Confirmed cdc.LSN
	Status    string
	Retained  int64
	Safe      *int64
	// RestartLag is how far restart_lsn lies behind confirmed_flush_lsn.
	RestartLag int64
}

// slot reads the pipeline's slot, nil if there is none. A slot of the same name
// that is of no use to us is a *Fault.
func (c Config) slot(ctx context.Context, conn *pgx.Conn) (*slotInfo, error) {
	var s slotInfo
	var confirmed string
	err := conn.QueryRow(ctx, `SELECT coalesce(plugin, ''), coalesce(database, ''), coalesce(two_phase, false), active, coalesce(active_pid, 0),
		coalesce(confirmed_flush_lsn::pg_catalog.text, '0/0'), coalesce(wal_status, ''),
		coalesce(pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn), 0)::bigint, safe_wal_size,
		coalesce(greatest(pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn), 0), 0)::bigint
		FROM pg_catalog.pg_replication_slots WHERE slot_name = $1`, c.Slot).
		Scan(&s.Plugin, &s.Database, &s.TwoPhase, &s.Active, &s.ActivePID, &confirmed, &s.Status, &s.Retained, &s.Safe, &s.RestartLag)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read slot %q: %w", c.Slot, err)
	}
	if s.Confirmed, err = cdc.ParseLSN(confirmed); err != nil {
		return nil, err
	}
	if db := conn.Config().Database; s.Plugin != "pgoutput" || s.Database != db {
		return nil, &Fault{fmt.Errorf("slot %q exists with plugin %q in database %q, want pgoutput in %q", c.Slot, s.Plugin, s.Database, db),
			"choose another postgres.slot, or drop it: SELECT pg_drop_replication_slot('" + c.Slot + "');"}
	}
	if s.TwoPhase {
		// The stream would carry a transaction at PREPARE, before it is committed.
		return nil, &Fault{fmt.Errorf("slot %q has two_phase enabled: it sends transactions at PREPARE TRANSACTION, before other sessions see them", c.Slot),
			"choose another postgres.slot, or drop it, so that a new one is created and every sink flushed: SELECT pg_drop_replication_slot('" + c.Slot + "');"}
	}
	return &s, nil
}
