package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestTo(t *testing.T) {
	s := mustParse(t, `
vars: {locales: [en, de]}
rules:
  - name: a
    table: public.t
    keys: ["k:{id}"]
    tags: ["t-{id}"]
    to:
      edge: {tags: ["page-{id}", "{lower(slug)}-{vars.locales}"], urls: ["https://h/{slug}"]}
      cache: {keys: ["only:{id}", "fixed"]}
    unknown: {keys: [all]}
`)
	rel := relation(cdc.IdentityFull, "*id", "*slug")
	require.Equal(t, []int{cache, edge, keysonly}, s.Rules()[0].Sinks)
	require.Equal(t, []string{
		"0 key k:7", "2 key k:7", "0 key only:7", "0 key fixed", "0 tag t-7", "1 tag t-7", "1 tag page-7", "1 tag a-en", "1 tag a-de", "1 url https://h/A",
	}, eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "A")}).values)
	require.Equal(t, []string{"0 everything ", "1 everything ", "2 everything "}, eval(t, s, cdc.Change{Op: cdc.Truncate, Rel: rel}).values)

	patterns, err := s.FlushPatterns(cache)
	require.NoError(t, err)
	require.Equal(t, []string{"fixed", "k:*", "only:*"}, patterns)
	patterns, err = s.FlushPatterns(keysonly)
	require.NoError(t, err)
	require.Equal(t, []string{"k:*"}, patterns, "what goes to another sink only is not flushed here")

	covered := map[string]bool{}
	for _, n := range s.Needs() {
		covered[n.Column] = n.HasUnknown
	}
	require.Equal(t, map[string]bool{"id": false, "slug": false}, covered, "edge takes no key, so nothing stands in for its values")
}

// What a rule does at the other sinks does not change.
func TestToAlone(t *testing.T) {
	s := mustParse(t, `{rules: [{name: a, table: public.t, sinks: [cache, edge], to: {cache: {keys: ["k:{id}"]}}}]}`)
	require.Equal(t, []int{cache}, s.Rules()[0].Sinks)
	rel := relation(cdc.IdentityFull, "*id")
	require.Equal(t, []string{"0 key k:7"}, eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7")}).values)
	require.Equal(t, []string{"0 key_pattern k:*"}, eval(t, s, cdc.Change{Op: cdc.Truncate, Rel: rel}).values)
}
