package status

import (
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/cdc/postgres"
)

// Status is the answer of /api/v1/status.
type Status struct {
	// Summary is one sentence: fresh or stale, where, and why.
	Summary  string    `json:"summary"`
	Fresh    bool      `json:"fresh"`
	Pipeline string    `json:"pipeline"`
	Version  string    `json:"version"`
	Started  time.Time `json:"started"`
	Reader   Reader    `json:"reader"`
	// Leader is the process that leads the pipeline as far as that is known: this one while it reads, the one that
	// published the newest claim while this one stands by.
	Leader cdc.Leader `json:"leader,omitzero"`
	// Problems are what keeps changes from being seen or rules from reading them, until a
	// person acts; those that `unknown` covers last.
	Problems   []Problem   `json:"problems"`
	Watermarks []Watermark `json:"watermarks"`
	Sinks      []Sink      `json:"sinks"`
	// Warms are the sinks that warm pages; what they do has no part in Fresh.
	Warms    []Warm    `json:"warms,omitempty"`
	Replicas []Replica `json:"replicas,omitempty"`
	Slot     Slot      `json:"slot"`
	// InactiveSlots are what other pipelines left in the database.
	InactiveSlots []postgres.InactiveSlot `json:"inactive_slots,omitempty"`
	Stream        Stream                  `json:"stream"`
	// Suspicions are notes about rules whose keys are hardly ever in a cache.
	Suspicions []Suspicion `json:"suspicions,omitempty"`
	// ReloadError is why the newest reload failed, empty if it did not.
	ReloadError string `json:"reload_error,omitempty"`
	// ConfigDigest says what the files in service hold.
	ConfigDigest string `json:"config_digest"`
	// At is when this was collected. Changes counts the row changes read since the
	// start, and so do the numbers of Rules and of each sink's Work.
	At      time.Time `json:"at"`
	Changes float64   `json:"changes"`
	Rules   []Rule    `json:"rules"`
	// Incidents are the newest gaps and flushes since the start, newest first.
	Incidents []Incident `json:"incidents"`
}

// Reader is the state of the replication connection.
type Reader struct {
	// State is a postgres.Phase. Since is when the reader began, or ceased, to read in this way.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
	// CatchUp is how far a backlog is read, nil while the reader does not catch up.
	CatchUp *CatchUp `json:"catch_up,omitempty"`
	// Blocked says why the reader waits, empty if it does not.
	Blocked string `json:"blocked,omitempty"`
	// Stuck says where the reader does not move, empty if it does.
	Stuck string `json:"stuck,omitempty"`
	// Compared reports that publication and tables have been compared with the rules.
	Compared bool `json:"compared"`
	// SynchronousStandbyNames is PostgreSQL's setting while it can name this reader, which
	// reports no flush position then, so that no commit depends on it.
	SynchronousStandbyNames string `json:"synchronous_standby_names,omitempty"`
}

// Streams reports that changes arrive.
func (r *Reader) Streams() bool { return r.State == "streaming" || r.State == "catching_up" }

// CatchUp is how far a backlog is read before the reader streams.
type CatchUp struct {
	// LeftBytes is the log before its end, TotalBytes was that at the beginning, with what was written since.
	LeftBytes        uint64  `json:"left_bytes"`
	TotalBytes       uint64  `json:"total_bytes"`
	ChangesPerSecond float64 `json:"changes_per_second"`
	// Seconds is an estimate of the time left, null while there is nothing to tell from.
	Seconds *float64 `json:"seconds"`
}

// Problem is something that a person must correct. Until then changes of the tables are
// not seen, or not purged, except where it is Covered.
type Problem struct {
	// Tables are those concerned, Column is the column where it is only one.
	Tables []string `json:"tables"`
	Column string   `json:"column,omitempty"`
	// Rules are those concerned, and Sinks those to which their values go.
	Rules []string `json:"rules"`
	Sinks []string `json:"sinks"`
	// Covered reports that `unknown` of the rules purges instead what they cannot read.
	Covered bool `json:"covered"`
	// Text says what is wrong and what to do.
	Text  string    `json:"text"`
	Since time.Time `json:"since"`
}

// Watermark is how far a stage has come. The lags are null while they are not known.
type Watermark struct {
	Stage      string   `json:"stage"`
	Target     string   `json:"target,omitempty"`
	LSN        cdc.LSN  `json:"lsn"`
	Timeline   uint32   `json:"timeline"`
	LagBytes   *uint64  `json:"lag_bytes"`
	LagSeconds *float64 `json:"lag_seconds"`
}

