package cdc

import "time"

// Stamp says which transactions a batch of invalidations comes from. Gates and
// watermarks are judged by it; caches never see it.
type Stamp struct {
	// Epoch counts the readers that ever streamed this pipeline; claims of an
	// older epoch than the newest seen move nothing.
	Epoch uint64
	// Position is the end of the newest whole transaction in the batch, or a byte
	// beyond the beginning of the commit record of the transaction that the batch is
	// cut from: who has replayed up to there has replayed the commit.
	Position Position
	// XIDs are the top-level transactions in the batch, each once. The
	// visibility gate needs every one: visibility order is not commit order.
	XIDs []uint64
	// FirstCommit and LastCommit bound the commit times in the batch.
	FirstCommit time.Time
	LastCommit  time.Time
	// Trace is the W3C trace context of a transaction in the batch that is traced,
	// empty if none is.
	Trace string
}

// Claim is what a progress message says: every committed change at or before
// Position is in the stream in messages before this one.
type Claim struct {
	Epoch uint64
	// Counter counts the progress messages of one epoch from 1 without a hole.
	Counter  uint64
	Position Position
	// CommitTime is the commit time of the newest transaction claimed, or the
	// time the server told its log position while idle.
	CommitTime time.Time
}
