package replica

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// Read asks a standby itself how far it has replayed.
func Read(ctx context.Context, conn *pgx.Conn) (cdc.Position, error) {
	var p cdc.Position
	var recovering bool
	var lsn string
	err := conn.QueryRow(ctx, `SELECT pg_catalog.pg_is_in_recovery(), coalesce(pg_catalog.pg_last_wal_replay_lsn(), '0/0')::pg_catalog.text,
		(SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()), (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())`).
		Scan(&recovering, &lsn, &p.SystemID, &p.Timeline)
	if err != nil {
		return p, err
	}
	if !recovering {
		return p, errors.New("the server is no replica: it is not in recovery; it was promoted, or postgres.replicas names the primary")
	}
	p.LSN, err = cdc.ParseLSN(lsn)
	return p, err
}

// Auto asks the primary how far its standbys have replayed, which each tells it at
// least every wal_receiver_status_interval (PostgreSQL's manual: 10 s by default), and
// takes the least. A standby that is not connected any more is an error for as long
// as patience says; from then on it is forgotten. The function is for one goroutine.
func Auto(patience time.Duration) func(ctx context.Context, conn *pgx.Conn) (cdc.Position, error) {
	seen := make(map[string]time.Time)
	return func(ctx context.Context, conn *pgx.Conn) (cdc.Position, error) {
		p, standbys, err := readStandbys(ctx, conn)
		if err != nil {
			return p, err
		}
		now := time.Now()
		for _, s := range standbys {
			seen[s.Name] = now
			p.LSN = min(p.LSN, s.lsn)
		}
		for name, at := range seen {
			if now.Sub(at) > patience {
				delete(seen, name)
			} else if at != now {
				return p, fmt.Errorf("standby %s is not connected to the primary any more", name)
			}
		}
		return p, nil
	}
}

type standby struct {
	Name   string
	Replay string
	lsn    cdc.LSN
}

// A walsender of a logical slot is no standby, nor is one that never tells how far it
// has replayed: pg_receivewal, a base backup.
const standbyQuery = `SELECT application_name || '@' || coalesce(pg_catalog.host(r.client_addr), 'socket'), replay_lsn::pg_catalog.text
	FROM pg_catalog.pg_stat_replication r LEFT JOIN pg_catalog.pg_replication_slots s ON s.active_pid = r.pid
	WHERE s.slot_type IS DISTINCT FROM 'logical' AND r.replay_lsn IS NOT NULL`

// readStandbys returns the end of the primary's log, and the standbys connected to it.
func readStandbys(ctx context.Context, conn *pgx.Conn) (p cdc.Position, standbys []standby, err error) {
	var recovering, may bool
	var user, lsn string
	// The end is read first: a standby has replayed no more than that.
	err = conn.QueryRow(ctx, `SELECT pg_catalog.pg_is_in_recovery(), current_user, pg_catalog.pg_has_role('pg_read_all_stats', 'USAGE'),
		CASE WHEN pg_catalog.pg_is_in_recovery() THEN '0/0' ELSE pg_catalog.pg_current_wal_insert_lsn()::pg_catalog.text END,
		(SELECT system_identifier::pg_catalog.text FROM pg_catalog.pg_control_system()), (SELECT timeline_id FROM pg_catalog.pg_control_checkpoint())`).
		Scan(&recovering, &user, &may, &lsn, &p.SystemID, &p.Timeline)
	switch {
	case err != nil:
		return p, nil, err
	case recovering:
		return p, nil, errors.New("the server is in recovery: replicas: auto asks the primary")
	case !may:
		return p, nil, fmt.Errorf("role %q may not see how far standbys are, which replicas: auto needs; fix: GRANT pg_monitor TO %s;", user, pgx.Identifier{user}.Sanitize())
	}
	if p.LSN, err = cdc.ParseLSN(lsn); err != nil {
		return p, nil, err
	}
	rows, err := conn.Query(ctx, standbyQuery)
	if err != nil {
		return p, nil, err
	}
	standbys, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s standby, err error) {
		if err := row.Scan(&s.Name, &s.Replay); err != nil {
			return s, err
		}
		s.lsn, err = cdc.ParseLSN(s.Replay)
		return s, err
	})
	return p, standbys, err
}
