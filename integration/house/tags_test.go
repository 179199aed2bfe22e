package house

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// told keeps the tags that rules make of a row.
type told []string

func (o *told) Invalidate(_, _ int, _ invalidation.Kind, value []byte) {
	*o = append(*o, string(value))
}
func (o *told) Fallback(int, int, *rules.Fallback) {}

func (o *told) Verdict(int, rules.Verdict) {}
func (o *told) Lookup(*rules.Pending)      {}

// What docs/rules.md tells applications to write into their headers is what rules
// make of the same value.
func TestTagVectors(t *testing.T) {
	set, err := rules.Parse("rules.yaml", []byte("rules: [{name: a, table: public.a, tags: ['{v}']}]"),
		rules.Options{Sinks: []rules.SinkSpec{{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag)}}})
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

// TestFormsOfValues: the table of docs/rules.md says what each kind of sink is sent.
func TestFormsOfValues(t *testing.T) {
	forms := rows(read(t, "docs/rules.md"), "Where the value goes", "Form")
	require.Len(t, forms, 6)
	v := strings.Split(read(t, "docs/rules.md"), "when `v` is `")[1]
	v, _, _ = strings.Cut(v, "`")
	rel := &cdc.Relation{Schema: "public", Name: "a", Columns: []cdc.Column{{Name: "v"}}}
	for _, cells := range forms {
		text, raw := "{v}", strings.Contains(cells[0], "tag_sets")
		for _, word := range strings.Split(cells[0], "`") {
			if strings.HasPrefix(word, "{") {
				text = word
			}
		}
		for key, frame := range map[string]string{
			"keys": text, "key_prefixes": "p:" + text + ":", "generations": text, "tags": text,
			"urls": "https://h/" + text, "url_prefixes": "h/" + text + "/",
		} {
			if !strings.Contains(cells[0], "`"+key+"`") {
				continue
			}
			if strings.Contains(cells[0], "in the query") {
				frame = "https://h/?" + text
			}
			set, err := rules.Parse("rules.yaml", []byte("rules: [{name: a, table: public.a, "+key+": ['"+frame+"']}]"),
				rules.Options{Sinks: []rules.SinkSpec{{Name: "s", Takes: 1<<invalidation.NumKinds - 1, RawTags: raw}}})
			require.NoError(t, err)
			var out told
			set.Bind(rel).Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: cdc.Tuple{{Kind: cdc.Text, Data: []byte(v)}}}, &out)
			require.Equal(t, told{strings.Replace(frame, text, strings.Trim(cells[2], "`"), 1)}, out, cells[0])
		}
	}
}
