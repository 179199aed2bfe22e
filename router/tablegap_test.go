package router

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const tenantRules = `
rules:
  - name: order
    table: "tenant_{tenant}.orders"
    keys: ["{tenant}:order:{id}"]
    tags: ["{tenant}-orders"]
`

func orders(tenant string, columns ...cdc.Column) *cdc.Relation {
	return &cdc.Relation{OID: 7, Schema: "tenant_" + tenant, Name: "orders", Identity: cdc.IdentityDefault, Columns: columns}
}

var idColumn = cdc.Column{Name: "id", TypeOID: 20, Key: true}

func tables(rels ...*cdc.Relation) (out []cdc.Table) {
	for _, r := range rels {
		out = append(out, tableOf(r))
	}
	return out
}

// purged lists what the batches purge, sink by sink.
func purged(f *fake) (out []string) {
	for _, b := range f.batches {
		if b.Flush {
			out = append(out, b.Sink+" everything")
		}
		for _, inv := range b.Invalidations(nil) {
			out = append(out, fmt.Sprintf("%s %s %s", b.Sink, inv.Kind, inv.Value))
		}
	}
	return out
}

func TestTableGap(t *testing.T) {
	r, f := started(t, tenantRules)
	tx := begin(50, 200)
	require.NoError(t, r.TableGap(t.Context(), tx, cdc.TableGap{Tables: tables(orders("a"), products), Open: []uint64{48, 49}}))
	// The fake cache takes no patterns, so all of it must go.
	require.Equal(t, []string{"cache everything", "edge tag a-orders"}, purged(f))
	for _, b := range f.batches {
		require.Equal(t, invalidation.FromGap, b.Origin)
		require.Equal(t, "table", b.Reason)
		require.Equal(t, cdc.Stamp{Position: at(200), XIDs: []uint64{50, 48, 49}, FirstCommit: tx.Time, LastCommit: tx.Time}, b.Stamp)
	}
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/D0"}, f.calls, "the announcement is not claimed before what it asks for")

	f.reset()
	require.NoError(t, r.TableGap(t.Context(), begin(51, 300), cdc.TableGap{Tables: tables(products)}))
	require.Empty(t, f.calls, "no rule watches it")

	f.fail = map[string]error{"publish": errFake}
	require.ErrorIs(t, r.TableGap(t.Context(), begin(52, 400), cdc.TableGap{Tables: tables(orders("b"))}), errFake)
}

// A reload publishes tables before its rules begin. The rules that wait are
// asked, too, and what changes until they begin is purged when they do.
func TestTableGapDuringAReload(t *testing.T) {
	r, f := started(t, productRules)
	began, done := make(chan struct{}), make(chan error, 1)
	go func() {
		done <- r.Reload(t.Context(), parse(t, tenantRules), func(context.Context) error { <-began; return nil })
	}()
	for held := false; !held; {
		r.mu.Lock()
		held = r.pending != nil
		r.mu.Unlock()
		runtime.Gosched()
	}
	tx := begin(50, 200)
	require.NoError(t, r.TableGap(t.Context(), tx, cdc.TableGap{Tables: tables(orders("a")), Open: []uint64{49}}))
	require.Equal(t, []string{"cache everything", "edge tag a-orders"}, purged(f))
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	f.reset()
	require.Same(t, r.cfg.Rules, r.set, "rules wait until their tables are published")
	close(began)
	for served := false; !served; {
		require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
		select {
		case err := <-done:
			require.NoError(t, err)
			served = true
		default:
			runtime.Gosched()
		}
	}
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"cache everything", "edge tag a-orders"}, purged(f), "and once more, now that they are in service")
	require.Equal(t, []uint64{50, 49}, f.batches[0].Stamp.XIDs)
	f.reset()
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Empty(t, f.batches, "once")
}

func TestReloadWhoseTablesCannotBePublished(t *testing.T) {
	r, _ := started(t, productRules)
	require.ErrorIs(t, r.Reload(t.Context(), parse(t, tenantRules), func(context.Context) error {
		require.NoError(t, r.Commit(t.Context(), end(begin(5, 200))))
		return errFake
	}), errFake)
	require.NoError(t, r.Commit(t.Context(), end(begin(6, 300))))
	require.Same(t, r.cfg.Rules, r.set, "all or nothing")
}

// The label of a table is what the file says, never a tenant's name.
func TestPatternsCountUnderTheirText(t *testing.T) {
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}
	r, reg := newRouter(t, f, tenantRules)
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	for _, tenant := range []string{"a", "b"} {
		rel := orders(tenant, idColumn)
		require.NoError(t, r.Change(t.Context(), begin(5, 200), &cdc.Change{Op: cdc.Insert, Rel: rel, New: cdc.Tuple{{Kind: cdc.Text, Data: []byte("7")}}}))
	}
	n, series := metric(t, reg, "walpurge_changes_total", "insert", "tenant_{tenant}.orders")
	require.InDelta(t, 2, n, 0)
	require.Equal(t, 4, series)
	require.Len(t, r.plans, 1, "a new version of a table takes the place of the old one")
}

// A tenant costs memory only once one of its rows changes, and how much is this.
func BenchmarkManyTables(b *testing.B) {
	f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}
	columns := []cdc.Column{idColumn}
	for i := range 19 {
		columns = append(columns, cdc.Column{Name: fmt.Sprintf("column_%d", i), TypeOID: 25})
	}
	row := make(cdc.Tuple, len(columns))
	for i := range row {
		row[i] = cdc.Value{Kind: cdc.Text, Data: []byte("7")}
	}
	var before, after runtime.MemStats
	for b.Loop() {
		r, _ := newRouter(b, f, tenantRules)
		if err := r.Start(b.Context(), cdc.Session{Start: at(100), End: 1000}); err != nil {
			b.Fatal(err)
		}
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range 2000 {
			rel := orders(fmt.Sprint(i), columns...)
			rel.OID = uint32(i)
			if err := r.Change(b.Context(), begin(5, 200), &cdc.Change{Op: cdc.Insert, Rel: rel, New: row}); err != nil {
				b.Fatal(errors.Join(err))
			}
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/2000, "B/table")
		runtime.KeepAlive(r)
	}
}
