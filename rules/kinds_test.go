package rules

import (
	"bytes"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// allRule is a set of a single rule on public.t for the sink that takes all.
func allRule(t testing.TB, body string) *Set {
	t.Helper()
	s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n    sinks: [all]\n"+indent(body)), allOptions())
	require.NoError(t, err)
	return s
}

func TestKinds(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id:int", "*slug", "*path", "*tags:json", "*empty", "*up")
	insert := cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "a/b ü?", "/c d/é.html", `["x/y", "z"]`, "", "..")}
	for rule, want := range map[string][]string{
		`urls: ["https://shop.example/p/{slug}"]`:                     {"url https://shop.example/p/a%2Fb%20%C3%BC%3F"},
		`urls: ["https://shop.example:8443/?q={slug}&a=b"]`:           {"url https://shop.example:8443/?q=a%2Fb%20%C3%BC%3F&a=b"},
		`urls: ["http://shop.example{\"/x\"}"]`:                       {"url http://shop.example/x"},
		`urls: ["https://shop.example/{urlpath(path)}"]`:              {"url https://shop.example//c%20d/%C3%A9.html"},
		`urls: ["https://shop.example/{lower(slug)}/{id}"]`:           {"url https://shop.example/a%2Fb%20%C3%BC%3F/7"},
		`urls: ["https://shop.example/t/{tags + []}"]`:                {"url https://shop.example/t/x%2Fy", "url https://shop.example/t/z"},
		`urls: ["https://shop.example/a%20b/{id}", "http://h"]`:       {"url https://shop.example/a%20b/7", "url http://h"},
		`urls: ["https://shop.example/p/{empty}"]`:                    {"url https://shop.example/p/"},
		`urls: ["https://shop.example/p/{up}"]`:                       {"generation all"},
		`urls: ["https://shop.example/p/{up}.html"]`:                  {"url https://shop.example/p/...html"},
		`urls: ["https://shop.example/p?x={up}"]`:                     {"url https://shop.example/p?x=.."},
		`urls: ["https://shop.example/{urlpath(\"a/../../\" + up)}"]`: {"generation all"},
		`url_prefixes: ["shop.example/m/{id}/"]`:                      {"url_prefix shop.example/m/7/"},
		`url_prefixes: ["shop.example/m/{empty}/"]`:                   {"generation all"},
		`url_prefixes: ["shop.example/m/{urlpath(\"//\")}/"]`:         {"generation all"},
		`url_prefixes: ["shop.example/m/{string(empty)}/"]`:           {"generation all"},
		`url_prefixes: ["shop.example/m/{up}/"]`:                      {"generation all"},
		`key_prefixes: ["product:{id}:"]`:                             {"key_prefix product:7:"},
		`key_prefixes: ["product:{slug}:", "all:"]`:                   {"key_prefix product:a/b ü?:", "key_prefix all:"},
		`generations: ["catalog:{slug}", home]`:                       {"generation catalog:a/b ü?", "generation home"},
		`tags: ["t%20{slug}", "{lower(slug)}"]`:                       {"tag t%20a/b%20%C3%BC?", "tag a/b%20%C3%BC?"},
		`tags: ["t:{tags + []}"]`:                                     {"tag t:x/y", "tag t:z"},
	} {
		out := eval(t, allRule(t, rule+"\nunknown: {generations: [all]}"), insert)
		for i := range want {
			want[i] = "3 " + want[i]
		}
		require.Equal(t, want, out.values, rule)
	}
}

