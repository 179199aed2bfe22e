package restaurant

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules/rulestest"
)

const files = "../../../deploy/examples/restaurant/"

// The chain's own rule tests pass.
func TestRuleTests(t *testing.T) {
	s, err := rulestest.Load(files+"rules_test.yaml", rulestest.Options{})
	require.NoError(t, err)
	results := s.Run()
	require.Greater(t, len(results), 5)
	for _, r := range results {
		require.True(t, r.Passed(), "%s\n%s", r.Name, strings.Join(r.Diff, "\n"))
	}
}

// walpurge.yaml is read with the variables that a run sets.
func TestConfig(t *testing.T) {
	env := map[string]string{
		"DATABASE_URL": "postgres://walpurge@127.0.0.1/restaurant", "VALKEY_URL": "valkey://127.0.0.1:6379/0", "DATA_DIR": "data",
		"LISTEN": "127.0.0.1:0", "SECOND_PURGE": "400ms", "VARNISH_URL": "http://127.0.0.1:6081",
	}
	cfg, err := config.Load(files+"walpurge.yaml", config.Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
	require.NoError(t, err)
	require.Len(t, cfg.Sinks, 2)
	for name := range env {
		delete(env, name)
		_, err := config.Load(files+"walpurge.yaml", config.Options{Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }})
		require.ErrorContains(t, err, name)
		break
	}
}

// The load is the same in each variant, has all endpoints, and busy stores.
func TestLoad(t *testing.T) {
	s := &system{front: "http://x", popular: newZipf(stores, 0.9)}
	a, b := rand.New(rand.NewPCG(3, 0)), rand.New(rand.NewPCG(3, 0))
	endpoints, first := map[string]int{}, 0
	for range 5000 {
		r := s.Next(a)
		require.Equal(t, r, s.Next(b))
		endpoints[r.Endpoint]++
		if r.URL == "http://x/stores/1/menu" {
			first++
		}
		require.LessOrEqual(t, s.guest(a), accounts)
		require.LessOrEqual(t, s.ordered(a), orders)
		_, _ = s.guest(b), s.ordered(b)
	}
	require.Len(t, endpoints, 5)
	require.Greater(t, first, 100)
	z := newZipf(10, 1)
	for range 1000 {
		n := z.next(a)
		require.True(t, n >= 1 && n <= 10)
	}
}
