package app

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
)

const reloadFile = `pipeline: shop
rules: [rules/*.yaml]
data_dir: data
postgres: {url: "postgres://db/shop"}
sinks:
  cache:
    valkey: {url: "valkey://cache:6379/0"}
  edge:
    fastly: {service_id: SU1Z0isxPaozGVKXdv0eY, api_token_file: token}
    after: [cache]
    flush: {everything: true}
http: {listen: "127.0.0.1:7468"}
`

// TestReloadable edits the files of a pipeline and asks what a reload makes of each: take the
// rules, exchange the pipeline for another one, or refuse it all.
func TestReloadable(t *testing.T) {
	dir := t.TempDir()
	load := func(t *testing.T, file, rules string) (*config.Config, error) {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, "rules"), 0o755))
		for name, text := range map[string]string{"walpurge.yaml": file, "rules/catalog.yaml": rules} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		}
		return config.Load(filepath.Join(dir, "walpurge.yaml"), config.Options{})
	}
	const rules = "rules:\n  - {name: product, table: public.products, keys: [\"product:{id}\"]}\n"
	const restart = " changed, and that needs a restart; a reload takes rules, sinks, stream, drain_timeout and the log level"
	old, err := load(t, reloadFile, rules)
	require.NoError(t, err)
	for _, c := range []struct {
		name     string
		old, new string // in walpurge.yaml, or else in the rules
		more     bool
		wrong    string
	}{
		{name: "nothing"},
		{name: "comment that moves every position", old: "pipeline:", new: "# a comment\npipeline:"},
		{name: "rules", old: "product:{id}", new: "p:{id}"},
		{name: "log level", old: "http:", new: "log: {level: debug}\nhttp:"},

		{name: "limit of a sink", old: "    after: [cache]", new: "    after: [cache]\n    max_wait: 1m", more: true},
		{name: "new sink", old: "  edge:\n", new: "  other:\n    valkey: {url: \"valkey://other:6379/0\"}\n  edge:\n", more: true},
		{name: "renamed sink", old: "  edge:\n", new: "  cdn:\n    formerly: edge\n", more: true},
		{name: "retired sink", old: "http:", new: "retired: [gone]\nhttp:", more: true},
		{name: "stream", old: "http:", new: "stream: {max_age: 1h}\nhttp:", more: true},
		{name: "drain_timeout", old: "http:", new: "drain_timeout: 5s\nhttp:", more: true},

		{name: "pipeline", old: "pipeline: shop", new: "pipeline: shop2", wrong: "`pipeline`" + restart},
		{name: "data_dir", old: "data_dir: data", new: "data_dir: data2", wrong: "`data_dir`" + restart},
		{name: "postgres", old: "db/shop", new: "db2/shop", wrong: "`postgres`" + restart},
		{name: "visible", old: "db/shop\"", new: "db/shop\", visible: false", wrong: "`postgres`" + restart},
		{name: "replicas", old: "db/shop\"", new: "db/shop\", replicas: [\"postgres://replica/shop\"]", wrong: "`postgres`" + restart},
		{name: "nats", old: "http:", new: "nats: {url: \"nats://a:4222\"}\nhttp:", wrong: "`nats`" + restart},
		{name: "http", old: "7468", new: "7469", wrong: "`http`" + restart},

		{name: "unknown key", old: "data_dir:", new: "data_dri:", wrong: `unknown key "data_dri"`},
		{name: "sink of no kind", old: "valkey: {url", new: "vlakey: {url", wrong: `unknown key "vlakey"`},
		{name: "no rules", old: "rules/*.yaml", new: "rulez/*.yaml", wrong: "matches no file"},
		{name: "unknown key in the rules", old: "table:", new: "tabel:", wrong: `unknown key "tabel"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			file, catalog := strings.Replace(reloadFile, c.old, c.new, 1), rules
			if file == reloadFile {
				catalog = strings.Replace(rules, c.old, c.new, 1)
			}
			next, err := load(t, file, catalog)
			more := false
			if err == nil {
				more, err = reloadable(old, next)
			}
			if err == nil {
				_, _, err = loadRules(next, nil)
			}
			if c.wrong != "" {
				require.ErrorContains(t, err, c.wrong)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.more, more)
		})
	}
}

// TestReloadMetrics: what became of the newest reload, in one line, also for the pipeline that
// takes the place of another.
func TestReloadMetrics(t *testing.T) {
	gauge := func(reg *prometheus.Registry) float64 {
		all, err := reg.Gather()
		require.NoError(t, err)
		for _, f := range all {
			if f.GetName() == "walpurge_config_last_reload_successful" {
				return f.GetMetric()[0].GetGauge().GetValue()
			}
		}
		require.FailNow(t, "no such metric")
		return 0
	}
	reg, other := prometheus.NewRegistry(), prometheus.NewRegistry()
	m, next := newReloadMetrics(reg), newReloadMetrics(other)
	require.Equal(t, 1.0, gauge(reg))
	require.Empty(t, m.failure())

	m.note(os.ErrNotExist)
	require.Equal(t, 0.0, gauge(reg))
	require.Equal(t, "file does not exist", m.failure())
	next.carry(m)
	require.Equal(t, 0.0, gauge(other))
	require.Equal(t, "file does not exist", next.failure())

	m.note(errorText("a.yaml:1:1:  one\nb.yaml: two\nc.yaml: three"))
	require.Equal(t, "a.yaml:1:1: one; and 2 more findings", m.failure())
	m.note(errorText("one\ntwo"))
	require.Equal(t, "one; and 1 more finding", m.failure())
	m.note(nil)
	require.Equal(t, 1.0, gauge(reg))
	require.Empty(t, m.failure())
}

type errorText string

func (e errorText) Error() string { return string(e) }
