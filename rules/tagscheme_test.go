package rules

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Whatever a row holds: its tag is one tag in every edge's header, and the value
// can be read back from it, so that no two values share one.
func TestPropertyTagScheme(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	plan := allRule(t, "tags: [\"t:{v}\", \"x:{true ? v : v}\"]\nunknown: {generations: [u]}").Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		v := hostileText().Draw(r, "v")
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v})}, &out)
		if out.unknown {
			require.Greater(r, len("t:")+len(appendTag(nil, []byte(v))), invalidation.MaxValue)
			return
		}
		require.Len(r, out.values[invalidation.Tag], 2)
		for _, tag := range out.values[invalidation.Tag] {
			require.LessOrEqual(r, len(tag), invalidation.MaxValue)
			require.NotContains(r, tag, ",")
			require.Equal(r, -1, strings.IndexFunc(tag, func(c rune) bool { return c <= ' ' || c > '~' }), "%q", tag)
			back, err := url.PathUnescape(tag[2:])
			require.NoError(r, err)
			require.Equal(r, v, back)
		}
	})
}

// The cap is on what the header would carry.
func TestTagCapIsAfterEscaping(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	plan := allRule(t, "tags: [\"{v}\"]\nunknown: {generations: [u]}").Bind(rel)
	for v, unknown := range map[string]bool{
		strings.Repeat("a", invalidation.MaxValue): false, strings.Repeat("a", invalidation.MaxValue+1): true,
		strings.Repeat(" ", invalidation.MaxValue/3): false, strings.Repeat(" ", invalidation.MaxValue/3+1): true,
		strings.Repeat("ü", invalidation.MaxValue/6) + "abcd": false, strings.Repeat("ü", invalidation.MaxValue/6) + "abcde": true,
	} {
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v})}, &out)
		require.Equal(t, unknown, out.unknown, "%d bytes of %q", len(v), v[:1])
		require.Equal(t, !unknown, len(out.values[invalidation.Tag]) == 1)
	}
}

func TestLiteralTextOfTags(t *testing.T) {
	for literal, says := range map[string]string{
		"a b": `" " in the literal text has no place in a tag`, "a,b": "write %2C, here", "käse": `"ä" in the literal text`,
		"a\\tb": `write %09`, "日": "write %E6%97%A5",
	} {
		for _, rule := range []string{"tags: [\"" + literal + "-{id}\"]", "tags: [x]\nunknown: {tags: [\"" + literal + "\"]}"} {
			_, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    sinks: [all]\n"+indent(rule)), allOptions())
			require.ErrorContains(t, err, says)
		}
	}
}

// Sinks whose tags travel in no header get them as the application wrote them, the others in the form of
// the header, whatever a rule sends to both.
func TestEachSinkGetsTagsInItsForm(t *testing.T) {
	sinks := Options{Sinks: []SinkSpec{
		{Name: "store", Takes: invalidation.Kinds(invalidation.Tag), RawTags: true, Caps: invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: 20}}},
		{Name: "edge", Takes: invalidation.Kinds(invalidation.Tag), Caps: invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: 20}}},
	}}
	rel := relation(cdc.IdentityFull, "*v", "n")
	row := func(v string) *cdc.Change {
		return &cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v, "1"})}
	}
	for name, c := range map[string]struct {
		rule        string
		value       string
		store, edge []string
	}{
		"column":            {`tags: ["author:{v}"]`, "Jane Doe", []string{"author:Jane Doe"}, []string{"author:Jane%20Doe"}},
		"expression":        {`tags: ["{lower(v)}"]`, "50% OFF", []string{"50% off"}, []string{"50%25%20off"}},
		"list":              {`tags: ["t:{v.split(';')}"]`, "a b;ü", []string{"t:a b", "t:ü"}, []string{"t:a%20b", "t:%C3%BC"}},
		"comma and newline": {`tags: ["{v}"]`, "a,b\n", []string{"a,b\n"}, []string{"a%2Cb%0A"}},
		"nothing to escape": {`tags: ["{v}-{n}"]`, "x", []string{"x-1"}, []string{"x-1"}},
		"for one of them":   {`to: {store: {tags: ["in store {v}"]}, edge: {tags: ["{v}"]}}`, "ä", []string{"in store ä"}, []string{"%C3%A4"}},
		"cap is on the form that is sent": {`{tags: ["{v}"], unknown: {tags: [u]}}`, "1234567890 ü ü ü", // 19 bytes, escaped 43
			[]string{"1234567890 ü ü ü", "u"}, []string{"u"}},
		"coarser":    {`{tags: ["{v}"], collapse: {over: 1, tags: ["all {n}"]}, sinks: [store]}`, "b c", []string{"b c"}, nil},
		"fixed, raw": {`{tags: ["a b"], sinks: [store]}`, "", []string{"a b"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			rule := c.rule
			if rule[0] == '{' {
				rule = rule[1 : len(rule)-1]
				rule = strings.NewReplacer(", unknown:", "\nunknown:", ", collapse:", "\ncollapse:", ", sinks:", "\nsinks:").Replace(rule)
			}
			set, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n"+indent(rule)), sinks)
			require.NoError(t, err)
			var out bySinkCollector
			set.Bind(rel).Eval(row(c.value), &out)
			require.ElementsMatch(t, c.store, out.tags[0])
			require.ElementsMatch(t, c.edge, out.tags[1])
		})
	}
	t.Run("literal text that only a store can have", func(t *testing.T) {
		for _, rule := range []string{`tags: ["a b {v}"]`, `tags: ["a b"]`, "tags: [\"{v}\"]\nunknown: {tags: [\"a b\"]}", "tags: [\"{v}\"]\non_truncate: {tags: [\"a b\"]}",
			"tags: [\"{v}\"]\ncollapse: {over: 1, tags: [\"a b\"]}"} {
			_, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n"+indent(rule)), sinks)
			require.ErrorContains(t, err, `has no place in a tag of edge`, rule)
			_, err = Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    sinks: [store]\n"+indent(rule)), sinks)
			require.NoError(t, err, rule)
		}
	})
	t.Run("message", func(t *testing.T) {
		set, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    message: m\n    sinks: [store, edge]\n"), sinks)
		require.NoError(t, err)
		var out bySinkCollector
		err = set.Message("m", []byte(`{"tags": ["Jane Doe", "x"]}`), &out)
		require.ErrorContains(t, err, "a tag that no header can carry to edge")
		require.NotContains(t, err.Error(), "Jane")
		require.Equal(t, []string{"Jane Doe", "x"}, out.tags[0])
		require.Equal(t, []string{"x"}, out.tags[1])
		require.Equal(t, []int{1}, out.parked)
	})
}

// bySinkCollector gathers tags by sink.
type bySinkCollector struct {
	tags   [2][]string
	parked []int
}

func (c *bySinkCollector) Invalidate(_, sink int, _ invalidation.Kind, value []byte) {
	c.tags[sink] = append(c.tags[sink], string(value))
}
func (c *bySinkCollector) Fallback(_, sink int, _ *Fallback) { c.parked = append(c.parked, sink) }
func (c *bySinkCollector) Lookup(*Pending)                   {}
func (c *bySinkCollector) Verdict(int, Verdict)              {}
