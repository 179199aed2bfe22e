package scenario

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario/load"
	"github.com/walpurge/walpurge/integration/scenario/oracle"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// Scenario describes one system and its load.
type Scenario struct {
	// Name is that of the directory in deploy/examples.
	Name string
	// Who is one sentence for the report.
	Who string
	// Factor compresses time; see results.Results.
	Factor int
	// Stages run one after the other on the same servers.
	Stages []Stage
	// Writes is the number of calls of System.Write a second, before Factor.
	Writes float64
	// Bypass is the share of writes that avoid the application's main path in variants 1, 2+bypass
	// and 3.
	Bypass float64
	// Cacheable are the endpoints whose requests count in hit rates.
	Cacheable []string
	// EdgeHeader is the header whose value HIT says that the edge answered; default X-Cache.
	EdgeHeader string
	// EventStage names the stage in the middle of which System.Event is called; empty: none.
	EventStage string
	// PeakStage names the stage that charts and tables show; empty: EventStage, or else that at 60 %.
	PeakStage string
	// KeepTTL: with walpurge entries live as long as without it. Otherwise they live for an hour.
	KeepTTL bool
	// Judge makes facts of all figures, after all variants have run; nil: none. They are added to
	// those of variant 3.
	Judge func(results.Results) []results.Fact
	// Postgres are settings of the database server.
	Postgres map[string]string
	// Valkey are arguments of the Valkey server.
	Valkey []string
	// TTLs are those of the points in the chart, as the system has them (before Factor).
	TTLs []time.Duration
	// Cost is an update that the cost table measures.
	Cost CostUpdate
	// Gate is the load of the gate.
	Gate GateLoad
	// Prepare is called once before everything else, to build the application. It names what is
	// missing and the command that installs it.
	Prepare func(ctx context.Context, b Build) error
	// Start starts what the variant needs beside Env: the application, and the edge. It registers
	// with Env.Group how to end each.
	Start func(ctx context.Context, env *Env) (System, error)
	// Rollouts are percentages at which walpurge is measured at the peak, beside 100.
	Rollouts []int
}

// Build says where Prepare finds and leaves files.
type Build struct {
	// Root is the repository.
	Root string
	// Files is a copy of deploy/examples/NAME without node_modules, in which a test may have seeded
	// a regression: what runs is built from there.
	Files string
	// Built is an empty directory for what Prepare makes.
	Built string
}

// CostUpdate changes rows of a table, in which one row is one change.
type CostUpdate struct {
	// Table is the table, such as public.products.
	Table string
	// One updates the row with the key $1, Keys is the number of such rows from 1 up.
	One  string
	Keys int
	// Many updates many rows and no row twice.
	Many string
}

// GateLoad is a load whose counts do not depend on the machine: a fixed rate.
type GateLoad struct {
	Rate    float64
	Lasting time.Duration
}

// Stage is one stage of the load.
type Stage struct {
	Name string
	// Share of what variant 0 sustained: 0.6 is the peak.
	Share   float64
	Lasting time.Duration
}

// Variant is one way to cache.
type Variant struct {
	// Name is 0, 1, 2, 2+bypass, 2' or 3.
	Name, Title string
	// Cache: responses are cached, in Valkey and at the edge.
	Cache bool
	// TTL of all endpoints, before Factor; 0: each endpoint's own.
	TTL time.Duration
	// Deletes: the application's main path deletes from the caches after COMMIT, with retries.
	Deletes bool
	// Bypass is the share of writes that avoid the main path.
	Bypass float64
	// Kill: the application is killed once between COMMIT and the deletes.
	Kill bool
	// Walpurge runs beside the application.
	Walpurge bool
	// Rollout is the percentage of the values that walpurge purges; 0: all of them.
	Rollout int
}

// Env is what the harness gives a variant.
type Env struct {
	Variant Variant
	Factor  int
	// Build has the files; Dir is a scratch directory of this variant.
	Build
	Dir      string
	Postgres *harness.Postgres
	// Replicas are set by Start where the application reads from some; their statements and CPU
	// count as the primary's do.
	Replicas []*harness.Postgres
	// DatabaseURL is for the role app, in the database named like the scenario. WalpurgeURL is for the role walpurge.
	DatabaseURL, WalpurgeURL string
	// Valkey is nil in variant 0.
	Valkey *harness.Valkey
	// Group closes what was started, last first.
	Group *harness.Group
	// WalpurgeBin is the program. WalpurgeAddr is where it listens once the application has started, empty
	// in variants without it.
	WalpurgeBin, WalpurgeAddr string
	// Version is that of walpurge.
	Version string

	database string
	mu       sync.Mutex
	// lost has the last reading of each replica that was lost.
	lost map[*harness.Postgres]reading
}

// Scaled is a duration of the system, compressed by the factor.
func (e *Env) Scaled(d time.Duration) time.Duration { return d / time.Duration(e.Factor) }

// System is a running system under one variant.
type System interface {
	// Next makes a client's next request. One goroutine calls it at a time, with a generator of
	// random numbers that is the same in each variant.
	Next(*rand.Rand) load.Request
	// Write changes something, on the application's main path or, with bypass, by SQL. It returns
	// the versions that were written and the time after COMMIT had returned. Calls may overlap.
	// A write whose answer was lost is looked up in the database, not left out.
	Write(ctx context.Context, r *rand.Rand, bypass bool) ([]oracle.Commit, error)
	// Warm fills the caches before the first stage of a variant with caches, as the team does.
	Warm(ctx context.Context) error
	// Event is what happens once in the middle of Scenario.EventStage.
	Event(ctx context.Context) ([]oracle.Commit, error)
	// KillBetween kills the application between a COMMIT and its deletes, and starts it again. It
	// returns what was committed.
	KillBetween(ctx context.Context) ([]oracle.Commit, error)
	// WalpurgeEnv is the environment of walpurge.yaml beside DATABASE_URL, VALKEY_URL, DATA_DIR,
	// LISTEN and SECOND_PURGE, which the harness sets.
	WalpurgeEnv() []string
	// Facts is called after the last stage of a variant with walpurge, and returns what the common
	// figures do not show.
	Facts(ctx context.Context) ([]results.Fact, error)
}

// Nice is the niceness of the application, the database and the caches, so that requests are sent on
// time also when these have more to do than they can. walpurge runs without it, like the generator:
// in production it has a tenth of a core of its own.
const Nice = 15

// The headers that an application sends to the oracle.
const (
	HeaderShown     = "Shown"
	HeaderWrote     = "Wrote"
	HeaderCommitted = "Committed"
	// HeaderFilled is the number of reads of the database that a response needed. Where an application
	// sends it, hit rates come from it: Valkey counts hashes, but not their fields.
	HeaderFilled = "Filled"
)

// Commits reads what a response says that its request has written; none if it has no such header.
func Commits(h http.Header) ([]oracle.Commit, error) {
	wrote := h.Get(HeaderWrote)
	if wrote == "" {
		return nil, nil
	}
	versions, err := oracle.ParseVersions(wrote)
	if err != nil {
		return nil, err
	}
	at, err := parseNanos(h.Get(HeaderCommitted))
	if err != nil {
		return nil, err
	}
	out := make([]oracle.Commit, len(versions))
	for i, v := range versions {
		out[i] = oracle.Commit{Version: v, At: at}
	}
	return out, nil
}
