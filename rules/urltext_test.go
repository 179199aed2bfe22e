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

// Columns that hold a text as it stands in a URL, and text of forms.
func TestURLForms(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	for _, c := range []struct{ template, v, want string }{
		{"https://h/{rawpath(v)}", "/caf%C3%A9/", "https://h/caf%C3%A9/"},
		{"https://h/{rawpath(v)}", "/%d7%91/", "https://h/%d7%91/"},
		{"https://h/{rawpath(v)}", "/a+b/", "https://h/a+b/"},
		{"https://h/{rawpath(v)}", "a:b@c", "https://h/a:b@c"},
		{"https://h/{rawpath(v)}", "/", "https://h/"},
		{"https://h/{rawpath(v)}", "", "https://h/"},
		{"https://h/x{rawpath(v)}.html", "/a/b", "https://h/xa/b.html"},
		{"https://h/{rawpath(v)}", "/a b", ""},
		{"https://h/{rawpath(v)}", "/käse", ""},
		{"https://h/{rawpath(v)}", "/a\nb", ""},
		{"https://h/{rawpath(v)}", "/a%0", ""},
		{"https://h/{rawpath(v)}", "/a%zz", ""},
		{"https://h/{rawpath(v)}", "/a?b", ""},
		{"https://h/{rawpath(v)}", "/a#b", ""},
		{"https://h/{rawpath(v)}", "/a*", ""},
		{"https://h/{rawpath(v)}", "/a/../b", ""},
		{"https://h/{rawpath(v)}", "/a/%2E%2e/b", ""},
		{"https://h/{rawpath(v)}", "..", ""},
		{"https://h/s?brand={formquery(v)}", "Red Broom", "https://h/s?brand=Red+Broom"},
		{"https://h/s?brand={formquery(v)}", "C++ & ä~*-._", "https://h/s?brand=C%2B%2B+%26+%C3%A4%7E*-._"},
		{"https://h/s?brand={rawquery(v)}&p=1", "Red+Broom", "https://h/s?brand=Red+Broom&p=1"},
		{"https://h/s?{rawquery(v)}", "?brand=Red+Broom&x=%26", "https://h/s?brand=Red+Broom&x=%26"},
		{"https://h/s?{rawquery(v)}", "a b", ""},
		{"https://h/s?{rawquery(v)}", "a#b", ""},
	} {
		plan := allRule(t, "urls: [\""+c.template+"\"]\nunknown: {generations: [u]}").Bind(rel)
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{c.v})}, &out)
		require.Equal(t, c.want == "", out.unknown, "%s of %q", c.template, c.v)
		if c.want != "" {
			require.Equal(t, []string{c.want}, out.values[invalidation.URL])
		}
	}
	for template, says := range map[string]string{
		"https://h/s?x={rawpath(v)}":          "stands in the query; write rawquery() there",
		"https://h/{formquery(v)}":            "stands before the ?; formquery() is for the query",
		"https://h/{rawquery(v)}":             "stands before the ?; rawquery() is for the query",
		"https://h/{rawpath(v) + v}":          "rawpath() must be the outermost call",
		"https://h/s?{upper(formquery(v))}":   "formquery() must be the outermost call",
		"https://h/s?{formquery(urlpath(v))}": "urlpath() must be the outermost call",
		"https://h{rawpath(v)}":               "want a / behind the host",
	} {
		_, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    sinks: [all]\n    urls: [\""+template+"\"]\n"), allOptions())
		require.ErrorContains(t, err, says, template)
	}
}

// Whatever a row holds, a raw text leaves the template's host, path and query where they are.
func TestPropertyRawURLs(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	plan := allRule(t, "urls: [\"https://h/p/{rawpath(v)}/x?a=1&{rawquery(v)}&q={formquery(v)}\"]\nunknown: {generations: [u]}").Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		v := rapid.OneOf(hostileText(), rapid.StringMatching(`/?([a-z+:@.]|%2[0-9a-fA-F]|/){0,9}`)).Draw(r, "v")
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v})}, &out)
		for _, value := range out.values[invalidation.URL] {
			u, err := url.Parse(value)
			require.NoError(r, err)
			require.Equal(r, "h", u.Host)
			require.Empty(r, u.Fragment)
			require.True(r, strings.HasPrefix(u.JoinPath().EscapedPath(), "/p/"), value)
			require.True(r, strings.HasSuffix(u.EscapedPath(), "/x"), value)
			require.Equal(r, v, u.Query()["q"][len(u.Query()["q"])-1])
		}
	})
}
