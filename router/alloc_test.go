package router

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

// A change that a rule matches costs its value, and what batches take by and by;
// one that none matches, or whose value the batch has already, costs nothing.
func TestChangesAllocateLittle(t *testing.T) {
	const rows = 1000
	rule := "\nrules: [{name: product, table: public.products, keys: [\"product:{id}\"]%s}]\n"
	for _, c := range []struct {
		name, more string
		rel        *cdc.Relation
		distinct   bool
		most       float64
	}{
		{"matching", "", products, true, 2},
		{"repeated", "", products, false, 0.1},
		{"other operation", ", ops: [delete]", products, true, 0},
		{"other table", "", &cdc.Relation{OID: 2, Schema: "public", Name: "others", Columns: products.Columns}, true, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, f := started(t, fmt.Sprintf(rule, c.more))
			tx := end(begin(7, 200))
			change, n := insert(0), 0
			change.Rel = c.rel
			transaction := func() {
				for range rows {
					if c.distinct {
						change.New[0].Data = strconv.AppendInt(change.New[0].Data[:0], int64(n), 10)
					}
					n++
					if err := r.Change(t.Context(), tx, change); err != nil {
						t.Fatal(err)
					}
				}
			}
			transaction()
			perRow := testing.AllocsPerRun(10, transaction) / rows
			require.LessOrEqual(t, perRow, c.most)
			require.Equal(t, c.distinct && c.most > 0, len(f.batches) > 0)
		})
	}
}

// A change of a transaction that has not ended costs nothing but room in its spool.
func TestStreamedChangesAllocateNothing(t *testing.T) {
	r, _ := started(t, productRules)
	tx, change, n := part(5, 5), insert(0), 0
	transaction := func() {
		for range 1000 {
			change.New[0].Data = strconv.AppendInt(change.New[0].Data[:0], int64(n), 10)
			n++
			require.NoError(t, r.Change(t.Context(), tx, change))
		}
	}
	for range 20 {
		transaction()
	}
	require.LessOrEqual(t, testing.AllocsPerRun(10, transaction)/1000, 0.1)
}
