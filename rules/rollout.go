package rules

import (
	"hash/fnv"
	"time"

	"github.com/walpurge/walpurge/rules/strictyaml"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Bucket is a value's place in a rollout, from 0 to 99: the value is handed on
// where its bucket is below the percentage. It is the 64-bit FNV-1a hash of the
// value's bytes, modulo 100, so that an application can compute the same.
func Bucket(value []byte) int {
	h := fnv.New64a()
	_, _ = h.Write(value) // never fails
	return int(h.Sum64() % 100)
}

// pace reads every: and rollout:.
func (l *ruleLoader) pace(every strictyaml.Located[time.Duration], rollout strictyaml.Located[int]) {
	if !every.Pos.IsZero() && (every.Value <= 0 || every.Value > invalidation.MaxEvery) {
		l.fail(every.Pos, "`every`: %s; write a time above 0 and up to 24h, like 30s", every.Value)
	}
	if !rollout.Pos.IsZero() && (rollout.Value < 0 || rollout.Value > 100) {
		l.fail(rollout.Pos, "`rollout`: %d; write a percentage from 0 to 100", rollout.Value)
	}
	l.r.Every = every.Value
	share := 100
	if !rollout.Pos.IsZero() {
		share = rollout.Value
	}
	if l.opts.WholeRollout {
		return
	}
	shares, all := make([]int, len(l.opts.Sinks)), true
	for i, s := range l.opts.Sinks {
		shares[i] = min(share, 100-s.Withheld)
		all = all && shares[i] == 100
	}
	if !all {
		l.r.shares = shares
	}
}

// off reports whether a rollout keeps everything of the rule from the sink.
func (r *Rule) off(sink int) bool { return r.shares != nil && r.shares[sink] == 0 }

// invalidate hands one of the rule's own values to the template's sinks, as far
// as the rollouts let it.
func (p *Plan) invalidate(b *boundRule, t *boundTemplate, value []byte, out Output) {
	b.hand(b.id, t, value, out, &p.lacks, p.withheld)
}

// hand is invalidate: lacks gets the sinks for which the value is too long, and
// withheld, if there is one, what a rollout keeps back. What is coarser than the rule's own values (unknown:, collapse:, a
// TRUNCATE) passes whole unless the share is 0: a part of it would be no
// substitute.
func (r *Rule) hand(id int, t *boundTemplate, value []byte, out Output, lacks *lacks, withheld func(sink int, k invalidation.Kind, value []byte)) {
	bucket := 0
	if r.shares != nil {
		bucket = Bucket(bare(t.kind, value))
	}
	for _, sink := range t.sinks {
		switch {
		case !r.specs[sink].Caps.Fits(t.kind, value):
			lacks.add(t, sink)
		case r.shares == nil:
			out.Invalidate(id, sink, t.kind, value)
		case bucket < r.shares[sink]:
			out.Invalidate(id, sink, t.kind, value)
		case withheld != nil:
			withheld(sink, t.kind, value)
		}
	}
}
