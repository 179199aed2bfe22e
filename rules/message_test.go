package rules

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// hand is a rule of messages whose sinks are cache, edge and all.
func hand(t testing.TB, more string) *Set {
	t.Helper()
	s, err := Parse("rules.yaml", []byte("rules: [{name: hand, message: cache.purge, sinks: [cache, edge, all]"+more+"}]"), allOptions())
	require.NoError(t, err)
	return s
}

func TestMessage(t *testing.T) {
	long := strings.Repeat("x", invalidation.MaxValue+1)
	for _, c := range []struct {
		name, content string
		values        []string // at the sink that takes all
		wrong         string   // "" where everything is fit
	}{
		{"every kind", `{"keys": ["home", "a*b"], "tags": ["t"], "urls": ["https://shop.example/p/1?a=b"], "url_prefixes": ["shop.example/m/"], "key_prefixes": ["p:1:"], "generations": ["g"]}`,
			[]string{"key home", "key a*b", "tag t", "url https://shop.example/p/1?a=b", "url_prefix shop.example/m/", "key_prefix p:1:", "generation g"}, ""},
		{"nothing", `{}`, nil, ""},
		{"nothing of a kind", ` { "keys" : [ ] } `, nil, ""},
		{"twice counts twice", `{"keys": ["a"], "keys": ["b"]}`, []string{"key a", "key b"}, ""},
		{"escapes", `{"keys": ["\u00e9\ud83d\ude00\ufffd\u0000"]}`, []string{"key é😀\ufffd\x00"}, ""},
		{"no text", `{"keys": ["a", 7, null, ["b"], {"c": "d"}, "e"]}`, []string{"key a", "key e"}, "4 parts of a message \"cache.purge\" cannot be used: keys[1] is not a text; keys[2] is not a text; keys[3] is not a text"},
		{"no list", `{"keys": "a", "tags": ["t"]}`, []string{"tag t"}, "keys is not a list"},
		{"another member", `{"flush": true, "keys": ["a"], "everything": [""]}`, []string{"key a"}, "2 parts of a message \"cache.purge\" cannot be used: member 1 is not one of keys"},
		{"patterns are no kind", `{"key_patterns": ["*"]}`, nil, "member 1 is not one of"},
		{"empty ones", `{"keys": [""], "tags": [""], "key_prefixes": [""], "url_prefixes": [""], "generations": [""], "urls": [""]}`, nil, "6 parts"},
		{"too long", `{"keys": ["` + long + `", "a"]}`, []string{"key a"}, "keys[0] is 65537 bytes long, at most 65536 are allowed"},
		{"urls that are none", `{"urls": ["/p/1", "shop.example/p", "https://shop.example", "ftp://a/b", "https://shop.example/../b", "https://shop.example/a b", "https://a@b/c"]}`,
			[]string{"url https://shop.example"}, "6 parts of a message \"cache.purge\" cannot be used: urls[0] is no url that can be purged"},
		{"prefixes that reach too far", `{"url_prefixes": ["https://a/b", "shop.example", "/"], "key_prefixes": ["p", "product:1"]}`, nil, "5 parts"},
		{"half a pair", `{"keys": ["\ud800", "a"]}`, []string{"key a"}, "keys[0] has half of a surrogate pair"},
		{"no JSON", `{"keys": ["a"]`, nil, "it is not JSON"},
		{"more behind it", `{"keys": ["a"]} {}`, nil, "it is not JSON"},
		{"a list", `["a"]`, nil, "it is not an object"},
		{"null", `null`, nil, "it is not an object"},
		{"nothing at all", ``, nil, "it is not JSON"},
		{"not UTF-8", "{\"keys\": [\"\xe9\"]}", nil, "it is not UTF-8"},
		{"too large", `{"keys": ["a"]` + strings.Repeat(" ", MaxMessage) + `}`, nil, "it is longer than 1048576 bytes"},
		{"nested", strings.Repeat(`[`, 20_000) + strings.Repeat(`]`, 20_000), nil, "cannot be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got kindsBySink
			err := hand(t, ", unknown: {keys: [unknown]}").Message("cache.purge", []byte(c.content), &got)
			want := c.values
			if c.wrong == "" {
				require.NoError(t, err)
				require.Equal(t, []string{"matched"}, got.verdicts)
			} else {
				require.ErrorContains(t, err, c.wrong)
				require.NotContains(t, err.Error(), "shop.example", "what the message names is not told")
				require.Equal(t, []string{"matched", "failed"}, got.verdicts)
				want = append(append([]string(nil), want...), "key unknown")
			}
			require.Equal(t, want, got.at(all))
		})
	}
}

