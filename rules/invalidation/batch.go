package invalidation

import (
	"time"

	"github.com/walpurge/walpurge/cdc"
)

// Origin says where a batch comes from.
type Origin string

// The origins.
const (
	FromWAL  Origin = "wal"
	FromGap  Origin = "gap"
	FromHand Origin = "hand"
)

// FlushReason says why a whole sink is flushed; it is stored in the stream and is a metric
// label. It is a cdc.GapReason, or one of the following. It is an alias, since a batch
// read from the stream may have the reason of a newer version.
type FlushReason = string

const (
	// FlushUnreadable: a message of the stream cannot be decoded.
	FlushUnreadable FlushReason = "unreadable_message"
	// FlushHole: messages that the lane had not acknowledged are missing from the middle
	// of the stream.
	FlushHole FlushReason = "stream_hole"
	// FlushHead: the stream begins beyond what was trimmed.
	FlushHead FlushReason = "stream_head_lost"
	// FlushOverflow: the backlog of the lane exceeded max_backlog.
	FlushOverflow FlushReason = "overflow"
	// FlushReplica: a read replica that purges did not wait for is back.
	FlushReplica FlushReason = "replica"
	// FlushTruncate: a TRUNCATE purges everything at the sink.
	FlushTruncate FlushReason = "truncate"
	// FlushManual: an operator asked for it.
	FlushManual FlushReason = "by_hand"
	// The sink's cache may hold again what was purged from it: another node is the primary, the
	// process was started again, it has loaded a snapshot, another server answers at the address, or
	// the configuration names another cache.
	FlushFailover  FlushReason = "failover"
	FlushRestarted FlushReason = "restarted"
	FlushReloaded  FlushReason = "reloaded"
	FlushReplaced  FlushReason = "replaced"
	FlushNewTarget FlushReason = "new_target"
)

// FlushReasons lists all reasons, for metrics.
func FlushReasons() []FlushReason {
	out := []FlushReason{FlushUnreadable, FlushHole, FlushHead, FlushOverflow, FlushReplica, FlushTruncate, FlushManual,
		FlushFailover, FlushRestarted, FlushReloaded, FlushReplaced, FlushNewTarget}
	for _, reason := range cdc.GapReasons() {
		out = append(out, string(reason))
	}
	return out
}

// Batch is what one message of the stream carries: invalidations for one sink,
// complete in itself.
type Batch struct {
	Sink   string
	Origin Origin
	Stamp  cdc.Stamp
	// Items are grouped by rule. A rule has more than one where its values have
	// coarser ones of different steps, or none.
	Items []Item
	// Flush asks the sink to carry out its flush plan; Reason says why.
	Flush  bool
	Reason FlushReason
	// Supersedes is set for a manual batch whose values cover everything that
	// lies at or before this place in the sink's lane.
	Supersedes uint64
}

// Item is one rule's share of a batch: its values by kind, each once.
type Item struct {
	Rule   string
	Values Values
	// Coarser are the steps of collapse: in a lane that has more values of the rule
	// waiting than Over, the step's values replace these. The least Over comes first.
	Coarser []CoarserValues
	// Every is the rule's period, 0 for none; FallbackEvery at least where Values
	// are those of Fallbacks.
	Every time.Duration
	// Unbuilt are the templates of the rule whose values could not be built and that
	// nothing at the sink covers: they are to be parked.
	Unbuilt []Unbuilt
}

// MaxEvery is the longest period of every:. A lane keeps the message that holds
// a deferred value, and the messages behind it, for that long.
const MaxEvery = 24 * time.Hour

// FallbackEvery is the period in which a Fallback's purge is carried out at most once.
const FallbackEvery = time.Minute

// Unbuilt is a template whose values are parked; see Fallback.
type Unbuilt struct {
	Template string
	Of       Kind
	// Count is how many changes lack values of it.
	Count int
}

// CoarserValues replace an item's values where there are more than Over.
type CoarserValues struct {
	Over   int
	Values Values
}

// Unbuilt reports whether the batch is one that says which templates lack values, and has none
// itself.
func (b *Batch) Unbuilt() bool {
	unbuilt := false
	for i := range b.Items {
		for k := range b.Items[i].Values {
			if len(b.Items[i].Values[k]) > 0 {
				return false
			}
		}
		unbuilt = unbuilt || len(b.Items[i].Unbuilt) > 0
	}
	return unbuilt && !b.Flush
}

// Invalidations appends the batch's values to dst, rule by rule.
func (b *Batch) Invalidations(dst []Invalidation) []Invalidation {
	for i := range b.Items {
		for k, values := range b.Items[i].Values {
			for _, v := range values {
				dst = append(dst, Invalidation{Kind: Kind(k), Value: v, Rule: b.Items[i].Rule})
			}
		}
	}
	return dst
}

// Message is one message of a lane, with its place in the stream: a batch, or a
// claim between batches.
type Message struct {
	Seq   uint64
	Batch *Batch
	Claim *cdc.Claim
	// Unknown is set where the message names values of a kind that this version does not know:
	// the batch lacks them, so the message is kept.
	Unknown error
}
