package rules

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// A purge of one key or URL does not remove another, however often `unknown` names it.
func TestUncovered(t *testing.T) {
	sinks := Options{Sinks: []SinkSpec{
		{Name: "cache", Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPrefix, invalidation.KeyPattern, invalidation.Generation), RawTags: true},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix)},
	}}
	for body, want := range map[string][]string{
		`keys: ["p:{slug}"], unknown: {keys: [front]}`:                                       {"p:{slug} cache [key front]"},
		`keys: ["p:{slug}", front], unknown: {keys: [front, other]}`:                         {"p:{slug} cache [key front key other]"},
		`keys: ["p:{slug}"], unknown: {keys: [front], covers: true}`:                         nil,
		`keys: ["p:{slug}"], unknown: {keys: [front], covers: false}`:                        {"p:{slug} cache [key front]"},
		`keys: ["p:{slug}"], unknown: {keys: [front], generations: [products]}`:              nil,
		`keys: ["p:{slug}"], unknown: {key_prefixes: ["p:"]}`:                                nil,
		`keys: ["p:s:{slug}"], unknown: {key_prefixes: ["p:t:"]}`:                            {"p:s:{slug} cache [key_prefix p:t:]"},
		`keys: ["{slug}"], unknown: {key_prefixes: ["p:"]}`:                                  {"{slug} cache [key_prefix p:]"},
		`key_prefixes: ["p:{slug}:"], unknown: {keys: [front]}`:                              {"p:{slug}: cache [key front]"},
		`generations: ["g:{slug}"], unknown: {keys: [front]}`:                                {"g:{slug} cache [key front]"},
		`tags: ["p-{slug}"], unknown: {tags: [products]}`:                                    nil,
		`tags: ["p-{slug}"], unknown: {urls: ["https://h/"]}`:                                {"p-{slug} edge [url https://h/]"},
		`urls: ["https://h/p/{slug}"], unknown: {urls: ["https://h/p/"]}`:                    {"https://h/p/{slug} edge [url https://h/p/]"},
		`urls: ["https://h/p/{slug}"], unknown: {url_prefixes: ["h/p/"]}`:                    nil,
		`urls: ["https://h/p/{slug}"], unknown: {url_prefixes: ["h/q/"]}`:                    {"https://h/p/{slug} edge [url_prefix h/q/]"},
		`url_prefixes: ["h/p/{slug}/"], unknown: {tags: [all]}`:                              nil,
		`keys: ["p:{slug}"], tags: ["p-{slug}"], unknown: {keys: [front], tags: [products]}`: {"p:{slug} cache [key front]"},
		`keys: ["p:{slug}"], unknown: {tags: [products]}, to: {edge: {tags: ["x"]}}`:         nil, // nothing at cache: its pattern is purged
		`keys: ["p:{slug}"]`: nil,
	} {
		set, err := Parse("rules.yaml", []byte("rules: [{name: x, table: public.t, "+body+"}]"), sinks)
		require.NoError(t, err, body)
		var got []string
		for _, u := range set.Uncovered() {
			require.Equal(t, "x", u.Rule)
			got = append(got, u.Template+" "+u.Sink+" "+fmt.Sprint(u.Names))
		}
		require.Equal(t, want, got, body)
	}
}
