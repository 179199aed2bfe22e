package delivery

import (
	"context"
	"slices"

	"github.com/walpurge/walpurge/cdc/condition"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// refuse deals with invalidations that the sink refuses for good: what the first
// step of their rule's collapse has for their items is tried once in their
// place; what has nothing, and what the sink refuses even so, is parked. It
// returns false when the lane is stopping.
func (l *Lane) refuse(intake, work context.Context, t *turn, refused []invalidation.Invalidation, cause error) bool {
	if len(refused) == 0 {
		return true
	}
	if t.spare {
		t.failed = true
		return true
	}
	var park []invalidation.Invalidation
	for _, inv := range refused {
		items := t.job.coarser[value{inv.Kind, inv.Value}]
		if len(items) == 0 {
			t.job.refused = append(t.job.refused, inv)
			park = append(park, inv)
			continue
		}
		var instead []invalidation.Invalidation
		seen := make(map[value]struct{})
		for _, item := range items {
			for k, texts := range item.Coarser[0].Values {
				for _, text := range texts {
					v := value{invalidation.Kind(k), text}
					if _, dup := seen[v]; !dup {
						seen[v] = struct{}{}
						instead = append(instead, invalidation.Invalidation{Kind: v.kind, Value: text, Rule: inv.Rule})
					}
				}
			}
		}
		t.job.refused = append(t.job.refused, inv)
		again := turn{group: t.group, job: t.job, spare: true, retry: t.retry, rest: t.rest}
		for _, request := range split(instead, l.cfg.Limits) {
			if !l.request(intake, work, request, &again) {
				return false
			}
		}
		if again.failed {
			park = append(park, inv)
			continue
		}
		t.job.instead = append(t.job.instead, instead...)
		l.collapsed(inv.Rule, 1)
		l.conditions.At(replaced, "rule", inv.Rule).Observe("values", condition.Sum(1), "err", cause)
	}
	return l.park(intake, park, t.group, cause)
}

// turn is what requests of one turn share. spare is set where coarser values are
// tried for refused ones: failed then tells that they were refused as well.
// second is set where it is the second purge.
type turn struct {
	group         []ready
	job           *job
	spare, failed bool
	second        bool
	// apart is set where it is a flush beside the queue.
	apart bool
	// retry is set where it is what was set aside. rest are the requests to come in this turn.
	retry bool
	rest  [][]invalidation.Invalidation
	// took are the kinds that the sink has taken in this turn.
	took invalidation.KindSet
}

// sources are the messages that a turn's values come from.
func (j *job) sources(group []ready) []ready {
	out := slices.Clone(group)
	for _, w := range j.met {
		for _, o := range w.deferrals {
			out = append(out, o.ready)
		}
	}
	return out
}

func (l *Lane) collapsed(rule string, values int) {
	if l.cfg.Collapsed != nil {
		l.cfg.Collapsed(rule, values)
	}
}

// noteFlush counts a flush that begins, and tells of it.
func (l *Lane) noteFlush(reason string) {
	l.metrics.flush(reason)
	if l.cfg.Flushing != nil {
		l.cfg.Flushing(reason)
	}
}