// Sink is one lane.
type Sink struct {
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Class is that of the error: transient, item, lane or throttled.
	Class string `json:"class,omitempty"`
	// PausedSince is when an operator paused it, and PausedUntil when that ends by itself, zero if it does not.
	PausedSince *time.Time `json:"paused_since,omitempty"`
	PausedUntil time.Time  `json:"paused_until,omitzero"`
	// PausedFor is how long it has been paused, 0 if it is not.
	PausedFor time.Duration `json:"-"`
	// Stuck are kinds of values whose purges fail while other kinds are purged, the one that has
	// failed for longest first.
	Stuck []Stuck `json:"stuck,omitempty"`
	// OthersGo reports that the sink has taken other kinds since then.
	OthersGo bool `json:"-"`
	// Gates are those that hold the lane back.
	Gates      []string `json:"gates,omitempty"`
	Backlog    uint64   `json:"backlog"`
	Parked     uint64   `json:"parked"`
	LagSeconds *float64 `json:"lag_seconds"`
	// Restoring is why the sink purges again what its cache may hold again, RestoringUnknown while it is not
	// known whether there is anything.
	Restoring string `json:"restoring,omitempty"`
	// Untold is why it would go unnoticed if the cache came back with what was purged.
	Untold string `json:"untold,omitempty"`
	// DrainSeconds estimates what the backlog takes at RequestsPerSecond; null if it
	// cannot be estimated.
	DrainSeconds      *float64 `json:"drain_seconds"`
	RequestsPerSecond float64  `json:"requests_per_second,omitempty"`
	Work              Work     `json:"work"`

	// QueueLag is LagSeconds without what is parked.
	QueueLag *float64 `json:"-"`
	// Coarse are the flags of a purge that covers everything.
	Coarse string `json:"-"`
}

// Warm is a sink that fetches pages once they were purged.
type Warm struct {
	Name string `json:"name"`
	// State is ok, failing or paused, Since when it became that.
	State string    `json:"state"`
	Since time.Time `json:"since"`
	Error string    `json:"error,omitempty"`
	// PausedSince is when an operator paused it, and PausedUntil when that ends by itself, zero if it does not.
	PausedSince *time.Time `json:"paused_since,omitempty"`
	PausedUntil time.Time  `json:"paused_until,omitzero"`
	// Waiting are pages that wait to be fetched. Pages counts those since the start by what became of them.
	Waiting int                `json:"waiting"`
	Pages   map[string]float64 `json:"pages"`
}

// Stuck is a kind of value that a sink does not take, for example because its plan or its user's
// permissions lack it.
type Stuck struct {
	Kind string `json:"kind"`
	// Since is when the first purge of the kind failed.
	Since time.Time `json:"since"`
	Error string    `json:"error"`
	Class string    `json:"class"`
	// Values is how many of the kind wait.
	Values int `json:"values"`
}

// RestoringUnknown: the cache has not been asked yet since the start, or does not answer.
const RestoringUnknown = "unknown"

// Work counts what a sink has done since the start.
type Work struct {
	Purged float64 `json:"purged"`
	Failed float64 `json:"failed"`
	// LatencyCount and LatencySeconds are number and sum of the times from commit
	// to acknowledged purge: two of each give the mean of what lies between.
	LatencyCount   uint64  `json:"latency_count"`
	LatencySeconds float64 `json:"latency_seconds"`
}

// Rule counts what a rule has done since the start.
type Rule struct {
	Name string `json:"name"`
	// Of is the table, or for a rule of messages their prefix.
	Of            string  `json:"of"`
	Matches       float64 `json:"matches"`
	Invalidations float64 `json:"invalidations"`
	Unknown       float64 `json:"unknown"`
	Errors        float64 `json:"errors"`
}

// Replica is a read replica that purges wait for.
type Replica struct {
	Name string `json:"name"`
	// Away: it kept purges waiting for too long, so that they do not wait for it.
	Away  bool   `json:"away"`
	Error string `json:"error,omitempty"`
}

// Slot is the replication slot as last seen.
type Slot struct {
	Name          string `json:"name"`
	State         string `json:"state"`
	RetainedBytes int64  `json:"retained_bytes"`
	SafeBytes     *int64 `json:"safe_bytes,omitempty"`
}

// Stream is how full the stream is.
type Stream struct {
	Bytes                int64   `json:"bytes"`
	LimitBytes           int64   `json:"limit_bytes"`
	Messages             uint64  `json:"messages"`
	ReplayHorizonSeconds float64 `json:"replay_horizon_seconds"`
	// Denied says which subject the NATS server refuses the daemon's user, empty if none.
	Denied string `json:"denied,omitempty"`
	// DiskFreeBytes is what the disk of the embedded stream has left.
	DiskFreeBytes *int64 `json:"disk_free_bytes,omitempty"`
}

// Incident is a gap, the beginning of a flush of a sink, or that its cache may have held again what was purged.
type Incident struct {
	At time.Time `json:"at"`
	// Kind is gap, flush or history; Sink is empty for a gap, which is every sink's.
	Kind   string `json:"kind"`
	Sink   string `json:"sink,omitempty"`
	Reason string `json:"reason"`
}
