package router

import (
	"context"
	"slices"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// TableGap publishes what purges everything that rules derive from the tables,
// at every sink. Its batches lie before any claim of the announcing transaction,
// so whatever dies, the announcement comes again until they are in the stream;
// and no sink begins with them before the transaction, and those that may have
// written to the tables unseen, are visible to readers.
func (r *Router) TableGap(ctx context.Context, tx *cdc.Txn, gap cdc.TableGap) error {
	at := r.start
	at.LSN = tx.Commit
	stamp := cdc.Stamp{Position: at, XIDs: append([]uint64{tx.XID}, gap.Open...), FirstCommit: tx.Time, LastCommit: tx.Time}
	sets := []*rules.Set{r.set}
	r.mu.Lock()
	if r.pending != nil {
		sets = append(sets, r.pending.set)
		r.entered.Tables = append(r.entered.Tables, gap.Tables...)
		r.entered.Causes = append(r.entered.Causes, gap.Causes...)
		xids := append(r.entered.stamp.XIDs, stamp.XIDs...)
		r.entered.stamp = stamp
		r.entered.stamp.XIDs = xids
	}
	r.mu.Unlock()
	return r.forget(ctx, sets, gap, stamp)
}

// forgetEntered purges once more what entered the publication while new rules
// waited: what changed between that and their service was judged by the old ones.
func (r *Router) forgetEntered(ctx context.Context) error {
	if len(r.entered.Tables) == 0 {
		return nil
	}
	r.mu.Lock()
	waiting := r.pending != nil
	r.mu.Unlock()
	if waiting {
		return nil
	}
	e := r.entered
	r.entered = entered{}
	return r.forget(ctx, []*rules.Set{r.set}, e.TableGap, e.stamp)
}

// entered are gaps of tables while new rules waited to be put in service.
type entered struct {
	cdc.TableGap
	stamp cdc.Stamp
}

func (r *Router) forget(ctx context.Context, sets []*rules.Set, gap cdc.TableGap, stamp cdc.Stamp) error {
	tables := slices.DeleteFunc(slices.Clone(gap.Tables), func(t cdc.Table) bool {
		return !slices.ContainsFunc(sets, func(s *rules.Set) bool { return s.Matches(t) })
	})
	if len(tables) == 0 {
		return nil
	}
	causes := slices.Compact(slices.Sorted(slices.Values(gap.Causes)))
	if len(causes) == 0 {
		causes = []cdc.TableCause{cdc.TablePublished}
	}
	r.conditions.At(tableGaps, "reason", string(cdc.GapTable)).
		Observe("causes", causes, "tables", condition.Sum(len(tables)), "first", tables[0].String(), "at", stamp.Position.String())
	r.cfg.Metrics.tableGap(causes)
	for _, set := range sets {
		f := &forgetting{tx: &cdc.Txn{XID: stamp.XIDs[0], Time: stamp.FirstCommit, Commit: stamp.Position.LSN}}
		for _, sink := range r.cfg.Sinks {
			f.builders = append(f.builders, newBuilder(sink, set.Rules()))
		}
		set.Forget(tables, f)
		for _, b := range f.builders {
			if b.empty() {
				continue
			}
			batch := b.take(stamp.Position)
			batch.Origin, batch.Reason, batch.Stamp = invalidation.FromGap, string(cdc.GapTable), stamp
			if err := r.cfg.Publisher.Publish(ctx, batch); err != nil {
				return err
			}
		}
	}
	return nil
}

// forgetting gathers what a gap purges, apart from what changes purge.
type forgetting struct {
	builders []*builder
	tx       *cdc.Txn
}

// Invalidate implements rules.Output.
func (f *forgetting) Invalidate(rule, sink int, k invalidation.Kind, value []byte) {
	f.builders[sink].add(rule, k, value, f.tx)
}

// Fallback implements rules.Output. What is forgotten has no row whose values could be lacking.
func (f *forgetting) Fallback(int, int, *rules.Fallback) {}

// Verdict implements rules.Output.
func (f *forgetting) Verdict(int, rules.Verdict) {}

// Lookup implements rules.Output. What is forgotten has no row to ask about.
func (f *forgetting) Lookup(*rules.Pending) {}
