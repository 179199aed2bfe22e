package rules

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cdc"
)

func TestTruncate(t *testing.T) {
	rel := relation(cdc.IdentityDefault, "*id")
	for name, c := range map[string]struct {
		rule string
		want []string
	}{
		"patterns where they are taken": {`keys: ["p:{id}", 'x*?[y]\{id}', "home"]
sinks: [cache]`, []string{`0 key_pattern p:*`, `0 key_pattern x\*\?\[y\]\\*`, `0 key home`}},
		"a sink without patterns is flushed": {`keys: ["p:{id}"]`, []string{`0 key_pattern p:*`, `2 everything `}},
		"fixed keys need no pattern":         {`{keys: [home], sinks: [keysonly]}`, []string{`2 key home`}},
		"no literal text is a flush":         {`{keys: ["p:{id}", "{id}"], sinks: [cache]}`, []string{`0 everything `}},
		"tags have no pattern":               {`{keys: ["p:{id}"], tags: ["t:{id}"], sinks: [cache, edge]}`, []string{`0 everything `, `1 everything `}},
		"on_truncate, and the rest falls back": {`keys: ["p:{id}"]
tags: ["t:{id}"]
on_truncate: {tags: [all]}`, []string{`0 tag all`, `1 tag all`, `2 everything `}},
		"sinks of nothing are left alone":       {`{keys: ["p:{id}"], sinks: [cache, edge]}`, []string{`0 key_pattern p:*`}},
		"whatever the condition and operations": {`{keys: ["p:{id}"], sinks: [cache], ops: [insert], when: "id == 5"}`, []string{`0 key_pattern p:*`}},
	} {
		t.Run(name, func(t *testing.T) {
			body := c.rule
			if body[0] == '{' {
				body = "- {name: x, table: public.t, " + body[1:]
			} else {
				body = "- name: x\n  table: public.t\n  " + indentBy2(body)
			}
			out := eval(t, mustParse(t, "rules:\n"+body), cdc.Change{Op: cdc.Truncate, Rel: rel})
			require.Equal(t, c.want, out.values)
			require.Equal(t, []string{"0 matched"}, out.verdicts)
		})
	}
}

func indentBy2(s string) string {
	out := []byte{}
	for i := range len(s) {
		out = append(out, s[i])
		if s[i] == '\n' {
			out = append(out, ' ', ' ')
		}
	}
	return string(out)
}

func TestFlushPatterns(t *testing.T) {
	s := mustParse(t, `
rules:
  - {name: a, table: public.t, keys: ["p:{id}", "s:{slug}:{id}"], sinks: [cache]}
  - {name: b, table: public.t, keys: ["p:{other}", "fixed*"], sinks: [cache]}
  - {name: c, table: public.t, keys: ["c:{id}", "{id}"], sinks: [keysonly]}
  - {name: d, table: public.t, tags: ["{id}"], sinks: [edge]}
`)
	patterns, err := s.FlushPatterns(cache)
	require.NoError(t, err)
	require.Equal(t, []string{`fixed\*`, "p:*", "s:*:*"}, patterns)
	_, err = s.FlushPatterns(keysonly)
	require.EqualError(t, err, "rules.yaml:5: rule \"c\": key \"{id}\" has no literal text, so no flush pattern follows from it; give sink \"keysonly\" a `flush:`")
	patterns, err = s.FlushPatterns(edge)
	require.NoError(t, err)
	require.Empty(t, patterns)
	_, err = s.FlushPatterns(3)
	require.Error(t, err)
}
