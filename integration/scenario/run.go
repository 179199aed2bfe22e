package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario/load"
	"github.com/walpurge/walpurge/integration/scenario/results"
)

// Options say how to run a scenario.
type Options struct {
	// Root is the repository, Walpurge the program, Version its version.
	Root, Walpurge, Version string
	// Out receives a line for each step.
	Out io.Writer
	// Only names the variants to run; nil runs all of them, the points of the chart and the cost.
	Only []string
	// Shorten divides the length of all stages, to try a scenario; 0 is 1. Such a run is void.
	Shorten int
	// Alternations of variants 1 and 3 in the gate; 0 is 3.
	Alternations int
	// Edits change files of the example before it is built, to seed a regression.
	Edits []Edit
}

// Edit replaces a text, which File holds exactly once.
type Edit struct {
	// File is relative to deploy/examples/NAME.
	File, Old, New string
}

// calibration is how long variant 0 is measured, and workers send at a time.
const (
	calibration = 10 * time.Second
	workers     = 32
)

// runner holds what all variants of a run share.
type runner struct {
	sc    Scenario
	opt   Options
	dir   string
	build Build
	// seeded is a stopped cluster that each variant gets a copy of.
	seeded string
}

// Run runs the variants of a scenario, one after the other, on servers of its own. It blocks until
// all have ended, and leaves no process and no directory behind, also when ctx ends before.
func Run(ctx context.Context, sc Scenario, opt Options) (out results.Results, err error) {
	if opt.Shorten == 0 {
		opt.Shorten = 1
	}
	var group harness.Group
	defer func() { err = errors.Join(err, group.Close()) }()
	r, err := prepare(ctx, sc, opt, &group)
	if err != nil {
		return out, err
	}
	begun := time.Now()
	out = results.Results{
		Schema: results.Schema, Scenario: sc.Name, Who: sc.Who, Version: opt.Version, Started: begun.UTC().Truncate(time.Second),
		Cores: runtime.NumCPU(), Factor: sc.Factor, Peak: sc.peak(),
	}
	variants := sc.variants()
	if out.Capacity, err = r.calibrate(ctx, variants[0]); err != nil {
		return out, err
	}
	r.say("variant 0 sustains %.0f requests a second; the time factor is %d", out.Capacity, sc.Factor)
	var stages []Timed
	for _, s := range sc.Stages {
		stages = append(stages, Timed{Name: s.Name, Rate: s.Share * out.Capacity, Lasting: s.Lasting / time.Duration(opt.Shorten)})
	}
	var cost results.Cost
	for _, v := range variants {
		if opt.Only != nil && !slices.Contains(opt.Only, v.Name) {
			continue
		}
		measured, used, err := r.variant(ctx, v, stages)
		if err != nil {
			return out, fmt.Errorf("variant %s: %w", v.Name, err)
		}
		out.Variants = append(out.Variants, measured)
		if v.Walpurge {
			cost.WalpurgeCPU, cost.WalsenderCPU, cost.WalpurgeMemory = used.walpurge, used.walsender, used.memory
		}
	}
	if out.Rollouts, err = r.rollouts(ctx, stages); err != nil {
		return out, err
	}
	if opt.Only == nil {
		if out.Points, err = r.points(ctx, stages); err != nil {
			return out, err
		}
		if err := r.cost(ctx, &cost); err != nil {
			return out, fmt.Errorf("cost: %w", err)
		}
		out.Cost = &cost
	}
	r.judge(&out)
	out.Seconds = time.Since(begun).Round(time.Second).Seconds()
	out.Void = results.Void(out)
	if opt.Shorten > 1 {
		out.Void = append(out.Void, fmt.Sprintf("stages were shortened to a part in %d", opt.Shorten))
	}
	return out, nil
}

// judge adds the facts that follow from the figures of all variants to those of walpurge.
func (r *runner) judge(out *results.Results) {
	at := slices.IndexFunc(out.Variants, func(v results.Variant) bool { return v.Name == "3" })
	if r.sc.Judge == nil || at < 0 {
		return
	}
	for _, f := range r.sc.Judge(*out) {
		out.Variants[at].Facts = append(out.Variants[at].Facts, f)
		r.say("%-9s %s: %s", "3", f.Claim, f)
	}
}

