package router

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/router/spool"
)

const noisyRules = `
rules:
  - name: product
    table: public.products
    keys: ["product:{slug}"]
    unknown: {keys: ["products"]}
  - name: list
    table: public.lists
    keys: [lists]
    when: row.slug.indexOf("x") > 0
  - name: message
    message: cache.purge
    sinks: [cache]
`

// TestLogOfAnHour counts the lines of an hour in which the same thing happens every second.
func TestLogOfAnHour(t *testing.T) {
	slug := cdc.Column{Name: "slug", TypeOID: 25}
	insert := func(rel *cdc.Relation, text string) *cdc.Change {
		row := make(cdc.Tuple, len(rel.Columns))
		for i := range row {
			row[i] = cdc.Value{Kind: cdc.Text, Data: []byte(text)}
		}
		return &cdc.Change{Op: cdc.Insert, Rel: rel, New: row}
	}
	full := &cdc.Relation{OID: 1, Schema: "public", Name: "products", Identity: cdc.IdentityFull, Columns: []cdc.Column{idColumn, slug}}
	listed := &cdc.Relation{OID: 2, Schema: "public", Name: "lists", Identity: cdc.IdentityFull, Columns: []cdc.Column{idColumn, slug}}
	long := insert(listed, strings.Repeat("secret", 1<<20))
	for _, c := range []struct {
		name  string
		every func(r *Router, i int) error
		most  int
		has   string
	}{
		{"values above the cap", func(r *Router, _ int) error {
			return r.Change(t.Context(), begin(5, 200), insert(full, strings.Repeat("secret", 2000)))
		}, 7, ""},
		{"messages that cannot be used", func(r *Router, _ int) error {
			return r.Message(t.Context(), begin(5, 200), "cache.purge", []byte(`{"keys": [7, "secret\u0000"]}`))
		}, 6, "a message asks for what cannot be purged"},
		{"expressions that reach a limit", func(r *Router, _ int) error {
			return r.Change(t.Context(), begin(5, 200), long)
		}, 13, "an expression of a rule needs too much work for a row"},
		{"tables that left the publication", func(r *Router, _ int) error {
			return r.TableGap(t.Context(), end(begin(5, 200)), cdc.TableGap{Tables: []cdc.Table{{Schema: "public", Name: "products"}}})
		}, 6, "changes of some tables may have been missed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var buf bytes.Buffer
				f := &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}
				r := New(Config{
					Rules: parse(t, noisyRules), Sinks: []string{"cache", "edge"}, Publisher: f, Ledger: f, Metrics: NewMetrics(prometheus.NewRegistry()),
					Logger: slog.New(slog.NewTextHandler(&buf, nil)), Spool: spool.NewPool(os.TempDir(), 1<<30),
				})
				require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
				for i := range 3599 {
					require.NoError(t, c.every(r, i))
					require.NoError(t, r.Commit(t.Context(), end(begin(5, 200))))
					require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
					time.Sleep(time.Second)
				}
				r.Close()
				require.LessOrEqual(t, strings.Count(buf.String(), "\n"), c.most, buf.String())
				require.Contains(t, buf.String(), c.has)
				require.NotContains(t, buf.String(), "secret")
			})
		})
	}
}
