package postgres

import (
	"context"
	"fmt"
	"maps"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/shape"
)

// describe takes over the newest descriptions. The caller holds the lock.
func (w *watching) describe(now map[uint32]*description) {
	for oid := range w.early {
		if now[oid] != nil {
			delete(w.early, oid)
		} else if d := w.described[oid]; d != nil {
			now[oid] = d
		}
	}
	if !maps.Equal(w.described, now) {
		w.described, w.packed = now, nil
	}
}

// hasForeign reports that a partition of the table is a foreign table, as of the newest description.
func (w *watching) hasForeign(oid uint32) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	d := w.described[oid]
	return d != nil && d.foreign
}

// describeFirst describes the tables that were never described, and saves that. It is called before the
// slot is created and before new rules are in service: from then on all that changes is found.
func (r *Reader) describeFirst(ctx context.Context, conn *pgx.Conn, watch Watch) error {
	if err := r.recall(ctx, conn); err != nil {
		return err
	}
	r.watching.mu.Lock()
	known := r.watching.described
	r.watching.mu.Unlock()
	_, described, _, err := r.cfg.list(ctx, conn, watch, known)
	if err != nil {
		return err
	}
	var fresh []uint32
	for oid := range described {
		if known[oid] == nil {
			fresh = append(fresh, oid)
		}
	}
	if len(fresh) == 0 {
		return nil
	}
	r.watching.mu.Lock()
	if r.watching.early == nil {
		r.watching.early = make(map[uint32]bool)
	}
	for _, oid := range fresh {
		r.watching.early[oid] = true
	}
	maps.Copy(described, known)
	r.watching.described, r.watching.packed = described, nil
	r.watching.mu.Unlock()
	return r.remember(ctx)
}

// differences compares the tables with how they were described before.
func (r *Reader) differences(ctx context.Context, conn *pgx.Conn, watch Watch, tables []listed, now map[uint32]*description) (map[uint32][]shape.Difference, error) {
	r.watching.mu.Lock()
	before := r.watching.described
	r.watching.mu.Unlock()
	var altered []*listed
	var arrived []uint32
	for i := range tables {
		t := &tables[i]
		if b, n := before[t.Relation], now[t.Relation]; b != nil && n != nil && b != n {
			altered = append(altered, t)
			arrived = append(arrived, shape.Arrived(&b.Table, &n.Table)...)
		}
	}
	facts, err := factsOf(ctx, conn, arrived)
	if err != nil {
		return nil, err
	}
	out := make(map[uint32][]shape.Difference, len(altered))
	for _, t := range altered {
		facts.Sees, facts.Unnamed = nil, t.Unnamed
		if watch.Sees != nil {
			facts.Sees = func(column string) bool { return watch.Sees(t.Table, column) }
		}
		out[t.Relation] = shape.Compare(&before[t.Relation].Table, &now[t.Relation].Table, facts)
	}
	return out, nil
}

// passed returns the partitions that the stream brought rows of and that no description had, and
// adds to the differences those that are gone again.
func (w *watching) passed(now map[uint32]*description, different map[uint32][]shape.Difference) (leaves []uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for leaf, root := range w.passing {
		leaves = append(leaves, leaf)
		before, after := w.described[root], now[root]
		if after != nil && !after.Has(leaf) && (before == nil || !before.Has(leaf)) {
			different[root] = append(different[root], shape.Difference{Cause: cdc.LeafGone, Node: leaf})
		}
	}
	return leaves
}

// factsQuery tells which nodes were created as partitions, or as children, of their parents. ATTACH
// and INHERIT write new rows for the columns of the node, even in the transaction that created it,
// but none for its system columns. cmin and cmax share one field of a row, so cmin is read only where
// no later transaction, not even one that was rolled back, has updated the row: xmax is 0 there.
const factsQuery = `
SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1) AND EXISTS (
  SELECT FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_attribute s ON s.attrelid = a.attrelid AND s.attnum = -1
  WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attinhcount > 0 AND NOT a.attisdropped
  AND a.xmin = s.xmin AND a.cmin::pg_catalog.text = s.cmin::pg_catalog.text
  AND a.xmax::pg_catalog.text = '0' AND s.xmax::pg_catalog.text = '0')`

// factsOf reads what a comparison needs to know of new nodes. The size of a partition is asked only
// where rows may have been loaded before it was attached. The server locks it for that, in
// ACCESS SHARE mode; one that is locked for long counts as not empty.
func factsOf(ctx context.Context, conn *pgx.Conn, arrived []uint32) (shape.Facts, error) {
	facts := shape.Facts{Born: make(map[uint32]bool), Empty: make(map[uint32]bool)}
	if len(arrived) == 0 {
		return facts, nil
	}
	if err := collect(ctx, conn, facts.Born, factsQuery, arrived); err != nil {
		return facts, fmt.Errorf("read how partitions were created: %w", err)
	}
	if len(facts.Born) == len(arrived) {
		return facts, nil
	}
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('lock_timeout', '100ms', true)"); err != nil {
			return err
		}
		return collect(ctx, tx, facts.Empty, "SELECT c.oid FROM pg_catalog.pg_class c WHERE c.oid = ANY ($1) AND c.relkind = 'r' AND pg_catalog.pg_relation_size(c.oid) = 0", arrived)
	})
	if err != nil && sqlState(err) != codeLockNotAvailable {
		return facts, fmt.Errorf("read the sizes of partitions: %w", err)
	}
	return facts, nil
}

// collect adds the OIDs that a query returns.
func collect(ctx context.Context, q interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}, into map[uint32]bool, sql string, args ...any) error {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return err
	}
	var oid uint32
	_, err = pgx.ForEachRow(rows, []any{&oid}, func() error {
		into[oid] = true
		return nil
	})
	return err
}

// unloggedNodes finds tables with partitions or children whose changes are not in the log.
func unloggedNodes(tables []listed, described map[uint32]*description) []Problem {
	var out []Problem
	for i := range tables {
		d := described[tables[i].Relation]
		if d == nil || d.unlogged == "" {
			continue
		}
		out = append(out, problemOf(&Fault{fmt.Errorf("%s, which belongs to table %s, is unlogged: its changes are not in the log, and nothing is purged for them", d.unlogged, tables[i].Table),
			"ALTER TABLE " + d.unlogged + " SET LOGGED"}, tables[i].Table))
	}
	return out
}
