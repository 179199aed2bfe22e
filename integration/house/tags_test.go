package house

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
)

// told keeps the tags that rules make of a row.
type told []string

func (o *told) Invalidate(_, _ int, _ rules.Kind, value []byte) { *o = append(*o, string(value)) }
func (o *told) Fallback(int, int, *rules.Fallback)              {}

func (o *told) Verdict(int, rules.Verdict) {}
func (o *told) Lookup(*rules.Pending)      {}

// What docs/rules.md tells applications to write into their headers is what rules
// make of the same value.
func TestTagVectors(t *testing.T) {
	set, err := rules.Parse("rules.yaml", []byte("rules: [{name: a, table: public.a, tags: ['{v}']}]"),
		rules.Options{Sinks: []rules.SinkSpec{{Name: "edge", Takes: rules.Kinds(rules.Tag)}}})
	require.NoError(t, err)
	rel := &cdc.Relation{Schema: "public", Name: "a", Columns: []cdc.Column{{Name: "v"}}}
	plan := set.Bind(rel)
	vectors := rows(read(t, "docs/rules.md"), "Value", "In a tag")
	require.Greater(t, len(vectors), 12)
	seen := map[string]bool{}
	for _, cells := range vectors {
		var value string
		require.NoError(t, json.Unmarshal([]byte(strings.Trim(cells[0], "`")), &value), cells[0])
		var out told
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: cdc.Tuple{{Kind: cdc.Text, Data: []byte(value)}}}, &out)
		require.Equal(t, told{strings.Trim(cells[1], "`")}, out, cells[0])
		require.False(t, seen[out[0]], "two values make the tag %s", out[0])
		seen[out[0]] = true
	}
}
