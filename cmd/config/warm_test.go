package config

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
	"github.com/walpurge/walpurge/sinks/warm"
)

// A warm sink does not purge, and rules can name it like a sink that does.
func TestWarm(t *testing.T) {
	cfg := load(t, "testdata/good/warm.yaml")
	require.Equal(t, []string{"edge"}, cfg.SinkNames())
	require.Equal(t, []string{"edge", "hot"}, cfg.RoutedNames())
	w := cfg.Warms[0]
	require.Equal(t, &warm.Config{
		Base: "http://cache.internal:6081", Concurrency: 8, RequestsPerSecond: .5, Timeout: 2 * time.Second, MaxAge: time.Minute,
		Headers:  urlvariant.Headers{"Authorization": {"Basic abc"}, "X-Device": {"mobile", "desktop"}},
		Variants: []urlvariant.Headers{{"Accept-Language": {"de"}}, {"Accept-Language": {"en"}, "X-Device": {"tablet"}}},
	}, w.Config)
	require.Equal(t, []string{"edge"}, w.After)
	require.True(t, w.Shadow)
	require.Equal(t, rules.SinkSpec{
		Name: "hot", Takes: invalidation.Kinds(invalidation.URL), Withheld: 90, Headers: urlvariant.HeaderUse{Taken: true},
	}, cfg.Specs()[1])
}

func TestOfflineNeedsNoVariablesOfWarm(t *testing.T) {
	_, err := parse("testdata/good/small.yaml", []byte(`
pipeline: shop
rules: [small.yaml]
postgres: {url: "postgres://db/shop"}
sinks:
  edge: {varnish: {nodes: ["http://v"]}, flush: {tags: [all]}}
  hot: {warm: {base: "${BASE}", headers: {Authorization: "${TOKEN}"}, variants: [{X-A: "${A}"}, {X-A: "${B}"}]}, after: [edge]}
`), Options{Env: func(string) (string, bool) { return "", false }, Offline: true})
	require.NoError(t, err)
}
