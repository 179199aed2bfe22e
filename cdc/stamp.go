package cdc

import (
	"strconv"
	"strings"
	"time"
)

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
	// Database is the OID of the database in its cluster; claims of older versions have 0.
	Database uint32
	// Counter counts the progress messages of one epoch from 1 without a hole.
	Counter  uint64
	Position Position
	// CommitTime is the commit time of the newest transaction claimed, or the
	// time the server told its log position while idle.
	CommitTime time.Time
	// Leader is the process that published the claim; claims of older versions have none.
	Leader Leader
	// Own reports that this very process published the claim. It is not stored but proven;
	// what else the stream says may have been written by anyone who can publish to it.
	Own bool
}

// Leader says where the process is that leads a pipeline. It comes out of the stream, so it may say anything.
type Leader struct {
	// Address is HOST:PORT or a URL by which other machines reach its listener.
	Address string `json:"address,omitempty"`
	// Host is the name of the machine or pod that it runs on.
	Host string `json:"host,omitempty"`
}

// String names the leader: its address, and the host where the address does not name it.
func (l Leader) String() string {
	if l.Host == "" || strings.HasPrefix(l.Address, l.Host+":") || strings.HasPrefix(l.Address, l.Host+".") {
		return l.Address
	}
	return l.Address + " on host " + l.Host
}

// Owner is the database that the claim is of.
func (c Claim) Owner() Owner { return Owner{SystemID: c.Position.SystemID, Database: c.Database} }

// Owner names a database: its cluster, and its OID there, 0 if that is not known.
type Owner struct {
	SystemID string
	Database uint32
}

// String returns the form in which a configuration names an owner.
func (o Owner) String() string {
	if o.Database == 0 {
		return o.SystemID
	}
	return o.SystemID + "/" + strconv.FormatUint(uint64(o.Database), 10)
}

// Is reports whether both name the same database, as far as is known.
func (o Owner) Is(other Owner) bool {
	return o.SystemID == other.SystemID && (o.Database == other.Database || o.Database == 0 || other.Database == 0)
}