// kindsBySink writes down "sink kind value".
type kindsBySink struct {
	noLookups
	values   []string
	verdicts []string
}

func (k *kindsBySink) Invalidate(_, sink int, kind invalidation.Kind, value []byte) {
	k.values = append(k.values, fmt.Sprintf("%d %s %s", sink, kind, value))
}
func (k *kindsBySink) Fallback(int, int, *Fallback) {}

func (k *kindsBySink) Verdict(_ int, v Verdict) { k.verdicts = append(k.verdicts, v.String()) }

func (k *kindsBySink) at(sink int) []string {
	var out []string
	for _, v := range k.values {
		if rest, ok := strings.CutPrefix(v, fmt.Sprint(sink, " ")); ok {
			out = append(out, rest)
		}
	}
	return out
}

func TestMessageGoesToSinksThatTakeIt(t *testing.T) {
	s := hand(t, "")
	var got kindsBySink
	require.NoError(t, s.Message("cache.purge", []byte(`{"keys": ["k"], "tags": ["t"], "urls": ["https://a/b"]}`), &got))
	require.Equal(t, []string{"key k", "tag t"}, got.at(cache))
	require.Equal(t, []string{"tag t", "url https://a/b"}, got.at(edge))
	require.Equal(t, []int{cache, edge, all}, s.Rules()[0].Sinks)
	require.NoError(t, s.Message("cache.purge.other", []byte(`x`), &got), "no rule has the prefix")
	require.True(t, s.Watches("cache.purge"))
	require.Equal(t, []string{"cache.purge"}, s.Messages())
	require.Empty(t, s.Tables())
	require.Empty(t, s.Needs())
	_, err := s.FlushPatterns(cache)
	require.ErrorContains(t, err, "may name any key, so no flush pattern follows from it; give sink \"cache\" a `flush:`")
	patterns, err := s.FlushPatterns(keysonly)
	require.NoError(t, err, "not a sink of the rule")
	require.Empty(t, patterns)

	narrow, err := Parse("rules.yaml", []byte("rules: [{name: hand, message: a, sinks: [keysonly]}]"), allOptions())
	require.NoError(t, err)
	got = kindsBySink{}
	require.ErrorContains(t, narrow.Message("a", []byte(`{"keys": ["k"], "tags": ["t", "u"]}`), &got), "2 parts of a message \"a\" cannot be used: none of the rule's sinks takes tags")
	require.Equal(t, []string{"key k"}, got.at(keysonly))

	e := hand(t, "").ExplainMessage("cache.purge", []byte(`{"keys": ["k", ""]}`))
	require.Equal(t, "it carries out messages with this prefix; what cannot be used: keys[1] is empty", e[0].Why)
	require.Equal(t, []Purge{
		{Sink: "cache", Kind: invalidation.Key, Value: "k"}, {Sink: "all", Kind: invalidation.Key, Value: "k"},
		{Sink: "cache", Kind: invalidation.Everything, For: "cache.purge", Parked: true}, {Sink: "all", Kind: invalidation.Everything, For: "cache.purge", Parked: true},
	}, e[0].Purges)
}

func TestMessageIsBounded(t *testing.T) {
	keys := make([]string, MaxMessageValues+5)
	for i := range keys {
		keys[i] = fmt.Sprint("k", i)
	}
	content, err := json.Marshal(map[string][]string{"keys": keys})
	require.NoError(t, err)
	var got kindsBySink
	require.ErrorContains(t, hand(t, "").Message("cache.purge", content, &got), "5 parts of a message \"cache.purge\" cannot be used: it has more than 10000 values")
	require.Len(t, got.at(cache), MaxMessageValues)
}