// Timed is a stage with its rate.
type Timed struct {
	Name    string
	Rate    float64
	Lasting time.Duration
}

// prepare copies the example's files, builds the application, and makes the seeded cluster.
func prepare(ctx context.Context, sc Scenario, opt Options, group *harness.Group) (*runner, error) {
	dir, err := os.MkdirTemp("", "walpurge-scenario-")
	if err != nil {
		return nil, err
	}
	group.Add("directory", func() error { return os.RemoveAll(dir) })
	// The account of PostgreSQL passes through.
	if err := os.Chmod(dir, 0o711); err != nil {
		return nil, err
	}
	r := &runner{sc: sc, opt: opt, dir: dir, build: Build{Root: opt.Root, Files: filepath.Join(dir, "files"), Built: filepath.Join(dir, "built")}}
	if _, err := harness.FindValkey(); err != nil {
		return nil, err
	}
	if err := os.Mkdir(r.build.Built, 0o755); err != nil {
		return nil, err
	}
	if err := copyExample(filepath.Join(opt.Root, "deploy", "examples", sc.Name), r.build.Files, opt.Edits); err != nil {
		return nil, err
	}
	r.say("%s: building the application", sc.Name)
	if err := sc.Prepare(ctx, r.build); err != nil {
		return nil, err
	}
	r.say("%s: making the database", sc.Name)
	return r, r.seed(ctx)
}

func (r *runner) say(format string, args ...any) { fmt.Fprintf(r.opt.Out, format+"\n", args...) }

