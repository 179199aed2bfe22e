package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/rules/urlvariant"
)

func withHeaders() Options {
	opts := testOptions()
	opts.Sinks[edge].Headers = urlvariant.HeaderUse{Taken: true, Reserved: []string{"xkey"}}
	return opts
}

func TestHeadersFanOut(t *testing.T) {
	opts := withHeaders()
	opts.Sinks[cache].Takes |= invalidation.Kinds(invalidation.URL) // which does without headers
	s, err := Parse("rules.yaml", []byte(`
vars: {locales: [en, de]}
rules:
  - name: a
    table: public.t
    tags: ["t-{id}"]
    urls: ["https://h/{vars.locales}/{slug}"]
    headers: {X-Device: [mobile, desktop], Accept-Language: "de, en;q=0.5", X-None: ""}
    collapse: {over: 50, urls: ["https://h/all"]}
`), opts)
	require.NoError(t, err)
	rel := relation(cdc.IdentityFull, "*id", "*slug")
	const suffix = " Accept-Language=de%2C+en%3Bq%3D0.5&X-Device="
	values := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", "A b=c&d")}).values
	var urls []string
	for _, v := range values {
		if strings.Contains(v, " url ") {
			urls = append(urls, v)
		}
	}
	require.Empty(t, s.Variants(cache))
	require.Len(t, s.Variants(edge), 2)
	require.Equal(t, urlvariant.Variant{"X-Device": "mobile", "Accept-Language": "de, en;q=0.5", "X-None": ""}, s.Variants(edge)[0])
	const page = "A%20b%3Dc%26d"
	require.ElementsMatch(t, []string{
		"0 url https://h/en/" + page, "0 url https://h/de/" + page,
		"1 url https://h/en/" + page + suffix + "mobile&X-None=", "1 url https://h/en/" + page + suffix + "desktop&X-None=",
		"1 url https://h/de/" + page + suffix + "mobile&X-None=", "1 url https://h/de/" + page + suffix + "desktop&X-None=",
	}, urls)
	for _, v := range urls {
		if _, value, _ := strings.Cut(v, "1 url "); value != "" {
			text, variant, err := urlvariant.Cut(value)
			require.NoError(t, err)
			require.Equal(t, value, variant.Append(text))
			require.Equal(t, "de, en;q=0.5", variant["Accept-Language"])
			require.Len(t, variant, 3)
		}
	}
}

// A part of a page's variants would be no rollout of the page.
func TestVariantsShareARollout(t *testing.T) {
	opts := withHeaders()
	opts.Sinks[edge].Withheld = 50
	s, err := Parse("rules.yaml", []byte(`rules: [{name: a, table: public.t, sinks: [edge], urls: ["https://h/{id}"], headers: {X-Device: [a, b, c, d, e, f]}}]`), opts)
	require.NoError(t, err)
	rel := relation(cdc.IdentityFull, "*id")
	passed := 0
	for id := range 50 {
		n := len(eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row(fmt.Sprint(id))}).values)
		require.Contains(t, []int{0, 6}, n)
		if passed += n; n == 6 {
			require.Less(t, Bucket(fmt.Appendf(nil, "https://h/%d", id)), 50)
		}
	}
	require.NotZero(t, passed)
	require.Less(t, passed, 300)
}

func TestHeadersThatCannotBe(t *testing.T) {
	many := "[" + strings.TrimSuffix(strings.Repeat("%d, ", 9), ", ") + "]"
	for n := range 9 {
		many = strings.Replace(many, "%d", fmt.Sprintf("v%d", n), 1)
	}
	for says, text := range map[string]string{
		"the lists make more than 64 combinations":                  `urls: ["https://h/{id}"], headers: {A: ` + many + `, B: ` + many + `}`,
		"with its URLs they make more than 1000 values":             `urls: [` + strings.Repeat(`"https://h/{id}", `, 20) + `"https://h/x/{id}"], headers: {A: ` + many + `, B: [1, 2, 3, 4, 5, 6]}`,
		"`headers` is empty":                                        `urls: ["https://h/{id}"], headers: {}`,
		"X-A: the list is empty":                                    `urls: ["https://h/{id}"], headers: {X-A: []}`,
		`X-A: "a" stands in the list twice`:                         `urls: ["https://h/{id}"], headers: {X-A: [a, a]}`,
		"x-a: the header is named twice":                            `urls: ["https://h/{id}"], headers: {X-A: a, x-a: b}`,
		"Host: this header says something about the request itself": `urls: ["https://h/{id}"], headers: {Host: a}`,
		`"X A" is not the name of a header`:                         `urls: ["https://h/{id}"], headers: {"X A": a}`,
		"X-A: value 2: write up to 256 printable":                   `urls: ["https://h/{id}"], headers: {X-A: [a, "b\r\nC: d"]}`,
		"xkey means something else in purges of edge":               `urls: ["https://h/{id}"], headers: {XKEY: a}`,
		"the rule has no `urls`":                                    `keys: ["k:{id}"], headers: {X-A: a}`,
		"api finds no headers":                                      `sinks: [edge, api], urls: ["https://h/{id}"], headers: {X-A: a}`,
	} {
		opts := withHeaders()
		opts.Sinks = append(opts.Sinks, SinkSpec{Name: "api", Takes: invalidation.Kinds(invalidation.URL), Headers: urlvariant.HeaderUse{Refused: "finds no headers"}})
		if !strings.Contains(text, "sinks:") {
			text = "sinks: [edge, cache], " + text
		}
		_, err := Parse("rules.yaml", []byte("rules: [{name: a, table: public.t, "+text+"}]"), opts)
		require.ErrorContains(t, err, says)
	}
	_, err := Parse("rules.yaml", []byte("rules: [{name: a, message: m, headers: {X-A: a}}]"), withHeaders())
	require.ErrorContains(t, err, "`headers` has no place beside `message`")
}

// Fixed URLs have the headers of the rule, too.
func TestHeadersOfFixedURLs(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`rules: [{name: a, table: public.t, sinks: [edge], urls: ["https://h/{id}"], headers: {X-Device: [a, b]}, on_truncate: {urls: ["https://h/all"]}}]`), withHeaders())
	require.NoError(t, err)
	rel := relation(cdc.IdentityFull, "*id")
	require.Equal(t, []string{"1 url https://h/all X-Device=a", "1 url https://h/all X-Device=b"}, eval(t, s, cdc.Change{Op: cdc.Truncate, Rel: rel}).values)
}
