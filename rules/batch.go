package rules

import "github.com/walpurge/walpurge/cdc"

// Origin says where a batch comes from.
type Origin string

// The origins.
const (
	FromWAL  Origin = "wal"
	FromGap  Origin = "gap"
	FromHand Origin = "hand"
)

// Batch is what one message of the stream carries: invalidations for one sink,
// complete in itself.
type Batch struct {
	Sink   string
	Origin Origin
	Stamp  cdc.Stamp
	// Items are grouped by rule, each rule once.
	Items []Item
	// Flush asks the sink to carry out its flush plan; Reason says why.
	Flush  bool
	Reason string
	// Supersedes is set for a batch by hand whose values cover everything that
	// lies at or before this place in the sink's lane.
	Supersedes uint64
}

// Item is one rule's share of a batch: its values by kind, each once.
type Item struct {
	Rule   string
	Values [NumKinds][]string
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
}
