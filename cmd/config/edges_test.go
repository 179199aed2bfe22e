package config

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

func TestEdges(t *testing.T) {
	cfg := load(t, "testdata/good/edges.yaml")
	edge, other := cfg.Sinks[0], cfg.Sinks[1]
	require.Equal(t, "cloudflare", edge.Kind())
	require.Len(t, edge.Cloudflare.Zones, 2)
	require.Equal(t, rules.Kinds(rules.URL, rules.URLPrefix, rules.Everything), edge.Takes)
	require.Equal(t, []rules.Invalidation{
		{Kind: rules.URLPrefix, Value: "shop.example/", Rule: "flush"}, {Kind: rules.URLPrefix, Value: "www.shop.de/m/", Rule: "flush"},
	}, edge.Flush)
	require.Equal(t, "fastly", other.Kind())
	require.True(t, other.Fastly.Soft)
	require.True(t, other.Fastly.FlushesAll)
	require.Equal(t, "main", other.Fastly.Budget.Account)
	require.Equal(t, rules.Kinds(rules.Tag, rules.URL, rules.Everything), other.Takes)
}

func TestOfflineNeedsNoVariablesOfEdges(t *testing.T) {
	text := []byte(`
pipeline: shop
rules: [small.yaml]
postgres: {url: "postgres://db/shop"}
sinks:
  edge: {cloudflare: {zones: {shop.example: "${ZONE}"}, api_token_file: t}, flush: {tags: ["${TAG}"]}}
  other: {fastly: {service_id: "${SERVICE}", api_token_file: t, base_url: "${BASE}"}}
`)
	none := func(string) (string, bool) { return "", false }
	_, err := parse("testdata/good/small.yaml", text, Options{Env: none, Offline: true})
	require.NoError(t, err)
	_, err = parse("testdata/good/small.yaml", text, Options{Env: none})
	for _, name := range []string{"ZONE", "TAG", "SERVICE", "BASE"} {
		require.ErrorContains(t, err, "environment variable "+name+" is not set")
	}
}