func TestKindsInFixedBlocks(t *testing.T) {
	s := allRule(t, `
keys: ["{gone}"]
unknown: {urls: ["https://h/"], url_prefixes: ["h/"], key_prefixes: ["k:"], generations: [g], tags: [t]}
on_truncate: {generations: [h]}
`)
	rel := relation(cdc.IdentityFull, "*id")
	require.Equal(t, []string{"3 tag t", "3 url https://h/", "3 url_prefix h/", "3 key_prefix k:", "3 generation g"},
		eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7")}).values)
	require.Equal(t, []string{"3 generation h"}, eval(t, s, cdc.Change{Op: cdc.Truncate, Rel: rel}).values)
}

func TestTruncateOfKinds(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id")
	for rule, want := range map[string][]string{
		`urls: ["https://h/{id}"]`:                            {"3 everything "},
		`url_prefixes: ["h/{id}/"]`:                           {"3 everything "},
		`generations: ["g:{id}"]`:                             {"3 everything "},
		`{key_prefixes: ["p*:{id}:"], keys: ["k:{md5(id)}"]}`: {"3 key_pattern k:*", `3 key_pattern p\*:*:*`},
		`{urls: ["https://h/"], url_prefixes: ["h/"], key_prefixes: ["k:"], generations: [g]}`: {"3 url https://h/", "3 url_prefix h/", "3 key_prefix k:", "3 generation g"},
	} {
		body := strings.ReplaceAll(strings.Trim(rule, "{}"), "], ", "]\n")
		if !strings.HasPrefix(rule, "{") {
			body = rule
		}
		require.Equal(t, want, eval(t, allRule(t, body), cdc.Change{Op: cdc.Truncate, Rel: rel}).values, rule)
	}
}

func TestFlushPatternsOfKinds(t *testing.T) {
	patterns, err := allRule(t, "keys: [\"k:{lower(id)}:{id}\"]\nkey_prefixes: [\"p:{id}:\"]\nurls: [\"https://h/{id}\"]").FlushPatterns(all)
	require.NoError(t, err)
	require.Equal(t, []string{"k:*:*", "p:*:*"}, patterns)
	_, err = allRule(t, `generations: ["g:{id}"]`).FlushPatterns(all)
	require.EqualError(t, err, "rules.yaml:5: rule \"x\": generation \"g:{id}\" is raised, not deleted, so no flush pattern follows from it; give sink \"all\" a `flush:`")
}

// hostileText is what an attacker would put into a row to reach beyond it.
func hostileText() *rapid.Generator[string] {
	piece := rapid.OneOf(
		rapid.SampledFrom([]string{"/../", "..", ".", "/", "?", "#", "%2e", "%2E%2e", "%", "\n", "\r\n", "\x00", "*", "\xff\xfe", "//", "\\", "a", "&x=", "@", ":", "é", " ", ";", "{", "}"}),
		rapid.StringN(0, 5, 20))
	return rapid.OneOf(hostile(), rapid.Map(rapid.SliceOfN(piece, 0, 8), func(p []string) string { return strings.Join(p, "") }))
}

// Whatever a row holds: a URL that comes of it has the frame's host, path and
// query, and the value where the braces stand.
func TestPropertyURLFrame(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v", "*w")
	plan := allRule(t, "urls: [\"https://shop.example/p/{v}/x?q={w}&r=1\"]\nunknown: {generations: [u]}").Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		v, w := hostileText().Draw(r, "v"), hostileText().Draw(r, "w")
		value, unknown := one(plan, cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v, w})}, invalidation.URL)
		if unknown {
			require.True(r, v == "." || v == ".." || 3*(len(v)+len(w))+40 > invalidation.MaxValue, "%q %q", v, w)
			return
		}
		u, err := url.Parse(value)
		require.NoError(r, err)
		require.Equal(r, "https", u.Scheme)
		require.Equal(r, "shop.example", u.Host)
		require.Empty(r, u.Fragment)
		require.Equal(r, "/p/"+v+"/x", u.Path)
		require.Equal(r, url.Values{"q": {w}, "r": {"1"}}, u.Query())
		require.Equal(r, 3, strings.Count(u.EscapedPath(), "/"))
		require.Equal(r, strings.ReplaceAll(u.EscapedPath(), "//", "/"), u.JoinPath().EscapedPath(), "no step up")
		require.True(r, strings.Trim(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~%/:?=&") == "", "%q", value)
	})
}

// urlpath keeps slashes and still leaves the frame to no one.
func TestPropertyPathFrame(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	plan := allRule(t, "url_prefixes: [\"shop.example/p/{urlpath(v)}/\", \"shop.example/q/{v}/\"]\nunknown: {generations: [u]}").Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		v := hostileText().Draw(r, "v")
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v})}, &out)
		for _, value := range out.values[invalidation.URLPrefix] {
			require.True(r, strings.HasPrefix(value, "shop.example/p/") || strings.HasPrefix(value, "shop.example/q/"))
			require.True(r, strings.HasSuffix(value, "/"))
			u, err := url.Parse("https://" + value)
			require.NoError(r, err)
			require.Equal(r, "shop.example", u.Host)
			require.Empty(r, u.RawQuery)
			require.Empty(r, u.Fragment)
			cleaned := strings.ReplaceAll(u.JoinPath().EscapedPath(), "//", "/")
			require.True(r, len(cleaned) > len("/p/") && (strings.HasPrefix(cleaned, "/p/") || strings.HasPrefix(cleaned, "/q/")), "%q", value)
		}
	})
}

// Keys, prefixes of keys and generations are the row's bytes, in their frame.
func TestPropertyByteExact(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	plan := allRule(t, `
keys: ["k:{v}"]
key_prefixes: ["p:{v}:"]
generations: ["g:{v}"]
`).Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		v := hostileText().Draw(r, "v")
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{v})}, &out)
		if len(v)+3 > invalidation.MaxValue {
			return
		}
		require.Equal(r, []string{"k:" + v}, out.values[invalidation.Key])
		require.Equal(r, []string{"p:" + v + ":"}, out.values[invalidation.KeyPrefix])
		require.Equal(r, []string{"g:" + v}, out.values[invalidation.Generation])
		require.Empty(r, out.values[invalidation.KeyPattern])
	})
}

// The two ways to build a value agree, escaping included.
func TestPropertyCopyAndExpressionAgree(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*v")
	plan := allRule(t, "urls: [\"https://h/{v}\", \"https://h/{true ? v : v}\"]\nurl_prefixes: [\"h/{v}/\", \"h/{true ? v : v}/\"]").Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		var out kindCollector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{hostileText().Draw(r, "v")})}, &out)
		for _, kind := range []invalidation.Kind{invalidation.URL, invalidation.URLPrefix} {
			require.Contains(r, []int{0, 2}, len(out.values[kind]))
			require.Len(r, slices.Compact(out.values[kind]), len(out.values[kind])/2)
		}
	})
}

type kindCollector struct {
	noLookups
	values  [invalidation.NumKinds][]string
	unknown bool
}

func (c *kindCollector) Invalidate(_, _ int, k invalidation.Kind, value []byte) {
	c.values[k] = append(c.values[k], string(bytes.Clone(value)))
}

func (c *kindCollector) Fallback(int, int, *Fallback) {}

func (c *kindCollector) Verdict(_ int, v Verdict) { c.unknown = c.unknown || v == UnknownValue }

func one(p *Plan, c cdc.Change, kind invalidation.Kind) (value string, unknown bool) {
	var out kindCollector
	p.Eval(&c, &out)
	if out.unknown {
		return "", true
	}
	return out.values[kind][0], false
}
