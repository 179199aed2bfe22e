package router

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

const lookupRules = `
rules:
  - name: menu
    table: public.products
    lookup: {m: {sql: "SELECT store_id FROM s WHERE menu_id = $1", args: ["{id}"], limit: 900}}
    keys: ["menu:{m.store_id}"]
    tags: ["menu-{m.store_id}"]
    unknown: {keys: [menus], tags: [menus]}
  - name: other
    table: public.products
    lookup: {x: {sql: "SELECT store_id FROM s WHERE menu_id = $1", args: ["{id}"], limit: 900}}
    keys: ["other:{x.store_id}"]
    unknown: {keys: [others]}
  - name: hand
    message: cache.purge
    unknown: {keys: [all]}
`

// oracle answers from a table, and writes into the publisher's calls.
type oracle struct {
	*fake
	rows   map[string][]string // by argument; one that is missing fails
	stamps []cdc.Stamp
	asked  [][]string
}

func (o *oracle) Resolve(_ context.Context, stamp cdc.Stamp, queries []rules.Query) []rules.Answer {
	o.calls = append(o.calls, "resolve")
	o.stamps = append(o.stamps, stamp)
	out := make([]rules.Answer, len(queries))
	var asked []string
	for i, q := range queries {
		asked = append(asked, q.Args...)
		rows, known := o.rows[q.Args[0]]
		if !known {
			out[i].Err = errors.New("down")
			continue
		}
		out[i].Shape = &cdc.Relation{Columns: []cdc.Column{{Name: "store_id", TypeOID: 20}}}
		for _, r := range rows {
			out[i].Rows = append(out[i].Rows, cdc.Tuple{{Kind: cdc.Text, Data: []byte(r)}})
		}
	}
	o.asked = append(o.asked, asked)
	return out
}

func asking(t testing.TB, rows map[string][]string) (*Router, *oracle, *prometheus.Registry) {
	t.Helper()
	o := &oracle{fake: &fake{found: true, last: cdc.Claim{Epoch: 1, Position: at(100)}, seq: 7}, rows: rows}
	reg := prometheus.NewRegistry()
	r := New(Config{
		Rules: parse(t, lookupRules), Sinks: []string{"cache", "edge"}, Publisher: o, Ledger: o, Lookups: o,
		Metrics: NewMetrics(reg), Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	o.reset()
	return r, o, reg
}

func values(b *invalidation.Batch, k invalidation.Kind) map[string][]string {
	out := map[string][]string{}
	for _, item := range b.Items {
		if len(item.Values[k]) > 0 {
			out[item.Rule] = item.Values[k]
		}
	}
	return out
}

// TestLookupsComeBeforeTheClaim: nothing is asked until the reader rests; then once
// for each question, and the answers are published before the claim.
func TestLookupsComeBeforeTheClaim(t *testing.T) {
	r, o, reg := asking(t, map[string][]string{"1": {"7", "8"}, "2": {"8"}})
	transaction(t, r, begin(5, 200), 1, 2, 1)
	transaction(t, r, begin(6, 300), 1)
	require.Empty(t, o.calls)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"resolve", "publish cache", "publish edge", "claim 0/134"}, o.calls)
	require.Equal(t, [][]string{{"1", "2"}}, o.asked, "both rules ask the same")
	require.Equal(t, []uint64{5, 6}, o.stamps[0].XIDs)
	require.Equal(t, at(308), o.stamps[0].Position)
	require.Equal(t, map[string][]string{"menu": {"menu:7", "menu:8"}, "other": {"other:7", "other:8"}}, values(o.batches[0], invalidation.Key))
	require.Equal(t, map[string][]string{"menu": {"menu-7", "menu-8"}}, values(o.batches[1], invalidation.Tag))
	for _, b := range o.batches {
		require.Equal(t, o.stamps[0], b.Stamp, "the values are those of every transaction that asked")
	}
	matches, _ := metric(t, reg, "walpurge_rule_matches_total", "menu")
	require.Equal(t, 4.0, matches)

	// Nothing is remembered: the same question is asked again.
	o.reset()
	transaction(t, r, begin(7, 400), 1)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"resolve", "publish cache", "publish edge", "claim 0/198"}, o.calls)
	require.Equal(t, []uint64{7}, o.batches[0].Stamp.XIDs)
}

func TestFailedLookupsAreUnknown(t *testing.T) {
	r, o, reg := asking(t, map[string][]string{"2": {}, "3": {"9"}})
	transaction(t, r, begin(5, 200), 1, 2, 3)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, map[string][]string{"menu": {"menus", "menu:9"}, "other": {"others", "other:9"}}, values(o.batches[0], invalidation.Key))
	require.Equal(t, map[string][]string{"menu": {"menus", "menu-9"}}, values(o.batches[1], invalidation.Tag))
	unknown, _ := metric(t, reg, "walpurge_rule_unknown_total", "menu")
	require.Equal(t, 2.0, unknown, "an error, and no row")
}

