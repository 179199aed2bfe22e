package rules

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// cappedOptions has sinks that take the same kinds up to different lengths.
func cappedOptions() Options {
	return Options{Sinks: []SinkSpec{
		{Name: "valkey", Takes: invalidation.Kinds(invalidation.Key, invalidation.KeyPrefix, invalidation.Generation, invalidation.KeyPattern)},
		{Name: "prefixes", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.URLPrefix, invalidation.Everything), Caps: invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: 20, invalidation.URL: 60, invalidation.URLPrefix: 40}}},
		{Name: "plain", Takes: invalidation.Kinds(invalidation.Tag, invalidation.URL, invalidation.Everything), Caps: invalidation.Caps{Bytes: [invalidation.NumKinds]int{invalidation.Tag: 30, invalidation.URL: 30}, PathOnly: true}},
	}}
}

func cappedRule(t testing.TB, body string) *Set {
	t.Helper()
	s, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n"+indent(body)), cappedOptions())
	require.NoError(t, err)
	return s
}

// What cannot be built is replaced at each sink that has no unknown:, never dropped.
func TestFallbacks(t *testing.T) {
	rel := relation(cdc.IdentityFull, "*id", "*slug", "*data:json")
	insert := func(slug string) cdc.Change {
		return cdc.Change{Op: cdc.Insert, Rel: rel, New: row("7", slug, `{"a": 1}`)}
	}
	long := strings.Repeat("s", invalidation.MaxValue)
	for name, c := range map[string]struct {
		rule   string
		change cdc.Change
		want   []string
	}{
		"key too long":                {`keys: ["p:{id}", "p:slug:{slug}:x"]`, insert(long), []string{"0 key p:7", `0 key_pattern p:slug:*:x`}},
		"key at the cap":              {`keys: ["p:{slug}"]`, insert(long[2:]), []string{"0 key p:" + long[2:]}},
		"glob of the literal text":    {`keys: ["p*[{slug}]"]`, insert(long), []string{`0 key_pattern p\*\[*\]`}},
		"key without literal text":    {`keys: ["{slug}"]`, insert(long + "s"), []string{"0 parked key {slug}"}},
		"key prefix":                  {`key_prefixes: ["p:{slug}:"]`, insert(long), []string{"0 key_pattern p:*:*"}},
		"generation":                  {`generations: ["g:{slug}"]`, insert(long), []string{"0 parked generation g:{slug}"}},
		"tag at one sink of two":      {`tags: ["t-{slug}"]`, insert(strings.Repeat("s", 19)), []string{"2 tag t-sssssssssssssssssss", "1 parked tag t-{slug}"}},
		"escapes count":               {`tags: ["t-{slug}"]`, insert("       "), []string{"2 tag t-%20%20%20%20%20%20%20", "1 parked tag t-{slug}"}},
		"tag at both":                 {`tags: ["t-{slug}"]`, insert(strings.Repeat("s", 40)), []string{"1 parked tag t-{slug}", "2 parked tag t-{slug}"}},
		"url":                         {`urls: ["https://shop.example/p/{slug}"]`, insert(strings.Repeat("s", 40)), []string{"1 url_prefix shop.example/p/", "2 parked url https://shop.example/p/{slug}"}},
		"only the path counts":        {`urls: ["https://shop.example/p/{slug}"]`, insert(strings.Repeat("s", 27)), []string{"1 url https://shop.example/p/sssssssssssssssssssssssssss", "2 url https://shop.example/p/sssssssssssssssssssssssssss"}},
		"query":                       {`urls: ["https://shop.example/s/?q={slug}"]`, insert(strings.Repeat("s", 50)), []string{"1 url_prefix shop.example/s/", "2 parked url https://shop.example/s/?q={slug}"}},
		"the host is no prefix":       {`urls: ["https://shop.example/{slug}"]`, insert(strings.Repeat("s", 50)), []string{"1 parked url https://shop.example/{slug}", "2 parked url https://shop.example/{slug}"}},
		"the path is cut at a slash":  {`urls: ["https://shop.example/p-{slug}", "https://shop.example/a/b?c={slug}"]`, insert(strings.Repeat("s", 50)), []string{"1 parked url https://shop.example/p-{slug}", "2 parked url https://shop.example/p-{slug}", "1 url_prefix shop.example/a/", "2 parked url https://shop.example/a/b?c={slug}"}},
		"url prefix":                  {`url_prefixes: ["shop.example/m/{slug}/"]`, insert(strings.Repeat("s", 50)), []string{"1 url_prefix shop.example/m/"}},
		"empty in a url prefix":       {`url_prefixes: ["shop.example/m/{slug}/"]`, insert(""), []string{"1 url_prefix shop.example/m/"}},
		"dots in a url":               {`urls: ["https://shop.example/p/{slug}"]`, insert(".."), []string{"1 url_prefix shop.example/p/", "2 parked url https://shop.example/p/{slug}"}},
		"expression fails":            {`keys: ["p:{1 / (slug.size() - 1)}", "q:{int(slug)}"]` + "\nsinks: [valkey]", insert("x"), []string{"0 key_pattern p:*", "0 key_pattern q:*"}},
		"path of a document":          {`keys: ["p:{data.b.c}"]`, insert("x"), []string{"0 key_pattern p:*"}},
		"a list that is too long":     {`keys: ["p:{slug.split('')}"]`, insert(strings.Repeat("s", 1001)), []string{"0 key_pattern p:*"}},
		"values that are too much":    {`keys: ["p:{slug}:{slug.split(',')}"]`, insert(strings.Repeat("s,", 999) + strings.Repeat("s", 20_000)), nil},
		"element of a list":           {`keys: ["p:{[slug, 'a']}"]`, insert(long), []string{"0 key p:a", "0 key_pattern p:*"}},
		"no old row":                  {`keys: ["p:{slug}"]`, cdc.Change{Op: cdc.Update, Rel: relation(cdc.IdentityDefault, "*id", "slug", "data:json"), New: row("7", "a", "{}")}, []string{"0 key p:a", "0 key_pattern p:*"}},
		"column that the table lacks": {`keys: ["p:{gone}"]`, insert("x"), []string{"0 key_pattern p:*"}},
		"null":                        {`keys: ["p:{slug}"]`, insert("NULL"), nil},
		"nothing at all":              {`keys: ["{slug}"]`, insert(""), nil},
		"to: one sink":                {`keys: ["p:{id}"]` + "\n" + `to: {prefixes: {tags: ["t-{slug}"]}}`, insert(strings.Repeat("s", 40)), []string{"0 key p:7", "1 parked tag t-{slug}"}},
		"unknown where it applies":    {`keys: ["p:{slug}"]` + "\ntags: [\"t-{slug}\"]\nunknown: {keys: [all]}", insert(long), []string{"0 key all", "1 parked tag t-{slug}", "2 parked tag t-{slug}"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := cappedRule(t, c.rule)
			out := eval(t, s, c.change)
			if name == "values that are too much" {
				require.Equal(t, "0 key_pattern p:*:*", out.values[len(out.values)-1])
				require.Less(t, len(strings.Join(out.values, "")), maxFanout+invalidation.MaxValue)
				return
			}
			require.Equal(t, c.want, out.values)
			var explained []string
			for _, p := range s.Explain(t.Context(), &c.change, nil)[0].Purges {
				sink := map[string]int{"valkey": 0, "prefixes": 1, "plain": 2}[p.Sink]
				if p.Parked {
					explained = append(explained, fmt.Sprintf("%d parked %s %s", sink, p.Kind, p.For))
				} else {
					explained = append(explained, fmt.Sprintf("%d %s %s", sink, p.Kind, p.Value))
				}
			}
			require.Equal(t, c.want, explained)
		})
	}
}

