package postgres

import (
	"context"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
)

// mend publishes the tables that are missing, and adds to column lists what they lack: a
// table whose identity changed needs that at once, since its updates fail until then.
func (r *Reader) mend(ctx context.Context, conn *pgx.Conn, watch Watch, found comparison) (entered map[cdc.Table]published, failed []Problem, err error) {
	published := sortedTables(found.known)
	lists, err := r.cfg.columnLists(ctx, conn, slices.Concat(published, found.missing), watch.Reads)
	if err != nil {
		return nil, nil, err
	}
	entered, failed = r.carryOut(ctx, conn, "tables", found.missing, func(tables []cdc.Table) []Step {
		return r.cfg.publish(tables, lists, watch.kin, true, true)
	})
	if !r.cfg.Manage {
		if steps := r.cfg.widen(published, lists, watch.kin); len(steps) > 0 {
			failed = append(failed, problemOf(unmanaged(steps), tablesOf(steps)...))
		}
		return entered, failed, nil
	}
	wider, more := r.carryOut(ctx, conn, "columns", published, func(tables []cdc.Table) []Step {
		return r.cfg.widen(tables, lists, watch.kin)
	})
	maps.Copy(entered, wider)
	return entered, append(failed, more...), nil
}

// carryOut runs the steps for tables, one by one where they cannot be together: one that
// is busy must not keep the others out.
func (r *Reader) carryOut(ctx context.Context, conn *pgx.Conn, what string, tables []cdc.Table, steps func([]cdc.Table) []Step) (entered map[cdc.Table]published, failed []Problem) {
	entered = make(map[cdc.Table]published, len(tables))
	for _, s := range steps(tables) {
		now, err := s.run(ctx, conn, r.cfg.Publication)
		if err != nil && len(s.tables) > 1 {
			for _, t := range s.tables {
				some, errs := r.carryOut(ctx, conn, what, []cdc.Table{t}, steps)
				maps.Copy(entered, some)
				failed = append(failed, errs...)
			}
			continue
		}
		if err != nil {
			failed = append(failed, problemOf(explainStep(s, err), s.tables...))
			continue
		}
		maps.Copy(entered, now)
		r.conditions.At(publishedMore, "what", what).Observe("count", condition.Sum(len(now)), "first", s.tables[0].String())
	}
	return entered, failed
}
