package rules

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// The hash is public: applications compute it too.
func TestBucket(t *testing.T) {
	// FNV-1a 64 of "" is its offset basis, 14695981039346656037.
	require.Equal(t, 37, Bucket(nil))
	// 0xaf63dc4c8601ec8c, from the algorithm's published vectors.
	require.Equal(t, int(uint64(0xaf63dc4c8601ec8c)%100), Bucket([]byte("a")))
	require.Equal(t, int(uint64(0x85944171f73967e8)%100), Bucket([]byte("foobar")))
	require.Equal(t, 83, Bucket([]byte("product:7")), "as docs/rules.md has it")
	require.Zero(t, testing.AllocsPerRun(10, func() { Bucket([]byte("product:7")) }))
}

func rolledOut(t *testing.T, rule, sink string, body string) *Set {
	t.Helper()
	opts := testOptions()
	withheld, err := strconv.Atoi(sink)
	require.NoError(t, err)
	opts.Sinks[edge].Withheld = 100 - withheld
	s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    tags: [\"p-{id}\", \"q-{string(id)}\"]\n    sinks: [edge]\n    rollout: "+rule+"\n"+indent(body)), opts)
	require.NoError(t, err)
	return s
}

func TestRolloutTakesTheLesserShare(t *testing.T) {
	rel := shopRel(cdc.IdentityFull)
	for _, c := range []struct {
		rule, sink string
		share      int
	}{{"100", "100", 100}, {"30", "100", 30}, {"100", "30", 30}, {"60", "30", 30}, {"0", "100", 0}, {"100", "0", 0}} {
		s := rolledOut(t, c.rule, c.sink, "")
		for id := range 300 {
			var want []string
			for _, v := range []string{fmt.Sprintf("p-%d", id), fmt.Sprintf("q-%d", id)} {
				if Bucket([]byte(v)) < c.share {
					want = append(want, "1 tag "+v)
				}
			}
			got := eval(t, s, *added(rel, strconv.Itoa(id), "1", "1"))
			require.Equal(t, want, got.values)
			require.Equal(t, []string{"0 matched"}, got.verdicts)
		}
	}
}

// What is coarser than a value of the rule passes whole, unless nothing passes.
func TestRolloutLetsCoarseValuesPass(t *testing.T) {
	rel := shopRel(cdc.IdentityFull)
	body := "unknown: {tags: [u]}\non_truncate: {tags: [t]}\ncollapse: {over: 1, tags: [all]}\n"
	absent := added(rel, "ABSENT", "1", "1")
	truncated := &cdc.Change{Op: cdc.Truncate, Rel: rel}
	var rows []*cdc.Change
	for id := range 100 {
		rows = append(rows, added(rel, strconv.Itoa(id), "1", "1"))
	}
	one := rolledOut(t, "1", "100", body)
	require.Equal(t, []string{"1 tag u"}, eval(t, one, *absent).values)
	require.Equal(t, []string{"1 tag t"}, eval(t, one, *truncated).values)
	require.Equal(t, []string{"1 tag all"}, transaction(t, rolledOut(t, "50", "100", body), rows...))
	none := rolledOut(t, "100", "0", body)
	require.Empty(t, eval(t, none, *absent).values)
	require.Empty(t, eval(t, none, *truncated).values)
	require.Empty(t, transaction(t, none, rows...))
	require.Empty(t, eval(t, rolledOut(t, "0", "100", ""), *truncated).values)
}

func TestRolloutInExplain(t *testing.T) {
	s := rolledOut(t, "1", "100", "")
	e := s.Explain(t.Context(), added(shopRel(cdc.IdentityFull), "1", "1", "1"), nil)[0]
	require.Equal(t, []Purge{{Sink: "edge", Kind: invalidation.Tag, Value: "p-1", Withheld: true}, {Sink: "edge", Kind: invalidation.Tag, Value: "q-1", Withheld: true}}, e.Purges)
}

func TestWholeRollout(t *testing.T) {
	opts := testOptions()
	opts.WholeRollout, opts.Sinks[edge].Withheld = true, 100
	s, err := Parse("rules.yaml", []byte("rules: [{name: x, table: public.t, tags: [\"p-{id}\"], sinks: [edge], rollout: 0}]"), opts)
	require.NoError(t, err)
	require.Equal(t, []string{"1 tag p-1"}, eval(t, s, *added(shopRel(cdc.IdentityFull), "1", "1", "1")).values)
}