// The captures of a table's name are literal text of its pattern.
func TestFallbackOfATableOfMany(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`rules: [{name: x, table: "t_{tenant}.p", keys: ["{tenant}:{slug}"]}]`), cappedOptions())
	require.NoError(t, err)
	rel := relation(cdc.IdentityFull, "*slug")
	rel.Schema, rel.Name = "t_a", "p"
	out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: rel, New: row(strings.Repeat("s", invalidation.MaxValue))})
	require.Equal(t, []string{"0 key_pattern a:*"}, out.values)
}

// A list of the file's vars makes several templates of one, which are parked as one.
func TestFallbackOfAListOfVars(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`
vars: {locales: [en, de]}
rules: [{name: x, table: public.t, tags: ["{vars.locales}-{slug}"], keys: ["{vars.locales}:{slug}"]}]`), cappedOptions())
	require.NoError(t, err)
	out := eval(t, s, cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityFull, "*slug"), New: row(strings.Repeat("s", invalidation.MaxValue))})
	require.Equal(t, []string{"0 key_pattern en:*", "0 key_pattern de:*", "1 parked tag {vars.locales}-{slug}", "2 parked tag {vars.locales}-{slug}"}, out.values)
}

// A rollout that keeps everything from a sink keeps fallbacks from it, too.
func TestFallbackOfARollout(t *testing.T) {
	change := cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityFull, "*slug"), New: row(strings.Repeat("s", invalidation.MaxValue))}
	require.Empty(t, eval(t, cappedRule(t, "keys: [\"p:{slug}\"]\nrollout: 0"), change).values)
	require.Equal(t, []string{"0 key_pattern p:*"}, eval(t, cappedRule(t, "keys: [\"p:{slug}\"]\nrollout: 1"), change).values)
}

