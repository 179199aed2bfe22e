package results

import (
	"time"

	"github.com/walpurge/walpurge/integration/scenario/oracle"
)

// Schema is the version of results.json.
const Schema = 1

// Results is the content of results.json.
type Results struct {
	Schema   int    `json:"schema"`
	Scenario string `json:"scenario"`
	// Who is one sentence about whose system it is.
	Who string `json:"who"`
	// Version is that of walpurge, as git describes it.
	Version string    `json:"version"`
	Started time.Time `json:"started"`
	// Seconds is how long the run took.
	Seconds float64 `json:"seconds"`
	Cores   int     `json:"cores"`
	// Factor is by how much time is compressed: TTLs, windows for revalidation, second_purge and
	// the rate of writes are those of the system, divided or multiplied by it.
	Factor int `json:"time_factor"`
	// Capacity is the number of requests a second that variant 0 answered in the calibration.
	Capacity float64 `json:"capacity_rps"`
	// Peak names the stage that charts and tables show.
	Peak     string    `json:"peak_stage"`
	Variants []Variant `json:"variants"`
	// Points are what the chart shows beside the variants: TTL alone, with other TTLs.
	Points []Point `json:"points"`
	// Rollouts are walpurge with a part of the values, at the peak.
	Rollouts []Variant `json:"rollouts,omitempty"`
	Cost     *Cost     `json:"cost,omitempty"`
	// Void says why the figures do not count; empty if they do.
	Void []string `json:"void,omitempty"`
}

// Variant has the figures of one way to cache.
type Variant struct {
	// Name is 0, 1, 2, 2+bypass, 2' or 3.
	Name   string  `json:"name"`
	Title  string  `json:"title"`
	Stages []Stage `json:"stages"`
	// Facts are what the system shows besides.
	Facts []Fact `json:"facts,omitempty"`
}

// Fact is something that a system claims, and what was found.
type Fact struct {
	Claim string `json:"claim"`
	Found string `json:"found"`
	Holds bool   `json:"holds"`
}

// String is what was found, and that the claim does not hold if that is so.
func (f Fact) String() string {
	if f.Holds {
		return f.Found
	}
	return "**does not hold:** " + f.Found
}

// Stage has the figures of one stage of one variant.
type Stage struct {
	Name    string  `json:"name"`
	Rate    float64 `json:"rate_rps"`
	Seconds float64 `json:"seconds"`
	// Requests were sent, Late of them later than they should have been, Errors of them failed.
	Requests  int        `json:"requests"`
	Late      int        `json:"late"`
	Errors    int        `json:"errors"`
	Writes    int        `json:"writes"`
	Endpoints []Endpoint `json:"endpoints"`
	// HitRate is the share of cacheable requests that needed no fill of a cache from the database;
	// ValkeyHitRate and EdgeHitRate are those of the two caches. -1: there is no such cache.
	HitRate       float64 `json:"hit_rate"`
	ValkeyHitRate float64 `json:"valkey_hit_rate"`
	EdgeHitRate   float64 `json:"edge_hit_rate"`
	// Queries are the statements of the application, WalpurgeQueries those of walpurge's role.
	Queries         int64   `json:"queries"`
	QueriesPerReq   float64 `json:"queries_per_request"`
	WalpurgeQueries int64   `json:"walpurge_queries"`
	// PostgresCPU is what PostgreSQL and all its children used, in seconds of a core.
	PostgresCPU float64          `json:"postgres_cpu_s"`
	Stale       oracle.Staleness `json:"stale"`
	// APICalls counts the calls of each sink of walpurge, Purges how long after the commit it purged.
	APICalls map[string]int    `json:"api_calls,omitempty"`
	Purges   map[string]Purges `json:"purges,omitempty"`
}

// Endpoint has the figures of one endpoint in one stage.
type Endpoint struct {
	Name     string           `json:"name"`
	Requests int              `json:"requests"`
	Errors   int              `json:"errors"`
	P50      float64          `json:"p50_ms"`
	P95      float64          `json:"p95_ms"`
	P99      float64          `json:"p99_ms"`
	Stale    oracle.Staleness `json:"stale"`
}

// Purges says how long after a commit a sink had purged, from walpurge's own histogram: each figure
// is the upper bound of the bucket that it lies in.
type Purges struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
}

// Point is one point of the chart.
type Point struct {
	Label   string  `json:"label"`
	HitRate float64 `json:"hit_rate"`
	// Stale is the share of responses that were stale at all, Over1s of those older than 1 s.
	Stale  float64 `json:"stale"`
	Over1s float64 `json:"over_1s"`
}

// Cost is what walpurge costs.
type Cost struct {
	// WalpurgeCPU and WalsenderCPU are in cores, over the peak stage of variant 3.
	WalpurgeCPU    float64 `json:"walpurge_cpu_cores"`
	WalpurgeMemory int64   `json:"walpurge_memory_bytes"`
	WalsenderCPU   float64 `json:"walsender_cpu_cores"`
	// WALPerRow is by replica identity (default, full, or the index of the example).
	WALPerRow map[string]float64 `json:"wal_bytes_per_row"`
	// Commit latencies of one writer, without and with a slot that walpurge reads.
	CommitP50     float64 `json:"commit_p50_ms"`
	CommitP99     float64 `json:"commit_p99_ms"`
	CommitSlotP50 float64 `json:"commit_with_slot_p50_ms"`
	CommitSlotP99 float64 `json:"commit_with_slot_p99_ms"`
}

// Variant returns the variant of this name, and whether there is one.
func (r Results) Variant(name string) (Variant, bool) {
	for _, v := range r.Variants {
		if v.Name == name {
			return v, true
		}
	}
	return Variant{}, false
}

// Stage returns the stage of this name, and whether there is one.
func (v Variant) Stage(name string) (Stage, bool) {
	for _, s := range v.Stages {
		if s.Name == name {
			return s, true
		}
	}
	return Stage{}, false
}

// Endpoint returns the endpoint of this name, and whether there is one.
func (s Stage) Endpoint(name string) (Endpoint, bool) {
	for _, e := range s.Endpoints {
		if e.Name == name {
			return e, true
		}
	}
	return Endpoint{}, false
}
