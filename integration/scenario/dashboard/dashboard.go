package dashboard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/walpurge/walpurge/integration/harness"
	"github.com/walpurge/walpurge/integration/scenario"
	"github.com/walpurge/walpurge/integration/scenario/load"
)

const (
	factor = 40
	// ttl of a summary; from refreshFrom on a reader has it made again in the background.
	ttl         = 5 * time.Minute
	refreshFrom = 4 * time.Minute
	// secondPurge is not scaled, because readers are as slow as they are.
	secondPurge = 500 * time.Millisecond
)

// The stages.
const (
	peak   = "peak"
	outage = "Valkey killed"
	double = "2 x peak"
)

// Scenario is the dashboard API and its load.
func Scenario() scenario.Scenario {
	// Three of the shortest time to live, five minutes.
	const lasting = 3 * ttl / factor
	return scenario.Scenario{
		Name:   "dashboard",
		Who:    "A dashboard API: Python and redis-py; preferences live for 24 hours, summaries for five minutes with refresh in the background, live data is not cached.",
		Factor: factor,
		Stages: []scenario.Stage{
			{Name: peak, Share: 0.6, Lasting: lasting},
			{Name: outage, Share: 0.6, Lasting: lasting},
			{Name: double, Share: 1.2, Lasting: lasting},
		},
		Writes:     0.5,
		Bypass:     0.1,
		Cacheable:  []string{preferences, summary},
		PeakStage:  peak,
		EventStage: outage,
		KeepTTL:    true,
		// What it holds is there again after a crash, with entries whose deletes were lost.
		Valkey: []string{"--appendonly", "yes"},
		TTLs:   []time.Duration{time.Second, 5 * time.Second, 30 * time.Second, 300 * time.Second},
		Cost: scenario.CostUpdate{
			Table: "public.preferences",
			One:   "UPDATE preferences SET theme = CASE theme WHEN 'dark' THEN 'light' ELSE 'dark' END WHERE user_id = $1", Keys: users,
			Many: "UPDATE preferences SET theme = CASE theme WHEN 'dark' THEN 'light' ELSE 'dark' END",
		},
		Gate:     scenario.GateLoad{Rate: 100, Lasting: 6 * time.Second},
		Prepare:  prepare,
		Start:    start,
		Rollouts: []int{10, 50},
		Judge:    judge,
	}
}

// modules are what the application imports from packages of the distribution.
var modules = []string{"flask", "waitress", "redis", "psycopg2", "prometheus_client"}

// prepare says what is missing. Python compiles nothing before it runs.
func prepare(ctx context.Context, _ scenario.Build) error {
	_, err := harness.FindPython(ctx, modules...)
	_, err2 := findPrometheus()
	return errors.Join(err, err2)
}

// system is the application under one variant.
type system struct {
	env    *scenario.Env
	app    *harness.Program
	url    string
	client *http.Client
	// prometheus is nil where walpurge does not run for all values.
	prometheus *prometheus
	// killed: Valkey was killed, and runs again.
	killed bool
}

func start(ctx context.Context, env *scenario.Env) (scenario.System, error) {
	s := &system{env: env, client: &http.Client{Timeout: 20 * time.Second}}
	env.Group.Add("client", func() error { s.client.CloseIdleConnections(); return nil })
	python, err := harness.FindPython(ctx, modules...)
	if err != nil {
		return nil, err
	}
	port, err := harness.FreePort()
	if err != nil {
		return nil, err
	}
	s.url = "http://127.0.0.1:" + strconv.Itoa(port)
	s.app, err = harness.StartProgram(ctx, harness.ProgramConfig{
		Name: "dashboard", Path: python, Args: []string{"-B", filepath.Join(env.Files, "app", "main.py")}, Dir: env.Files, LogDir: env.Dir,
		Env: s.settings(port), Ready: s.ready, Nice: scenario.Nice,
	})
	if err != nil {
		return nil, err
	}
	// It holds nothing that it would have to finish.
	env.Group.Add("dashboard", s.app.Kill)
	if env.Variant.Walpurge && env.Variant.Rollout == 0 {
		s.prometheus, err = startPrometheus(ctx, env, s.client, strings.TrimPrefix(s.url, "http://"))
	}
	return s, err
}

// settings are the environment of the application.
func (s *system) settings(port int) []string {
	v := s.env.Variant
	out := []string{"PORT=" + strconv.Itoa(port), "DATABASE_URL=" + s.env.DatabaseURL}
	switch {
	case !v.Cache:
		return append(out, "CACHE=none")
	case v.Walpurge:
		out = append(out, "CACHE=walpurge", "WALPURGE_URL=http://"+s.env.WalpurgeAddr, rolledOut(v), "CAUTIOUS_TTL="+s.milliseconds(30*time.Second), inMilliseconds("SECOND_PURGE", secondPurge))
	case v.Deletes:
		out = append(out, "CACHE=deletes")
	default:
		out = append(out, "CACHE=ttl")
	}
	of := func(own time.Duration) string {
		if v.TTL > 0 {
			own = min(own, v.TTL)
		}
		return s.milliseconds(own)
	}
	return append(out, "VALKEY_ADDR="+s.env.Valkey.Addr(),
		"PREFERENCES_TTL="+of(24*time.Hour), "SUMMARY_TTL="+of(ttl), "SUMMARY_REFRESH="+s.milliseconds(refreshFrom))
}

// milliseconds of a duration of the system, compressed.
func (s *system) milliseconds(d time.Duration) string {
	return strconv.FormatInt(s.env.Scaled(d).Milliseconds(), 10)
}

func inMilliseconds(name string, d time.Duration) string {
	return fmt.Sprintf("%s=%d", name, d.Milliseconds())
}

// rolledOut is the variable that the application and walpurge.yaml have the percentage from.
func rolledOut(v scenario.Variant) string {
	if v.Rollout == 0 {
		return "ROLLOUT=100"
	}
	return "ROLLOUT=" + strconv.Itoa(v.Rollout)
}

// ready returns nil when the application answers with a row.
func (s *system) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	_, _, err := s.call(ctx, http.MethodGet, "/up", "")
	return err
}

// WalpurgeEnv is of walpurge.yaml.
func (s *system) WalpurgeEnv() []string {
	return []string{rolledOut(s.env.Variant), "SECOND_PURGE=" + secondPurge.String()}
}

// Next makes a user's next request.
func (s *system) Next(r *rand.Rand) load.Request { return next(r, s.url) }

// Warm reads what the busiest half of the users and accounts see.
func (s *system) Warm(ctx context.Context) error {
	for id := range users / 2 {
		if _, _, err := s.call(ctx, http.MethodGet, fmt.Sprintf("/users/%d/preferences", id+1), ""); err != nil {
			return err
		}
	}
	for id := range accounts / 2 {
		if _, _, err := s.call(ctx, http.MethodGet, fmt.Sprintf("/accounts/%d/summary", id+1), ""); err != nil {
			return err
		}
	}
	return nil
}
