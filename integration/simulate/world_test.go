package simulate

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// world is all that is not the daemon, and survives it: the database, the disk, the
// caches. Everything in it is guarded by mu; what changes it closes changed.
type world struct {
	t    testing.TB
	seed uint64
	// steps decides what happens next, rnd how the world answers. Only rnd is shared
	// with the daemon's goroutines.
	steps *rand.Rand

	mu      sync.Mutex
	rnd     *rand.Rand
	changed chan struct{}
	clock   int     // counts events; what begins later has a larger number
	calm    bool    // nothing fails any more
	last    cdc.LSN // the end of the log when calm came
	db      database
	disk    disk
	proof   proof
	// down is since when on the clock of the bubble each sink takes again the kinds in refuses.
	down    map[string]time.Time
	refuses map[string]invalidation.KindSet
	// manual has the manual purges of each sink, the first manualDone of them acknowledged.
	manual     map[string][]*invalidation.Batch
	manualDone map[string]int
	maxByte    int64
	began      time.Time
	tally      tally
	events     []string
}

// note keeps what happened for the report of a failure. mu is held.
func (w *world) note(format string, args ...any) {
	w.events = append(w.events, fmt.Sprintf("%9.3fs ", time.Since(w.began).Seconds())+fmt.Sprintf(format, args...))
}

// tally counts what the schedules did, so that a simulation of nothing is noticed.
type tally struct{ commits, purges, crashes, cuts, lost, refused, unheard, full, parked, gaps, trades, streamed int }

func (t *tally) add(u tally) {
	t.commits, t.purges, t.crashes, t.cuts, t.lost = t.commits+u.commits, t.purges+u.purges, t.crashes+u.crashes, t.cuts+u.cuts, t.lost+u.lost
	t.refused, t.unheard, t.full, t.parked = t.refused+u.refused, t.unheard+u.unheard, t.full+u.full, t.parked+u.parked
	t.gaps, t.trades, t.streamed = t.gaps+u.gaps, t.trades+u.trades, t.streamed+u.streamed
}

// firstLSN is where the slot begins.
const firstLSN = 1000

func newWorld(t testing.TB, seed uint64) *world {
	w := &world{
		t: t, seed: seed, changed: make(chan struct{}),
		steps: rand.New(rand.NewPCG(seed, 1)), rnd: rand.New(rand.NewPCG(seed, 2)),
	}
	w.maxByte = []int64{1 << 20, 64 << 10, 16 << 10}[seed%3]
	w.began = time.Now()
	w.manual, w.manualDone = map[string][]*invalidation.Batch{}, map[string]int{}
	w.down, w.refuses = map[string]time.Time{}, map[string]invalidation.KindSet{}
	w.db = database{lsn: firstLSN, xid: 700, slot: slot{born: firstLSN, confirmed: firstLSN, sent: firstLSN}, byXID: map[uint64]*txn{}}
	w.disk = disk{files: map[string]*file{}, floors: map[string]uint64{}}
	w.proof = proof{lacks: map[string]map[string][]*need{}}
	for _, s := range sinkNames {
		w.proof.lacks[s] = map[string][]*need{}
	}
	return w
}

// failf reports a broken promise, once, with what replays it.
func (w *world) failf(format string, args ...any) {
	w.t.Logf("seed %d, what came before:\n%s", w.seed, strings.Join(w.events[max(0, len(w.events)-100):], "\n"))
	w.t.Errorf("seed %d: "+format+"\nreplay: WALPURGE_SEED=%d go test -tags failpoints -count 20 -failfast -run '^%s$' ./integration/simulate",
		append(append([]any{w.seed}, args...), w.seed, "TestSimulation")...)
}

func (w *world) tick() int { w.clock++; return w.clock }

func (w *world) wake() {
	close(w.changed)
	w.changed = make(chan struct{})
}

// one reports true once in n, and never when the world is calm. mu is held.
func (w *world) one(n int) bool { return !w.calm && w.rnd.IntN(n) == 0 }

// takes draws how long a call lasts. mu is held.
func (w *world) takes(upTo time.Duration) time.Duration {
	if w.calm {
		return time.Millisecond
	}
	return time.Duration(w.rnd.Int64N(int64(upTo) + 1))
}

func at(lsn cdc.LSN) cdc.Position { return cdc.Position{SystemID: "1", Timeline: 1, LSN: lsn} }

// The tables, by OID, and what the rules make of a row of each for every sink. The oracle
// has this by itself, and not from package rules.
var tables = []string{"products", "categories", "prices"}

var sinkNames = []string{"cache", "edge", "hook"}

const rulesYAML = `rules:
  - {name: product, table: public.products, keys: ["product:{id}"], tags: ["product-{id}"], sinks: [cache, edge]}
  - {name: category, table: public.categories, keys: ["category:{id}"], tags: ["category-{id}"], sinks: [cache, edge]}
  - {name: category-hook, table: public.categories, keys: ["category:{id}"], sinks: [hook]}
  - {name: price, table: public.prices, keys: ["price:{id}"], sinks: [hook]}
  - {name: all-prices, table: public.prices, generations: [prices], sinks: [cache], every: 1s}
  - {name: price-page, table: public.prices, generations: ["price-{id}"], sinks: [edge]}
`

func wanted(table, id int) map[string]string {
	switch table {
	case 0:
		return map[string]string{"cache": fmt.Sprintf("product:%d", id), "edge": fmt.Sprintf("product-%d", id)}
	case 1:
		key := fmt.Sprintf("category:%d", id)
		return map[string]string{"cache": key, "edge": fmt.Sprintf("category-%d", id), "hook": key}
	}
	return map[string]string{"cache": "prices", "edge": fmt.Sprintf("price-%d", id), "hook": fmt.Sprintf("price:%d", id)}
}
