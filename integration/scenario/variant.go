package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario/load"
	"github.com/walpurge/walpurge/integration/scenario/oracle"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// running is one variant with its servers.
type running struct {
	sc     Scenario
	env    *Env
	group  harness.Group
	system System
	// walpurge is nil where the variant has none.
	walpurge *harness.Program
	oracle   oracle.Oracle
	// random decides what is written, the same in each variant.
	random *rand.Rand
}

// start starts the servers of a variant, the application, and walpurge if it has one, and warms
// the caches. After an error nothing is left running.
func (r *runner) start(ctx context.Context, v Variant) (_ *running, err error) {
	dir, err := os.MkdirTemp(r.dir, "v")
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	run := &running{sc: r.sc, random: rand.New(rand.NewPCG(2, 0))}
	defer func() {
		if err != nil {
			err = errors.Join(err, run.close())
		}
	}()
	run.group.Add("directory", func() error { return os.RemoveAll(dir) })
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{Dir: filepath.Join(dir, "postgres"), Template: r.seeded, Settings: r.postgres(), Nice: Nice})
	if err != nil {
		return nil, err
	}
	run.group.Add("PostgreSQL", pg.Close)
	run.env = &Env{
		Variant: v, Factor: r.sc.Factor, Build: r.build, Dir: dir, Postgres: pg, Group: &run.group,
		DatabaseURL: pg.URL(r.sc.Name, "app"), WalpurgeURL: pg.URL(r.sc.Name, "walpurge"), WalpurgeBin: r.opt.Walpurge, Version: r.opt.Version, database: r.sc.Name,
	}
	if v.Cache {
		if run.env.Valkey, err = harness.StartValkey(ctx, harness.ValkeyConfig{Dir: filepath.Join(dir, "valkey"), Nice: Nice, Args: r.sc.Valkey}); err != nil {
			return nil, err
		}
		run.group.Add("Valkey", run.env.Valkey.Close)
	}
	if v.Walpurge {
		port, err := harness.FreePort()
		if err != nil {
			return nil, err
		}
		run.env.WalpurgeAddr = "127.0.0.1:" + strconv.Itoa(port)
	}
	if run.system, err = r.sc.Start(ctx, run.env); err != nil {
		return nil, fmt.Errorf("start the application: %w", err)
	}
	if v.Walpurge {
		if err := run.startWalpurge(ctx); err != nil {
			return nil, err
		}
	}
	if v.Cache {
		if err := run.system.Warm(ctx); err != nil {
			return nil, fmt.Errorf("warm the caches: %w", err)
		}
	}
	return run, nil
}

func (run *running) close() error { return run.group.Close() }

// startWalpurge sets up the slot as a superuser and starts the daemon as its own role.
func (run *running) startWalpurge(ctx context.Context) error {
	env := append([]string{
		"VALKEY_URL=" + run.env.Valkey.URL(), "DATA_DIR=" + filepath.Join(run.env.Dir, "walpurge"), "LISTEN=" + run.env.WalpurgeAddr,
		"SECOND_PURGE=" + run.env.Scaled(2*time.Second).String(),
	}, run.system.WalpurgeEnv()...)
	file := filepath.Join(run.env.Files, "walpurge.yaml")
	setup := exec.CommandContext(ctx, run.env.WalpurgeBin, "setup", "-c", file)
	setup.Env = append(append(os.Environ(), env...), "DATABASE_URL="+run.env.Postgres.URL(run.sc.Name))
	if out, err := setup.CombinedOutput(); err != nil {
		return fmt.Errorf("walpurge setup: %w: %s", err, out)
	}
	var err error
	run.walpurge, err = harness.StartProgram(ctx, harness.ProgramConfig{
		Name: "walpurge", Path: run.env.WalpurgeBin, Args: []string{"run", "-c", file}, Dir: run.env.Files, LogDir: run.env.Dir,
		Env: append(env, "DATABASE_URL="+run.env.WalpurgeURL), Ready: run.streaming,
	})
	if err != nil {
		return err
	}
	run.group.Add("walpurge", run.walpurge.Close)
	return nil
}

// streaming returns nil when walpurge reads the slot.
func (run *running) streaming(ctx context.Context) error {
	var s struct {
		Reader struct{ State string }
	}
	raw, err := fetch(ctx, "http://"+run.env.WalpurgeAddr+"/api/v1/status")
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	if s.Reader.State != "streaming" {
		return fmt.Errorf("walpurge is %s", s.Reader.State)
	}
	return nil
}

// writes lets System.Write change rows at the scenario's rate for the given time. The function that
// it returns waits until all are done, and returns the first error. A write that fails is an
// error of the run: without its versions the oracle would know too little.
func (run *running) writes(ctx context.Context, lasting time.Duration) func() error {
	rate := run.sc.Writes * float64(run.sc.Factor)
	var all sync.WaitGroup
	var failed atomic.Pointer[error]
	// Drawn before, so that writes that overlap do not share a generator.
	type write struct {
		due    time.Duration
		seed   uint64
		bypass bool
	}
	var due []write
	for i := range int(rate * lasting.Seconds()) {
		due = append(due, write{time.Duration(float64(i) / rate * float64(time.Second)), run.random.Uint64(), run.random.Float64() < run.env.Variant.Bypass})
	}
	begun := time.Now()
	all.Go(func() {
		for _, w := range due {
			select {
			case <-time.After(time.Until(begun.Add(w.due))):
			case <-ctx.Done():
				return
			}
			all.Go(func() {
				commits, err := run.system.Write(ctx, rand.New(rand.NewPCG(w.seed, 0)), w.bypass)
				run.oracle.Committed(commits...)
				if err != nil && ctx.Err() == nil {
					err = fmt.Errorf("write: %w", err)
					failed.CompareAndSwap(nil, &err)
				}
			})
		}
	})
	return func() error {
		all.Wait()
		if err := failed.Load(); err != nil {
			return *err
		}
		return ctx.Err()
	}
}

