package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
)

// reading is what one database server has done.
type reading struct {
	queries map[string]int64 // statements that read, by role
	cpu     time.Duration
}

// Lose kills a replica, as a crash of its machine would. Its counters are read before.
func (e *Env) Lose(ctx context.Context, replica *harness.Postgres) error {
	last, err := e.read(ctx, replica)
	if err != nil {
		return err
	}
	e.mu.Lock()
	if e.lost == nil {
		e.lost = map[*harness.Postgres]reading{}
	}
	e.lost[replica] = last
	e.mu.Unlock()
	return replica.Kill()
}

// servers reads the primary and all replicas together, those that were lost as they were last.
func (e *Env) servers(ctx context.Context) (sum reading, err error) {
	sum.queries = map[string]int64{}
	for _, server := range append([]*harness.Postgres{e.Postgres}, e.Replicas...) {
		e.mu.Lock()
		one, lost := e.lost[server]
		e.mu.Unlock()
		if !lost {
			if one, err = e.read(ctx, server); err != nil {
				return sum, err
			}
		}
		sum.cpu += one.cpu
		for role, calls := range one.queries {
			sum.queries[role] += calls
		}
	}
	return sum, nil
}

// read reads one server.
func (e *Env) read(ctx context.Context, server *harness.Postgres) (out reading, err error) {
	out.queries = map[string]int64{}
	if out.cpu, err = treeCPU(server.PID()); err != nil {
		return out, err
	}
	conn, err := server.Connect(ctx, e.database)
	if err != nil {
		return out, fmt.Errorf("read the counters of a server: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	rows, err := conn.Query(ctx, `SELECT rolname, sum(calls)::bigint FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
		WHERE query ~* '^\s*(SELECT|WITH)' GROUP BY 1`)
	if err != nil {
		return out, err
	}
	for rows.Next() {
		var role string
		var calls int64
		if err := rows.Scan(&role, &calls); err != nil {
			return out, err
		}
		out.queries[role] = calls
	}
	return out, rows.Err()
}
