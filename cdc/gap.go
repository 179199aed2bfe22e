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
	// GapTimelineForked: the newest claim lies beyond the place where the server's
	// timeline left that of the claim. Commits that readers have seen, and caches may
	// hold, were undone by a promotion.
	GapTimelineForked GapReason = "timeline_forked"
	// GapSkipped: somebody had the slot moved to the end of the log by hand.
	GapSkipped GapReason = "skipped"
	// GapRetained: the slot held back more of the log than it may, and was moved to
	// the end.
	GapRetained GapReason = "max_retained"
	// GapTable: a table entered or left the publication, so only what rules made
	// of its rows is in doubt; see TableGap.
	GapTable GapReason = "table"
)

// GapReasons lists the causes, for metrics.
func GapReasons() []GapReason {
	return []GapReason{GapSlotLost, GapStreamBehind, GapSystemChanged, GapTimelineForked, GapSkipped, GapRetained, GapTable}
}

// String says the gap in one line.
func (g Gap) String() string { return fmt.Sprintf("%s between %s and %s", g.Reason, g.From, g.To) }

// TableGap says that changes of some tables may have been committed and not
// streamed: until now they were not published, or not all the time.
type TableGap struct {
	Tables []Table
	// Open are the transactions that may have written to them before they were
	// published and had not ended when the gap was read: what they wrote until
	// then is not streamed, whenever they commit.
	Open []uint64
}
