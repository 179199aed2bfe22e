package config

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks/cloudflare"
	"github.com/walpurge/walpurge/sinks/fastly"
)

func TestEdges(t *testing.T) {
	cfg := load(t, "testdata/good/edges.yaml")
	edge, other := cfg.Sinks[0], cfg.Sinks[1]
	require.Equal(t, "cloudflare", edge.Kind())
	require.Len(t, edge.Config.(*cloudflare.Config).Zones, 2)
	require.Equal(t, invalidation.Kinds(invalidation.URL, invalidation.URLPrefix, invalidation.Everything), edge.Takes)
	require.Equal(t, []invalidation.Invalidation{
		{Kind: invalidation.URLPrefix, Value: "shop.example/", Rule: "flush"}, {Kind: invalidation.URLPrefix, Value: "www.shop.de/m/", Rule: "flush"},
	}, edge.Flush)
	require.Equal(t, "fastly", other.Kind())
	require.True(t, other.Config.(*fastly.Config).Soft)
	require.Equal(t, "main", other.Config.(*fastly.Config).Budget.Account)
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.Everything), other.Takes)
}

// The key of a block is what its kind calls itself, and a file with defaults alone is no use.
func TestEveryKindOfSinkIsListed(t *testing.T) {
	blocks := reflect.TypeFor[kindBlocks]()
	require.Equal(t, blocks.NumField(), len(Kinds()))
	for i, c := range Kinds() {
		require.Equal(t, blocks.Field(i).Tag.Get("yaml"), c.Kind())
		require.Error(t, c.Validate(), c.Kind())
		require.NotEmpty(t, required["sinks.*."+c.Kind()], "name the keys that a block of %s must have", c.Kind())
	}
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
