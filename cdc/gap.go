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
	// GapDatabaseChanged: the claim in the stream is from another database of the same cluster.
	GapDatabaseChanged GapReason = "database_changed"
	// GapRenamed: this is the first start of a pipeline, and another pipeline left a slot for the same
	// tables that no process reads.
	GapRenamed GapReason = "pipeline_renamed"
	// GapPublicationChanged: the slot lies before a publication that replaced another one, which it cannot
	// see there, and was moved to the end.
	GapPublicationChanged GapReason = "publication_changed"
	// GapTimelineForked: the newest claim lies beyond the place where the server's
	// timeline left that of the claim. Commits that readers have seen, and caches may
	// hold, were undone by a promotion.
	GapTimelineForked GapReason = "timeline_forked"
	// GapSkipped: an operator advanced the slot to the end of the log.
	GapSkipped GapReason = "skipped"
	// GapRetained: the slot held back more of the log than it may, and was moved to
	// the end.
	GapRetained GapReason = "max_retained"
	// GapUndecodable: the server failed each time that it decoded a transaction, and the slot was
	// advanced past it.
	GapUndecodable GapReason = "undecodable"
	// GapUnprovenClaim: a claim in the stream says more than the slot or this process can vouch for: it was
	// published by someone else, or cannot be read, or lies beyond the server's log.
	GapUnprovenClaim GapReason = "unproven_claim"
	// GapTable: only what rules made of the rows of some tables is in doubt; see TableGap.
	GapTable GapReason = "table"
)

// GapReasons lists the causes, for metrics.
func GapReasons() []GapReason {
	return []GapReason{GapSlotLost, GapStreamBehind, GapSystemChanged, GapDatabaseChanged, GapRenamed, GapPublicationChanged, GapTimelineForked, GapSkipped, GapRetained, GapUndecodable, GapUnprovenClaim, GapTable}
}

// String says the gap in one line.
func (g Gap) String() string { return fmt.Sprintf("%s between %s and %s", g.Reason, g.From, g.To) }

// TableCause names why what rules derive from a table is in doubt; it is a metric label.
type TableCause string

// The causes of table gaps.
const (
	// TablePublished: the table entered or left the publication, or is another one by its name.
	TablePublished TableCause = "published"
	// TableReadable: rules can read columns of the table again that they could not read.
	TableReadable TableCause = "readable"
	// TableRewritten: a table that the publication does not name, because it is one of all tables or of
	// schemas, was rewritten or truncated. The catalog does not tell that from SET UNLOGGED and SET LOGGED.
	TableRewritten TableCause = "table_rewritten"
	// LeafCame: a partition or a child came with rows.
	LeafCame TableCause = "leaf_came"
	// LeafGone: a partition or a child was dropped or detached.
	LeafGone TableCause = "leaf_gone"
	// LeafReattached: a partition was detached and attached again.
	LeafReattached TableCause = "leaf_reattached"
	// LeafRewritten: a partition was truncated or rewritten (VACUUM FULL, CLUSTER, ALTER TABLE,
	// pg_repack), which the catalog does not tell apart.
	LeafRewritten TableCause = "leaf_rewritten"
	// LeafPersistence: a partition became unlogged, or logged again.
	LeafPersistence TableCause = "leaf_persistence"
	// ColumnFilled: a column was added with values for existing rows.
	ColumnFilled TableCause = "column_filled"
	// ColumnGenerated: a generated column was added, or is computed in another way.
	ColumnGenerated TableCause = "column_generated"
	// ColumnType: the type of a column was changed, or its values with USING.
	ColumnType TableCause = "column_type"
	// ColumnDropped: a column was dropped.
	ColumnDropped TableCause = "column_dropped"
	// ColumnRenamed: a column was renamed.
	ColumnRenamed TableCause = "column_renamed"
	// TypeChanged: a label of an enum was renamed, or a composite type was altered.
	TypeChanged TableCause = "type_changed"
)

// TableCauses lists the causes, for metrics.
func TableCauses() []TableCause {
	return []TableCause{TablePublished, TableReadable, TableRewritten, LeafCame, LeafGone, LeafReattached, LeafRewritten, LeafPersistence,
		ColumnFilled, ColumnGenerated, ColumnType, ColumnDropped, ColumnRenamed, TypeChanged}
}

// TableGap says that what rules derive from some tables is in doubt: changes may have been
// committed and not streamed, or the tables changed without row events.
type TableGap struct {
	Tables []Table
	// Causes says why, each once; empty: TablePublished.
	Causes []TableCause
	// Open are the transactions that may have written to them before they were
	// published and had not ended when the gap was read: what they wrote until
	// then is not streamed, whenever they commit.
	Open []uint64
}
