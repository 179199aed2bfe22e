package rules

import (
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
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
			require.Greater(r, len("t:")+len(appendTag(nil, []byte(v))), MaxValue)
			return
		}
		require.Len(r, out.values[Tag], 2)
		for _, tag := range out.values[Tag] {
			require.LessOrEqual(r, len(tag), MaxValue)
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
		strings.Repeat("a", MaxValue): false, strings.Repeat("a", MaxValue+1): true,
		strings.Repeat(" ", MaxValue/3): false, strings.Repeat(" ", MaxValue/3+1): true,
		strings.Repeat("ü", MaxValue/6) + "abcd": false, strings.Repeat("ü", MaxValue/6) + "abcde": true,
	} {
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v})}, &out)
		require.Equal(t, unknown, out.unknown, "%d bytes of %q", len(v), v[:1])
		require.Equal(t, !unknown, len(out.values[Tag]) == 1)
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