// copyExample copies the files of an example, and applies the edits.
func copyExample(from, to string, edits []Edit) error {
	err := filepath.WalkDir(from, func(path string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		switch {
		case d.IsDir() && (d.Name() == "node_modules" || d.Name() == "__pycache__"):
			return filepath.SkipDir
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), raw, 0o644)
	})
	if err != nil {
		return err
	}
	for _, e := range edits {
		path := filepath.Join(to, filepath.FromSlash(e.File))
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n := strings.Count(string(raw), e.Old); n != 1 {
			return fmt.Errorf("%s holds %q %d times, want once", e.File, e.Old, n)
		}
		if err := os.WriteFile(path, []byte(strings.Replace(string(raw), e.Old, e.New, 1)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// postgres returns the settings of every database server of the run. fsync is on: the writer's
// commit latency is one of the figures.
func (r *runner) postgres() map[string]string {
	settings := map[string]string{
		"fsync": "on", "shared_buffers": "256MB", "max_wal_size": "2GB", "logical_decoding_work_mem": "64MB", "max_connections": "200",
		"shared_preload_libraries": "pg_stat_statements", "pg_stat_statements.track_utility": "off",
	}
	for name, value := range r.sc.Postgres {
		settings[name] = value
	}
	return settings
}

// seed makes the cluster that each variant gets a copy of.
func (r *runner) seed(ctx context.Context) (err error) {
	pg, err := harness.StartPostgres(ctx, harness.PostgresConfig{Dir: filepath.Join(r.dir, "seed"), Settings: r.postgres()})
	if err != nil {
		if strings.Contains(err.Error(), "pg_stat_statements") {
			err = fmt.Errorf("%w\npg_stat_statements is missing: run `apt-get install postgresql-contrib`", err)
		}
		return err
	}
	defer func() { err = errors.Join(err, pg.Close()) }()
	if err := pg.Exec(ctx, "postgres", "CREATE DATABASE "+strconv.Quote(r.sc.Name)); err != nil {
		return err
	}
	if err := pg.Exec(ctx, r.sc.Name, "CREATE EXTENSION pg_stat_statements"); err != nil {
		return fmt.Errorf("%w: run `apt-get install postgresql-contrib`", err)
	}
	for _, file := range []string{"schema.sql", "seed.sql"} {
		sql, err := os.ReadFile(filepath.Join(r.build.Files, file))
		if err != nil {
			return err
		}
		if err := pg.Exec(ctx, r.sc.Name, string(sql)); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	if err := pg.Exec(ctx, r.sc.Name, "VACUUM ANALYZE"); err != nil {
		return err
	}
	if _, err := pg.Stop(ctx, harness.Fast); err != nil {
		return err
	}
	r.seeded = pg.DataDir()
	return nil
}

// calibrate returns the requests a second that the variant without a cache sustains, beside the
// writes.
func (r *runner) calibrate(ctx context.Context, v Variant) (rate float64, err error) {
	run, err := r.start(ctx, v)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, run.close()) }()
	writes := run.writes(ctx, calibration/time.Duration(r.opt.Shorten))
	g := load.Generator{Next: run.system.Next, Seed: 1, Observe: func(load.Result) {}}
	rate, err = g.Closed(ctx, workers, calibration/time.Duration(r.opt.Shorten))
	return rate, errors.Join(err, writes())
}

// variant runs all stages of one variant.
func (r *runner) variant(ctx context.Context, v Variant, stages []Timed) (out results.Variant, used used, err error) {
	run, err := r.start(ctx, v)
	if err != nil {
		return out, used, err
	}
	defer func() { err = errors.Join(err, run.close()) }()
	out = results.Variant{Name: v.Name, Title: v.Title}
	for i, t := range stages {
		s, u, err := run.stage(ctx, t, v.Kill && i == 0)
		if err != nil {
			return out, used, fmt.Errorf("stage %s: %w", t.Name, err)
		}
		out.Stages = append(out.Stages, s)
		if t.Name == r.sc.peak() {
			used = u
		}
		hit := "-" // nothing is cached
		if s.HitRate >= 0 {
			hit = fmt.Sprintf("%.1f%%", 100*s.HitRate)
		}
		r.say("%-9s %-9s %5.0f/s  hit %6s  queries/request %.2f  stale %6.3f%%  over 1 s %6.3f%%  errors %d  late %d",
			v.Name, t.Name, t.Rate, hit, s.QueriesPerReq, 100*s.Stale.Share(), 100*s.Stale.ShareOver1s(), s.Errors, s.Late)
	}
	if v.Walpurge {
		if out.Facts, err = run.system.Facts(ctx); err != nil {
			return out, used, fmt.Errorf("facts: %w", err)
		}
		for _, f := range out.Facts {
			r.say("%-9s %s: %s", v.Name, f.Claim, f)
		}
	}
	return out, used, nil
}

// rollouts measures walpurge at the peak, with a part of the values.
func (r *runner) rollouts(ctx context.Context, stages []Timed) (out []results.Variant, err error) {
	at := slices.IndexFunc(stages, func(t Timed) bool { return t.Name == r.sc.peak() })
	variants := r.sc.variants()
	whole := variants[slices.IndexFunc(variants, func(v Variant) bool { return v.Walpurge })]
	for _, percent := range r.sc.Rollouts {
		v := whole
		v.Name, v.Title, v.Rollout = fmt.Sprintf("3@%d", percent), fmt.Sprintf("%s, rollout %d %%", whole.Title, percent), percent
		if r.opt.Only != nil && !slices.Contains(r.opt.Only, v.Name) {
			continue
		}
		measured, _, err := r.variant(ctx, v, stages[at:at+1])
		if err != nil {
			return out, fmt.Errorf("%s: %w", v.Title, err)
		}
		out = append(out, measured)
	}
	return out, nil
}

// peak is the stage that charts and tables show: PeakStage, else the one with the event, else the one at 60 %.
func (sc Scenario) peak() string {
	if stage := cmp.Or(sc.PeakStage, sc.EventStage); stage != "" {
		return stage
	}
	at := slices.IndexFunc(sc.Stages, func(s Stage) bool { return s.Share == 0.6 })
	return sc.Stages[max(0, at)].Name
}

// points measures TTL alone with other TTLs, at the peak.
func (r *runner) points(ctx context.Context, stages []Timed) (out []results.Point, err error) {
	at := slices.IndexFunc(stages, func(t Timed) bool { return t.Name == r.sc.peak() })
	for _, ttl := range r.sc.TTLs {
		v := Variant{Name: "1", Title: "TTL " + ttl.String(), Cache: true, TTL: ttl, Bypass: r.sc.Bypass}
		measured, _, err := r.variant(ctx, v, stages[at:at+1])
		if err != nil {
			return out, fmt.Errorf("%s: %w", v.Title, err)
		}
		out = append(out, results.PointOf("TTL "+strconv.Itoa(int(ttl.Seconds()))+" s", measured.Stages[0]))
	}
	return out, nil
}
