package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// failoverQuery reads what a failover slot depends on, as far as the primary knows it.
// Standbys are walsenders that somebody replays from and no logical slot is read by; to
// see them takes pg_monitor. A standby that takes slots over keeps a connection whose name
// ends in "slotsync worker".
const failoverQuery = `
WITH standby AS (SELECT r.pid FROM pg_catalog.pg_stat_replication r WHERE r.replay_lsn IS NOT NULL
       AND NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical'))
SELECT coalesce((SELECT (pg_catalog.to_jsonb(s)->>'failover')::pg_catalog.bool FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1), true), -- a column since PostgreSQL 17
       EXISTS (SELECT FROM standby),
       coalesce((SELECT pg_catalog.string_agg(s.slot_name, ', ' ORDER BY s.slot_name) FROM pg_catalog.pg_replication_slots s JOIN standby ON s.active_pid = standby.pid), ''),
       pg_catalog.current_setting('synchronized_standby_slots'),
       EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE application_name LIKE '%slotsync worker'),
       coalesce((SELECT pg_catalog.string_agg(trim(name), ', ') FROM pg_catalog.unnest(pg_catalog.string_to_array(pg_catalog.current_setting('synchronized_standby_slots'), ',')) name
           WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = trim(name) AND s.slot_type = 'physical' AND s.active)), '')`

// FailoverFaults are the reasons why a failover would be a gap although there is a
// standby to take over, or why nothing is streamed for want of one. Before PostgreSQL
// 17, or where the configuration wants no failover slot, there are none.
func (c Config) FailoverFaults(ctx context.Context, conn *pgx.Conn) ([]error, error) {
	version, err := serverVersion(ctx, conn)
	if err != nil || version < 170000 || !c.Failover {
		return nil, err
	}
	var failover, standby, worker bool
	var slots, listed, absent string
	err = conn.QueryRow(ctx, failoverQuery, c.Slot).Scan(&failover, &standby, &slots, &listed, &worker, &absent)
	if err != nil {
		return nil, fmt.Errorf("read what failover slots depend on: %w", err)
	}
	if !failover {
		if !standby {
			return nil, nil
		}
		return []error{&Fault{fmt.Errorf("slot %q is no failover slot: a standby that takes over lacks it, which is a gap", c.Slot),
			fmt.Sprintf(`stop the daemon, then psql "dbname=%s replication=database" -c "ALTER_REPLICATION_SLOT %s (FAILOVER true)"; or set postgres.failover: false`,
				conn.Config().Database, c.Slot)}}, nil
	}
	var faults []error
	if absent != "" {
		faults = append(faults, &Fault{fmt.Errorf("synchronized_standby_slots names %s, which no standby reads: nothing is streamed until one does", absent),
			"start that standby, or take its slot out of synchronized_standby_slots and SELECT pg_reload_conf();"})
	}
	if !standby {
		return faults, nil
	}
	if strings.TrimSpace(listed) == "" {
		if slots == "" {
			slots = "the slot in primary_slot_name of the standby"
		}
		faults = append(faults, &Fault{errors.New("synchronized_standby_slots is empty: changes are streamed before a standby has them, so a failover may be a gap"),
			fmt.Sprintf("ALTER SYSTEM SET synchronized_standby_slots = '%s'; SELECT pg_reload_conf();", slots)})
	}
	if !worker {
		faults = append(faults, &Fault{fmt.Errorf("no standby takes over slot %q: a failover is a gap", c.Slot),
			"on the standby set sync_replication_slots = on, hot_standby_feedback = on, primary_slot_name, and a dbname in primary_conninfo; or set postgres.failover: false"})
	}
	return faults, nil
}