// stage runs one stage and returns its figures.
func (run *running) stage(ctx context.Context, t Timed, kill bool) (out results.Stage, u used, err error) {
	before, err := run.count(ctx)
	if err != nil {
		return out, u, err
	}
	var mu sync.Mutex
	var all []load.Result
	var hits hits
	header := run.sc.EdgeHeader
	if header == "" {
		header = "X-Cache"
	}
	var problem error
	observe := func(r load.Result) {
		commits, err := Commits(r.Header)
		run.oracle.Committed(commits...)
		shown, err2 := oracle.ParseVersions(r.Header.Get(HeaderShown))
		if r.Status == http.StatusOK && len(shown) > 0 {
			run.oracle.Responded(oracle.Response{Sent: r.Sent, Group: r.Endpoint, Shown: shown})
		}
		mu.Lock()
		defer mu.Unlock()
		problem = errors.Join(problem, err, err2)
		if slices.Contains(run.sc.Cacheable, r.Endpoint) {
			hits.add(r.Header.Get(header), r.Header.Get(HeaderFilled))
		}
		r.Header = nil
		all = append(all, r)
	}
	wait := run.writes(ctx, t.Lasting)
	var beside sync.WaitGroup
	var besideErr error
	if t.Name == run.sc.EventStage || kill {
		beside.Go(func() {
			select {
			case <-time.After(t.Lasting / 2):
			case <-ctx.Done():
				return
			}
			happen := run.system.Event
			if kill {
				happen = run.system.KillBetween
			}
			commits, err := happen(ctx)
			run.oracle.Committed(commits...)
			besideErr = err
		})
	}
	g := load.Generator{Next: run.system.Next, Seed: 3, Observe: observe}
	err = g.Open(ctx, t.Rate, t.Lasting)
	beside.Wait()
	err = errors.Join(err, wait(), besideErr, problem)
	if err != nil {
		return out, u, err
	}
	after, err := run.count(ctx)
	if err != nil {
		return out, u, err
	}
	out = results.StageOf(t.Name, t.Rate, t.Lasting, samples(all))
	out.Writes = int(run.sc.Writes * float64(run.sc.Factor) * t.Lasting.Seconds())
	stale, groups := run.oracle.Judge()
	out.Stale = stale
	for i := range out.Endpoints {
		out.Endpoints[i].Stale = groups[out.Endpoints[i].Name]
	}
	return run.compare(out, before, after, hits), before.until(after), nil
}

// hits counts where responses came from.
type hits struct {
	// edge responses were made by the edge; inside are those of an application that says how many
	// reads of the database each needed, of which filled needed one at least.
	edge, inside, filled int
}

// add counts a response by its headers. UPDATING is a response that the edge serves while it fetches
// another one (stale-while-revalidate).
func (h *hits) add(edge, filled string) {
	switch {
	case strings.EqualFold(edge, "HIT"), strings.EqualFold(edge, "UPDATING"):
		h.edge++
	case filled != "":
		h.inside++
		if filled != "0" {
			h.filled++
		}
	}
}

// samples reduces results to what figures are made of.
func samples(all []load.Result) []results.Sample {
	out := make([]results.Sample, len(all))
	for i, r := range all {
		out[i] = results.Sample{Endpoint: r.Endpoint, Latency: r.Latency(), Failed: r.Failed(), Late: r.Late()}
	}
	return out
}

// compare adds what counters say between two readings.
func (run *running) compare(out results.Stage, before, after counters, found hits) results.Stage {
	cacheable := 0
	for _, e := range out.Endpoints {
		if slices.Contains(run.sc.Cacheable, e.Name) {
			cacheable += e.Requests
		}
	}
	out.HitRate, out.ValkeyHitRate, out.EdgeHitRate = -1, -1, -1
	if run.env.Variant.Cache && cacheable > 0 {
		hits, misses := float64(after.valkeyHits-before.valkeyHits), float64(after.valkeyMisses-before.valkeyMisses)
		out.HitRate = 1 - misses/float64(cacheable)
		out.EdgeHitRate = float64(found.edge) / float64(cacheable)
		switch {
		case found.inside > 0:
			out.HitRate = 1 - float64(found.filled)/float64(cacheable)
			out.ValkeyHitRate = 1 - float64(found.filled)/float64(found.inside)
		case hits+misses > 0:
			out.ValkeyHitRate = hits / (hits + misses)
		}
	}
	out.Queries = after.queries["app"] - before.queries["app"]
	out.QueriesPerReq = float64(out.Queries) / float64(max(1, out.Requests))
	out.WalpurgeQueries = after.queries["walpurge"] - before.queries["walpurge"]
	out.PostgresCPU = (after.postgres - before.postgres).Seconds()
	for sink, calls := range after.calls {
		if out.APICalls == nil {
			out.APICalls = map[string]int{}
		}
		out.APICalls[sink] = calls - before.calls[sink]
	}
	for _, sink := range slices.Sorted(maps.Keys(after.latency)) {
		if out.Purges == nil {
			out.Purges = map[string]results.Purges{}
		}
		out.Purges[sink] = results.PurgesOf(after.latency[sink].Minus(before.latency[sink]))
	}
	return out
}
