package router

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Lookups answers what rules ask the database.
type Lookups interface {
	// Resolve waits until the stamp's transactions are visible, then puts each
	// query, and returns their answers in the same order. It blocks no longer than
	// about the longest timeout among the queries; what was not answered until
	// then has an error.
	Resolve(ctx context.Context, stamp cdc.Stamp, queries []rules.Query) []rules.Answer
}

// Limits of what waits for answers: with one of them reached, they are asked for
// although the reader has more at hand. The memory that answers take is bounded by
// the queries, times the rows that each may have.
const (
	maxQueries      = 256
	maxPending      = 4096
	maxPendingBytes = 1 << 20
)

// waiting is what waits for the database's answers since the last batch, each
// question once.
type waiting struct {
	stamped
	pending []*rules.Pending
	asked   []int // the query of each
	seen    map[string]struct{}
	queries []rules.Query
	place   map[string]int
	bytes   int
}

func newWaiting() waiting {
	return waiting{seen: make(map[string]struct{}), place: make(map[string]int)}
}

func (w *waiting) add(p *rules.Pending, tx *cdc.Txn) {
	w.note(tx)
	if _, dup := w.seen[p.Key]; dup {
		return
	}
	w.seen[p.Key] = struct{}{}
	w.bytes += len(p.Key)
	key := question(p.Query)
	i, known := w.place[key]
	if !known {
		i = len(w.queries)
		w.place[key] = i
		w.queries = append(w.queries, p.Query)
	}
	w.pending, w.asked = append(w.pending, p), append(w.asked, i)
}

// question tells queries apart that may have different answers: lookups of two
// rules with the same statement are asked once.
func question(q rules.Query) string {
	key := strconv.AppendInt(nil, int64(q.Lookup.Limit), 10)
	key = append(append(key, ' '), q.Lookup.Timeout.String()...)
	for _, text := range append([]string{q.Lookup.SQL}, q.Args...) {
		key = append(strconv.AppendInt(append(key, ' '), int64(len(text)), 10), ':')
		key = append(key, text...)
	}
	return string(key)
}

func (w *waiting) full() bool {
	return len(w.queries) >= maxQueries || len(w.pending) >= maxPending || w.bytes >= maxPendingBytes || len(w.xids) >= maxXIDs
}

// Lookup implements rules.Output.
func (r *Router) Lookup(p *rules.Pending) { r.waiting.add(p, r.tx) }

// resolve has the questions answered, and what comes of them joins the batches.
func (r *Router) resolve(ctx context.Context) error {
	w := &r.waiting
	if len(w.pending) == 0 {
		return nil
	}
	began := time.Now()
	answers := r.cfg.Lookups.Resolve(ctx, w.stamp(r.start), w.queries)
	r.cfg.Metrics.lookups.Observe(time.Since(began).Seconds())
	f := filler{Router: r, stamped: make([]bool, len(r.builders))}
	for i, p := range w.pending {
		r.steps.evaluate()
		r.set.Fill(p, answers[w.asked[i]], &f)
		r.steps.end()
		if slices.ContainsFunc(r.builders, (*builder).full) {
			if err := r.sendAll(ctx); err != nil {
				return err
			}
			clear(f.stamped)
		}
	}
	r.waiting = newWaiting()
	return nil
}

// filler is the Output for answers: their values have the stamp of all that
// waited, because an answer belongs to no single transaction.
type filler struct {
	*Router
	stamped []bool // by sink
}

// Invalidate implements rules.Output.
func (f *filler) Invalidate(rule, sink int, k invalidation.Kind, value []byte) {
	f.counters.invalidation(rule, sink, k)
	f.builder(sink).put(rule, k, value)
}

// Fallback implements rules.Output.
func (f *filler) Fallback(rule, sink int, fallback *rules.Fallback) {
	f.replace(f.builder(sink), rule, sink, fallback)
}

func (f *filler) builder(sink int) *builder {
	b := f.builders[sink]
	if !f.stamped[sink] {
		b.join(&f.waiting.stamped)
		f.stamped[sink] = true
	}
	return b
}