func TestMessageRuleIsRefused(t *testing.T) {
	for more, want := range map[string]string{
		`message: ""`:                 "`message` is empty",
		`message: walpurge.heartbeat`: "`message`: prefixes that begin with walpurge. are walpurge's own",
		`message: ` + strings.Repeat("a", MaxMessagePrefix+1):          "`message` is longer than 256 bytes",
		`message: a, table: public.t`:                                  "`table` has no place beside `message`",
		`message: a, ops: [insert]`:                                    "`ops` has no place beside `message`",
		`message: a, when: "true"`:                                     "`when` has no place beside `message`",
		`message: a, keys: [a]`:                                        "`keys` has no place beside `message`",
		`message: a, on_truncate: {keys: [a]}`:                         "`on_truncate` has no place beside `message`",
		`message: a, to: {all: {keys: [a]}}`:                           "`to` has no place beside `message`",
		`message: a, lookup: {m: {sql: SELECT}}`:                       "`lookup` has no place beside `message`",
		`message: a, unknown: {urls: ["https://a/b"]}, sinks: [cache]`: "`unknown.urls`: none of its sinks (cache) takes a url",
		`message: a, sinks: []`:                                        "`sinks` is empty",
	} {
		_, err := Parse("rules.yaml", []byte("rules: [{name: x, "+more+"}]"), allOptions())
		require.ErrorContains(t, err, want, more)
	}
	_, err := Parse("rules.yaml", []byte("rules: [{name: x, message: a}]"), Options{Sinks: []SinkSpec{{Name: "a", Takes: invalidation.Kinds(invalidation.Everything)}}})
	require.ErrorContains(t, err, "none of its sinks takes what a message can name")
}

// Whatever a message says, it purges no more than single values that its kinds
// allow, and never everything.
func FuzzMessage(f *testing.F) {
	for _, seed := range []string{`{"keys": ["a"], "tags": ["b"]}`, `{"urls": ["https://a/b"], "url_prefixes": ["a/"], "key_prefixes": ["a:"]}`, `[`, `{"keys": [1]}`, `{"keys":`} {
		f.Add([]byte(seed))
	}
	s := hand(f, "")
	f.Fuzz(func(t *testing.T, content []byte) {
		var got frameChecker
		_ = s.Message("cache.purge", content, &got)
		require.False(t, got.bad, "%q", content)
	})
}

type frameChecker struct {
	noLookups
	bad bool
}

func (c *frameChecker) Invalidate(_, _ int, k invalidation.Kind, value []byte) {
	c.bad = c.bad || k >= invalidation.KeyPattern || len(value) == 0 || len(value) > invalidation.MaxValue || escapes(k, value) ||
		k == invalidation.KeyPrefix && !bytes.ContainsAny(value[len(value)-1:], `!"#$%&'()+,-./:;<=>@^_|}~`)
}
func (c *frameChecker) Fallback(int, int, *Fallback) {}

func (c *frameChecker) Verdict(int, Verdict) {}

// A message of fit values purges exactly these; keys in whatever bytes.
func TestPropertyMessage(t *testing.T) {
	s := hand(t, "")
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOf(rapid.StringN(1, 20, 512)).Draw(t, "keys")
		tags := rapid.SliceOf(rapid.StringMatching(`[!-+\--~]{1,20}`)).Draw(t, "tags") // what a header can carry
		content, err := json.Marshal(map[string][]string{"keys": keys, "tags": tags})
		require.NoError(t, err)
		var got kindCollector
		require.NoError(t, s.Message("cache.purge", content, &got))
		want := 0
		for _, k := range keys {
			require.Contains(t, got.values[invalidation.Key], k)
			want += 2 // cache and all
		}
		require.Len(t, got.values[invalidation.Key], want)
		require.Len(t, got.values[invalidation.Tag], 3*len(tags))
	})
}
