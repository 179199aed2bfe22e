package app

import (
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/strictyaml"
	"github.com/walpurge/walpurge/sinks/valkey"
)

const catalog = `rules:
  - name: product
    table: public.products
    keys: ["product:{id}", "fixed"]
    sinks: [cache]
`

func TestFlushPlan(t *testing.T) {
	keys := rules.Kinds(rules.Key, rules.KeyPattern)
	cfg := &config.Config{File: "walpurge.yaml", Sinks: []config.Sink{
		{Name: "cache", Takes: keys},
		{Name: "edge", Takes: rules.Kinds(rules.Tag, rules.Everything), Pos: strictyaml.Pos{Line: 7, Column: 3}},
	}}
	set, err := rules.Parse("rules.yaml", []byte(catalog), rules.Options{Sinks: cfg.Specs()})
	require.NoError(t, err)

	plan, err := flushPlan(cfg, set, 0)
	require.NoError(t, err)
	require.ElementsMatch(t, []rules.Invalidation{
		{Kind: rules.KeyPattern, Value: "product:*", Rule: "flush"}, {Kind: rules.KeyPattern, Value: "fixed", Rule: "flush"},
	}, plan)

	_, err = flushPlan(cfg, set, 1)
	require.EqualError(t, err, "walpurge.yaml:7:3: sink edge cannot be flushed after a gap: add flush: {everything: true}, or flush: {tags: [...]} with a tag that every object carries")

	said := []rules.Invalidation{{Kind: rules.Everything, Rule: "flush"}}
	cfg.Sinks[1].Flush = said
	plan, err = flushPlan(cfg, set, 1)
	require.NoError(t, err)
	require.Equal(t, said, plan)
}

// Every kind of sink that a file can have can be made.
func TestEveryKindOfSinkIsMade(t *testing.T) {
	kinds := 0
	for i := range reflect.TypeFor[config.Sink]().NumField() {
		var s config.Sink
		if f := reflect.ValueOf(&s).Elem().Field(i); f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			made, err := newTarget(s, slog.New(slog.DiscardHandler)) // its settings are missing, which may be an error
			require.NotErrorIs(t, err, errNoConstructor, s.Kind())
			if made.close != nil {
				made.close()
			}
			kinds++
		}
	}
	require.Greater(t, kinds, 5)
	_, err := newTarget(config.Sink{Name: "new"}, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, errNoConstructor)
}

func TestReloadableNamesWhatNeedsARestart(t *testing.T) {
	old := &config.Config{File: "walpurge.yaml", Rules: []string{"a"}, DataDir: "x", Sinks: []config.Sink{{Name: "cache"}}}
	next := *old
	next.Rules = []string{"a", "b"}
	next.Log.JSON = true
	next.Sinks = []config.Sink{{Name: "cache", Pos: strictyaml.Pos{Line: 9}}}
	more, err := reloadable(old, &next)
	require.NoError(t, err)
	require.False(t, more, "rules alone")
	next.Sinks = []config.Sink{{Name: "cache", MaxWait: time.Second}}
	more, err = reloadable(old, &next)
	require.NoError(t, err)
	require.True(t, more)
	next.DataDir = "y"
	_, err = reloadable(old, &next)
	require.EqualError(t, err, "walpurge.yaml: `data_dir` changed, and that needs a restart; a reload takes rules, sinks, stream, drain_timeout and the log level")
}

// Which keys have a tag is not in the rules, so a flush cannot be derived.
func TestFlushPlanOfTagSets(t *testing.T) {
	cfg := &config.Config{File: "walpurge.yaml", Sinks: []config.Sink{
		{Name: "cache", Valkey: &valkey.Config{}, Takes: rules.Kinds(rules.Key, rules.Tag, rules.KeyPattern)},
	}}
	set, err := rules.Parse("rules.yaml", []byte(catalog+"    tags: [\"p-{id}\"]\n"), rules.Options{Sinks: cfg.Specs()})
	require.NoError(t, err)
	_, err = flushPlan(cfg, set, 0)
	require.ErrorContains(t, err, "only the cache knows which keys have a tag; add flush: {key_patterns")
	cfg.Sinks[0].Flush = []rules.Invalidation{{Kind: rules.KeyPattern, Value: "product:*"}}
	_, err = flushPlan(cfg, set, 0)
	require.NoError(t, err)
}

// A check asks for the permissions of what the rules and the flush need.
func TestUsedKinds(t *testing.T) {
	s := config.Sink{Valkey: &valkey.Config{}}
	generations := rules.Kinds(rules.Generation)
	require.Equal(t, generations, used(s, generations, []rules.Invalidation{{Kind: rules.Generation}}).Valkey.Uses)
	require.Equal(t, rules.Kinds(rules.Key, rules.KeyPattern), used(s, rules.Kinds(rules.Key), nil).Valkey.Uses)
	require.Zero(t, s.Valkey.Uses, "what the daemon runs is left alone")
}

// Large transactions need room, which a directory for temporary files may lack.
func TestSpoolLiesInDataDir(t *testing.T) {
	dir := t.TempDir()
	blocked := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(blocked, nil, 0o600))
	for data, want := range map[string]string{filepath.Join(dir, "data"): filepath.Join(dir, "data", "spool"), blocked: os.TempDir()} {
		require.Equal(t, want, spoolDir(&config.Config{DataDir: data, NATS: config.NATS{URL: "nats://127.0.0.1:1"}}))
	}
}