// TestManyLookups: what waits is bounded, also within one transaction, and what
// answers are worth too.
func TestManyLookups(t *testing.T) {
	rows := map[string][]string{}
	var ids []int
	for id := range 3 * maxQueries {
		ids = append(ids, id)
		for n := range 50 {
			rows[fmt.Sprint(id)] = append(rows[fmt.Sprint(id)], fmt.Sprint(id, "-", n))
		}
	}
	r, o, _ := asking(t, rows)
	transaction(t, r, begin(5, 200), ids...)
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.GreaterOrEqual(t, len(o.asked), 3)
	got := map[string]bool{}
	for _, b := range o.batches {
		require.Equal(t, []uint64{5}, b.Stamp.XIDs, "each part of the answers has the stamp")
		count := 0
		for _, v := range values(b, invalidation.Key) {
			count += len(v)
			for _, key := range v {
				got[key] = true
			}
		}
		require.LessOrEqual(t, count, maxValues+100)
	}
	require.Len(t, got, 2*50*len(ids))
	for _, asked := range o.asked {
		require.LessOrEqual(t, len(asked), maxQueries)
	}
	require.Equal(t, "claim 0/D0", o.calls[len(o.calls)-1])
}

// TestPendingLookupsOfALostSession: an unfinished transaction comes again whole, so
// what it asked is forgotten; and new rules wait for what the old ones asked.
func TestPendingLookups(t *testing.T) {
	r, o, _ := asking(t, map[string][]string{"1": {"7"}})
	require.NoError(t, r.Change(t.Context(), begin(5, 200), insert(1)))
	require.NoError(t, r.Start(t.Context(), cdc.Session{Start: at(100), End: 1000}))
	o.reset()
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Empty(t, o.calls)

	transaction(t, r, begin(5, 200), 1)
	next := r.Replace(parse(t, productRules))
	transaction(t, r, begin(6, 300), 1)
	select {
	case <-next:
		require.Fail(t, "new rules while the old ones wait for answers")
	default:
	}
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	<-next
	require.Contains(t, values(o.batches[0], invalidation.Key), "menu")

	// At the session's end everything goes out, answered or not.
	r, o, _ = asking(t, nil)
	transaction(t, r, begin(5, 200), 1)
	require.NoError(t, r.Change(t.Context(), begin(6, 300), insert(2)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Empty(t, o.calls, "the open transaction is waited for")
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{Last: true}))
	require.Equal(t, []string{"resolve", "publish cache", "publish edge", "claim 0/D0"}, o.calls)
	require.Equal(t, map[string][]string{"menu": {"menus"}, "other": {"others"}}, values(o.batches[0], invalidation.Key))

	// A publisher that fails ends the session.
	r, o, _ = asking(t, nil)
	o.fail = map[string]error{"publish": errFake}
	transaction(t, r, begin(5, 200), 1)
	require.ErrorIs(t, r.Rest(t.Context(), cdc.Rest{}), errFake)
}

func TestMessagesOfTheLog(t *testing.T) {
	r, o, reg := asking(t, nil)
	tx := begin(5, 200)
	content := []byte(`{"keys": ["home"], "tags": ["front"]}`)
	require.NoError(t, r.Message(t.Context(), tx, "no.rule", content))
	require.NoError(t, r.Message(t.Context(), tx, "cache.purge", content))
	clear(content) // it was the decoder's
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, []string{"publish cache", "publish edge", "claim 0/D0"}, o.calls)
	require.Equal(t, map[string][]string{"hand": {"home"}}, values(o.batches[0], invalidation.Key))
	require.Equal(t, map[string][]string{"hand": {"front"}}, values(o.batches[1], invalidation.Tag))
	require.Equal(t, []uint64{5}, o.batches[0].Stamp.XIDs)

	o.reset()
	tx = begin(6, 300)
	require.NoError(t, r.Message(t.Context(), tx, "cache.purge", []byte(`{"keys": ["home"`)), "it never stops the line")
	require.NoError(t, r.Message(t.Context(), tx, "cache.purge", []byte(`{"keys": ["page", 7]}`)))
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Equal(t, map[string][]string{"hand": {"all", "page"}}, values(o.batches[0], invalidation.Key))
	wrong, _ := metric(t, reg, "walpurge_rule_errors_total", "hand")
	require.Equal(t, 2.0, wrong)
}

// TestLargeMessageIsSplit: what one message asks for may be more than the stream
// carries at once.
func TestLargeMessageIsSplit(t *testing.T) {
	r, o, _ := asking(t, nil)
	content := []byte(`{"keys": ["k0"`)
	for n := 1; len(content) < rules.MaxMessage-600; n++ {
		content = fmt.Appendf(content, `, "k%d-%0500d"`, n, n)
	}
	content = append(content, "]}"...)
	tx := begin(5, 200)
	require.NoError(t, r.Message(t.Context(), tx, "cache.purge", content))
	require.NoError(t, r.Commit(t.Context(), end(tx)))
	require.NoError(t, r.Rest(t.Context(), cdc.Rest{}))
	require.Greater(t, len(o.batches), 1)
	total := 0
	for _, b := range o.batches {
		size := 0
		for i := range b.Items {
			size += sizeOf(&b.Items[i])
			total += len(b.Items[i].Values[invalidation.Key])
		}
		require.LessOrEqual(t, size, largest)
		require.Equal(t, []uint64{5}, b.Stamp.XIDs)
	}
	require.Greater(t, total, 2000)
}
