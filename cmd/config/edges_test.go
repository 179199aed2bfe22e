package config

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestEdges(t *testing.T) {
	cfg := load(t, "testdata/good/edges.yaml")
	edge, other := cfg.Sinks[0], cfg.Sinks[1]
	require.Equal(t, "cloudflare", edge.Kind())
	require.Len(t, edge.Cloudflare.Zones, 2)
	require.Equal(t, invalidation.Kinds(invalidation.URL, invalidation.URLPrefix, invalidation.Everything), edge.Takes)
	require.Equal(t, []invalidation.Invalidation{
		{Kind: invalidation.URLPrefix, Value: "shop.example/", Rule: "flush"}, {Kind: invalidation.URLPrefix, Value: "www.shop.de/m/", Rule: "flush"},
	}, edge.Flush)
	require.Equal(t, "fastly", other.Kind())
	require.True(t, other.Fastly.Soft)
	require.True(t, other.Fastly.FlushesAll)
	require.Equal(t, "main", other.Fastly.Budget.Account)
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.Everything), other.Takes)
}

// A kind that has a field, and a key in the file, is in the list of kinds.
func TestEveryKindOfSinkIsListed(t *testing.T) {
	var inFile []string
	for i, raw := 0, reflect.TypeFor[rawSink](); i < raw.NumField(); i++ {
		if f := raw.Field(i); f.Type.Kind() == reflect.Pointer && strings.HasSuffix(f.Type.Elem().Name(), "Block") {
			inFile = append(inFile, f.Tag.Get("yaml"))
		}
	}
	var fields []string
	for i := range reflect.TypeFor[Sink]().NumField() {
		var s Sink
		if f := reflect.ValueOf(&s).Elem().Field(i); f.Kind() == reflect.Pointer {
			f.Set(reflect.New(f.Type().Elem()))
			fields = append(fields, s.Kind())
		}
	}
	var listed []string
	for _, k := range (Sink{}).kinds() {
		listed = append(listed, k.name)
	}
	require.ElementsMatch(t, inFile, listed)
	require.ElementsMatch(t, fields, listed)
	require.Panics(t, func() { (Sink{Name: "new"}).Kind() })
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
