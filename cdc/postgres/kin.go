package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/walpurge/walpurge/cdc"
)

// kin is which tables inherit from which. A row of a child is a row of its parent, and of the
// parent's parent, for everybody who queries these: so the rules of all of them apply to it. The log
// has it as a row of the child only, and PostgreSQL publishes each table for itself. The children
// of watched tables are therefore published, each by its name, and their rows handed over once more
// as rows of each ancestor.
//
// Partitions are not meant: PostgreSQL itself sends their rows as those of the root.
type kin struct {
	// ancestors has what a table inherits from, directly or not, by the table's OID.
	ancestors map[uint32][]ancestor
	// names is the same by names, inherited has the tables from which others inherit.
	names     map[cdc.Table][]cdc.Table
	inherited map[cdc.Table]bool
}

type ancestor struct {
	oid uint32
	cdc.Table
}

// kinQuery has each table that inherits, with each of its ancestors. Temporary ones belong to a
// session, and are in no publication.
const kinQuery = `
WITH RECURSIVE heir AS (
  SELECT c.oid AS ancestor, i.inhrelid AS child
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_inherits i ON i.inhparent = c.oid WHERE c.relkind = 'r' AND c.relhassubclass
  UNION SELECT h.ancestor, i.inhrelid FROM heir h JOIN pg_catalog.pg_inherits i ON i.inhparent = h.child)
SELECT c.oid, cn.nspname, c.relname, a.oid, an.nspname, a.relname
FROM heir h JOIN pg_catalog.pg_class c ON c.oid = h.child JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace
JOIN pg_catalog.pg_class a ON a.oid = h.ancestor JOIN pg_catalog.pg_namespace an ON an.oid = a.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence = 'p' ORDER BY cn.nspname, c.relname, an.nspname, a.relname`

func readKin(ctx context.Context, conn *pgx.Conn) (*kin, error) {
	k := &kin{ancestors: make(map[uint32][]ancestor), names: make(map[cdc.Table][]cdc.Table), inherited: make(map[cdc.Table]bool)}
	rows, err := conn.Query(ctx, kinQuery)
	if err != nil {
		return nil, fmt.Errorf("read which tables inherit: %w", err)
	}
	var oid uint32
	var child cdc.Table
	var a ancestor
	_, err = pgx.ForEachRow(rows, []any{&oid, &child.Schema, &child.Name, &a.oid, &a.Schema, &a.Name}, func() error {
		k.ancestors[oid] = append(k.ancestors[oid], a)
		k.names[child] = append(k.names[child], a.Table)
		k.inherited[a.Table] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which tables inherit: %w", err)
	}
	return k, nil
}

// with adds to the tables everything that they inherit from.
func (k *kin) with(tables ...cdc.Table) []cdc.Table {
	out := slices.Clone(tables)
	if k == nil {
		return out
	}
	for _, t := range tables {
		for _, a := range k.names[t] {
			if !slices.Contains(out, a) {
				out = append(out, a)
			}
		}
	}
	return out
}

// withKin returns a Watch that has the children of watched tables, too: like tables of a pattern
// they are published as far as they can be, with what rules of their ancestors read. It reads which
// these are unless the Watch has them.
func withKin(ctx context.Context, conn *pgx.Conn, w Watch) (Watch, error) {
	if w.kin != nil {
		return w, nil
	}
	k, err := readKin(ctx, conn)
	if err != nil {
		return w, err
	}
	return w.with(k), nil
}

// with returns the Watch with those children.
func (w Watch) with(k *kin) Watch {
	w.kin = k
	if reads := w.Reads; reads != nil {
		w.Reads = func(t cdc.Table, columns []string) []string {
			var out []string
			for _, of := range k.with(t) {
				out = union(out, reads(of, columns))
			}
			return out
		}
	}
	if sees := w.Sees; sees != nil {
		w.Sees = func(t cdc.Table, column string) bool {
			return slices.ContainsFunc(k.with(t), func(of cdc.Table) bool { return sees(of, column) })
		}
	}
	return w
}

// readKin reads which tables inherit from which, and has rows of children handed over accordingly. What
// is as it was is returned as it was, since the session keeps descriptions for it and rules are bound to these.
func (r *Reader) readKin(ctx context.Context, conn *pgx.Conn) (*kin, error) {
	k, err := readKin(ctx, conn)
	if err != nil {
		return nil, err
	}
	if before := r.kin.Load(); before != nil && maps.EqualFunc(before.ancestors, k.ancestors, slices.Equal) && maps.EqualFunc(before.names, k.names, slices.Equal) {
		return before, nil
	}
	r.kin.Store(k)
	return k, nil
}

// heirs lists the children of watched tables that are not watched themselves.
func (w Watch) heirs() []cdc.Table {
	var out []cdc.Table
	if w.kin != nil {
		for t, ancestors := range w.kin.names {
			if !w.named(t) && slices.ContainsFunc(ancestors, w.named) {
				out = append(out, t)
			}
		}
	}
	slices.SortFunc(out, compareTables)
	return out
}

// concerned are a table and the watched tables that it inherits from.
func (w Watch) concerned(t cdc.Table) []cdc.Table {
	return slices.DeleteFunc(w.kin.with(t), func(of cdc.Table) bool { return of != t && !w.named(of) })
}

// aliases are the descriptions under which rows of tables that inherit are handed over. One
// goroutine uses it.
type aliases struct {
	// now returns what is known; nil before the first time.
	now func() *kin
	of  *kin
	all map[*cdc.Relation][]*cdc.Relation
}

// get returns a description for each ancestor of a table.
func (a *aliases) get(rel *cdc.Relation) []*cdc.Relation {
	k := a.now()
	if k == nil || len(k.ancestors) == 0 {
		return nil
	}
	if a.of != k {
		a.of, a.all = k, make(map[*cdc.Relation][]*cdc.Relation)
	}
	ancestors := k.ancestors[rel.OID]
	if len(ancestors) == 0 {
		return nil
	}
	out, known := a.all[rel]
	if !known {
		for _, of := range ancestors {
			as := *rel
			as.Ancestor, as.Schema, as.Name = of.oid, of.Schema, of.Name
			out = append(out, &as)
		}
		a.all[rel] = out
	}
	return out
}