// With collapse:, values that could not be built are replaced as without it, and a step's value
// that is too long for a sink is not used there.
func TestFallbackWithCollapse(t *testing.T) {
	s := cappedRule(t, `
tags: ["t-{id}"]
keys: ["p:{slug}"]
collapse: [{over: 1, tags: ["s-{slug}"]}]
`)
	rel := relation(cdc.IdentityFull, "*id", "*slug")
	tally, plan := s.NewTally(), s.Bind(rel)
	var out recorder
	for n := range 3 {
		tally.Eval(plan, &cdc.Change{Op: cdc.Insert, Rel: rel, New: row(fmt.Sprint(n), strings.Repeat("s", 25))}, &out)
	}
	got := map[int][]string{}
	for sink := range 3 {
		require.NoError(t, tally.HandOn(sink, func(g Group) error {
			for _, v := range g.Values {
				got[sink] = append(got[sink], v.Kind.String()+" "+v.Value)
			}
			return nil
		}))
	}
	require.Equal(t, map[int][]string{2: {"tag s-" + strings.Repeat("s", 25)}}, got)
	require.Contains(t, out.values, "1 tag t-0", "the step is too long for this sink, so it keeps the exact values")
	require.NotContains(t, strings.Join(out.values, "\n"), "parked", "nothing of the rule's own was left out")

	out = recorder{}
	tally.Eval(plan, &cdc.Change{Op: cdc.Insert, Rel: rel, New: row("9", strings.Repeat("s", invalidation.MaxValue))}, &out)
	require.Contains(t, out.values, "0 key_pattern p:*")
}

// Fallbacks outlive a transaction that is read before it ends.
func TestFallbackIsRecorded(t *testing.T) {
	s := cappedRule(t, `keys: ["p:{slug}"]`+"\n"+`tags: ["t-{slug}"]`)
	rel := relation(cdc.IdentityFull, "*slug")
	change := cdc.Change{Op: cdc.Insert, Rel: rel, New: row(strings.Repeat("s", invalidation.MaxValue))}
	var direct recorder
	plan := s.Bind(rel)
	plan.Eval(&change, &direct)
	records := &recorded{noted: &noted{}}
	recording := s.NewRecording()
	recording.Eval(plan, &change, records)
	require.Len(t, records.records, 3)
	var played recorder
	for _, r := range records.records {
		require.NoError(t, recording.Play(r, s.NewTally(), &played))
		for n := range r[:len(r)-1] {
			_ = recording.Play(r[:n], s.NewTally(), &recorder{}) // a damaged record is an error at most
		}
	}
	require.Equal(t, direct.values, played.values)
}

