package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestKindsOfASink(t *testing.T) {
	sinks := []SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.Generation, invalidation.KeyPattern)}, {Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL)}}
	s, err := Parse("rules.yaml", []byte(`
rules:
  - name: a
    table: public.t
    keys: ["a:{id}"]
    tags: ["t-{id}"]
    to: {edge: {urls: ["https://h/{id}"]}}
    unknown: {generations: [g]}
`), Options{Sinks: sinks})
	require.NoError(t, err)
	require.Equal(t, invalidation.Kinds(invalidation.Key, invalidation.Generation), s.Kinds(0))
	require.Equal(t, invalidation.Kinds(invalidation.Tag, invalidation.URL), s.Kinds(1))
}

// What a sink would take with another configuration is said where a rule asks
// for it.
func TestHints(t *testing.T) {
	sinks := []SinkSpec{{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag)}, {Name: "cache", Takes: invalidation.Kinds(invalidation.Key), Hints: map[invalidation.Kind]string{invalidation.KeyPrefix: "write scan"}}}
	_, err := Parse("rules.yaml", []byte(`
rules:
  - name: a
    table: public.t
    keys: ["a:{id}"]
    key_prefixes: ["a:{id}:"]
    urls: ["https://h/"]
    to: {cache: {key_prefixes: ["b:"]}}
`), Options{Sinks: sinks})
	require.EqualError(t, err, `rules.yaml:6:20: rule "a": `+"`key_prefixes`"+`: none of the sinks (edge, cache) takes a key_prefix; cache: write scan
rules.yaml:7:12: rule "a": `+"`urls`"+`: none of the sinks (edge, cache) takes a url
rules.yaml:8:33: rule "a": `+"`to.cache.key_prefixes`"+`: cache does not take a key_prefix; cache: write scan`)
}
