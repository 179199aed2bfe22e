package cdc

import "fmt"

// Position is a place on the line that all watermarks move along: a log
// position on one timeline of one database cluster.
//
// LSNs of different timelines are not comparable by number, so a position on a
// newer timeline is after every position on an older one. Positions of
// different clusters (system identifiers) are not comparable at all: the
// holder of a Position must treat a change of SystemID as a gap.
type Position struct {
	SystemID string `json:"system_id"`
	Timeline uint32 `json:"timeline"`
	LSN      LSN    `json:"lsn"`
}

// Zero reports whether the position was never set.
func (p Position) Zero() bool { return p == Position{} }

// Before reports whether p lies strictly before q on the same cluster. The
// zero position lies before every other.
func (p Position) Before(q Position) bool {
	if p.Timeline != q.Timeline {
		return p.Timeline < q.Timeline
	}
	return p.LSN < q.LSN
}

// String prints timeline and LSN, 1:16/B374D848.
func (p Position) String() string { return fmt.Sprintf("%d:%s", p.Timeline, p.LSN) }