// Where a lookup has no answer, unknown: is purged at each sink; where a value of the answer is
// too long for one, as well.
func TestFallbackOfALookup(t *testing.T) {
	s := cappedRule(t, `
sinks: [prefixes, plain]
lookup: {m: {sql: "SELECT slug FROM s WHERE id = $1", args: ["{id}"]}}
tags: ["m-{m.slug}"]
unknown: {tags: [all]}
`)
	change := cdc.Change{Op: cdc.Insert, Rel: relation(cdc.IdentityFull, "*id"), New: row("7")}
	out := asker{set: s, answer: rowsOf("slug", row("a"), row(strings.Repeat("s", 25)))}
	s.Bind(change.Rel).Eval(&change, &out)
	require.Equal(t, []string{"1 tag m-a", "2 tag m-a", "2 tag m-" + strings.Repeat("s", 25), "1 tag all", "2 tag all"}, out.values)
	require.Contains(t, out.verdicts, "0 unknown_value")
}

// What of a message cannot be purged at a sink is parked there, without its content.
func TestFallbackOfAMessage(t *testing.T) {
	s, err := Parse("rules.yaml", []byte(`rules: [{name: hand, message: cache.purge}]`), cappedOptions())
	require.NoError(t, err)
	for content, want := range map[string][]string{
		`{"tags": ["ok", "sssssssssssssssssssssssss"]}`: {"1 tag ok", "2 tag ok", "2 tag sssssssssssssssssssssssss", "1 parked everything cache.purge"},
		`{"keys": [""]}`:    {"0 parked everything cache.purge"},
		`{"tags": "x"}`:     {"1 parked everything cache.purge", "2 parked everything cache.purge"},
		`{"keys": [`:        {"0 parked everything cache.purge", "1 parked everything cache.purge", "2 parked everything cache.purge"},
		`{"flush": true}`:   {"0 parked everything cache.purge", "1 parked everything cache.purge", "2 parked everything cache.purge"},
		`{"keys": ["ok"]} `: {"0 key ok"},
	} {
		var out recorder
		err := s.Message("cache.purge", []byte(content), &out)
		require.Equal(t, want, out.values, content)
		require.Equal(t, content != `{"keys": ["ok"]} `, err != nil)
		if err != nil {
			require.NotContains(t, err.Error(), "sss")
		}
	}

	// What names no kind is covered by any unknown:, what names one at its sinks only.
	s, err = Parse("rules.yaml", []byte(`rules: [{name: hand, message: cache.purge, unknown: {keys: [all]}}]`), cappedOptions())
	require.NoError(t, err)
	for content, want := range map[string][]string{
		`{"keys": [`:     {"0 key all"},
		`{"tags": [""]}`: {"0 key all", "1 parked everything cache.purge", "2 parked everything cache.purge"},
	} {
		var out recorder
		require.Error(t, s.Message("cache.purge", []byte(content), &out))
		require.Equal(t, want, out.values, content)
	}
}

// Fixed values must fit every sink that they go to.
func TestFixedValuesFitTheirSinks(t *testing.T) {
	long := strings.Repeat("t", 25)
	for body, says := range map[string]string{
		"tags: [" + long + "]":                                             "rules.yaml:4:12: rule \"x\": a value of 25 bytes is too long for prefixes, which takes at most 20; shorten it, or name it under `to` for the sinks that take it",
		"tags: [a]\nunknown: {tags: [" + long + "]}":                       "rules.yaml:5:5: rule \"x\": a value of 25 bytes is too long for prefixes",
		"tags: [a]\non_truncate: {tags: [" + long + "]}":                   "rules.yaml:5:5: ",
		"tags: [\"t-{id}\"]\ncollapse: {over: 5, tags: [" + long + "]}":    "rules.yaml:5:",
		"tags: [a]\nto: {prefixes: {tags: [" + long + "]}}":                "rules.yaml:5:",
		"tags: [a]\nto: {plain: {tags: [" + long + "]}}":                   "",
		"urls: [\"https://a-very-long-host.shop.example/p/1\"]\ntags: [a]": "",
	} {
		_, err := Parse("rules.yaml", []byte("rules:\n  - name: x\n    table: public.t\n"+indent(body)), cappedOptions())
		if says == "" {
			require.NoError(t, err, body)
			continue
		}
		require.ErrorContains(t, err, says, body)
	}
}
