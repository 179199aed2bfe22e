package cdc

import "fmt"

// Gap says that the line is broken: committed changes between From and To may
// never have reached the stream. What lies in a gap is unknown, so every sink
// is flushed before its watermark moves past To.
type Gap struct {
	Reason GapReason
	From   Position
	To     Position
}

// GapReason names a cause; it is a metric label.
type GapReason string

// The causes a reader can find when it connects.
const (
	// GapSlotLost: the slot is gone or invalidated although the stream holds a claim.
	GapSlotLost GapReason = "slot_lost"
	// GapStreamBehind: the slot was confirmed beyond the newest claim in the
	// stream, so the stream lost its tail, was recreated or rolled back.
	GapStreamBehind GapReason = "stream_behind"
	// GapSystemChanged: the claim in the stream is from another database cluster.
	GapSystemChanged GapReason = "system_changed"
)

// String says the gap in one line.
func (g Gap) String() string { return fmt.Sprintf("%s between %s and %s", g.Reason, g.From, g.To) }
