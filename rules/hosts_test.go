package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

func TestHosts(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`vars: {tld: [example, de]}
rules:
  - name: a
    table: public.t
    urls: ["https://Shop.Example:8443/{id}", "http://shop.{vars.tld}/{id}"]
    url_prefixes: ["m.shop.example/{id}/"]
    unknown: {url_prefixes: ["all.example/"]}
    on_truncate: {urls: ["https://home.example"]}
    to: {edge: {urls: ["https://edge.example?{id}"]}}
  - name: b
    table: public.t
    keys: ["{id}"]
    urls: ["https://b.example/"]
`), Options{Sinks: []SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}, {Name: "edge", Takes: invalidation.Kinds(invalidation.URL, invalidation.URLPrefix)}, {Name: "all", Takes: invalidation.Kinds(invalidation.Key, invalidation.URL, invalidation.URLPrefix)}}})
	require.NoError(t, err)
	use := func(rule, host string, line int) HostUse {
		return HostUse{Host: host, Rule: rule, File: "rules.yaml", Line: line}
	}
	both := []HostUse{
		use("a", "shop.example", 5), use("a", "shop.de", 5), use("a", "edge.example", 9), use("a", "home.example", 3),
		use("a", "m.shop.example", 6), use("a", "all.example", 3), use("b", "b.example", 13),
	}
	require.Empty(t, s.Hosts(0))
	require.Equal(t, both, s.Hosts(1))
	require.Equal(t, append(both[:2:2], both[3:]...), s.Hosts(2))
}
