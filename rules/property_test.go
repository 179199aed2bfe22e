package rules

import (
	"bytes"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// collector keeps values byte by byte.
type collector struct {
	noLookups
	keys, patterns [][]byte
	unknown        bool
}

func (c *collector) Invalidate(_, _ int, k invalidation.Kind, value []byte) {
	if k == invalidation.KeyPattern {
		c.patterns = append(c.patterns, bytes.Clone(value))
		return
	}
	c.keys = append(c.keys, bytes.Clone(value))
}

func (c *collector) Fallback(int, int, *Fallback) {}

func (c *collector) Verdict(_ int, v Verdict) { c.unknown = c.unknown || v == UnknownValue }

func hostile() *rapid.Generator[string] {
	return rapid.OneOf(
		rapid.SampledFrom([]string{"", "*", "{", "}", "{id}", "\n", "\x00", "\xff\xfe", "a*b?[c]\\", "' OR 1", "\r\nDEL x", string(bytes.Repeat([]byte("x"), 1<<20))}),
		rapid.StringN(0, 40, 200),
		rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 600), func(b []byte) string { return string(b) }),
	)
}

func TestPropertyBothImages(t *testing.T) {
	s := oneRule(t, `keys: ["<{a}|{b}>"]`)
	rel := relation(cdc.IdentityFull, "*a", "*b", "*c")
	plan := s.Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		draw := func(side string) []string {
			return []string{hostile().Draw(r, side+"a"), hostile().Draw(r, side+"b"), hostile().Draw(r, side+"c")}
		}
		before, after := draw("old "), draw("new ")
		change := cdc.Change{Op: cdc.Update, Rel: rel, Old: texts(before), New: texts(after)}
		var first, second collector
		plan.Eval(&change, &first)
		plan.Eval(&change, &second)
		require.Equal(r, first, second, "the same change gives the same values")

		var want [][]byte
		over := false
		for _, v := range [][]string{after, before} {
			key := []byte("<" + v[0] + "|" + v[1] + ">")
			switch {
			case len(key) > invalidation.MaxValue:
				over = true
			case !slices.ContainsFunc(want, func(w []byte) bool { return bytes.Equal(w, key) }):
				want = append(want, key)
			}
		}
		require.Equal(r, want, first.keys)
		require.Equal(r, over, first.unknown)
	})
}

// texts makes a row of plain texts, whatever they spell.
func texts(values []string) cdc.Tuple {
	t := make(cdc.Tuple, len(values))
	for i, v := range values {
		t[i] = cdc.Value{Kind: cdc.Text, Data: []byte(v)}
	}
	return t
}

// glob is Valkey's matcher cut down to what patterns use: * and backslash.
func glob(pattern, s []byte) bool {
	switch {
	case len(pattern) == 0:
		return len(s) == 0
	case pattern[0] == '*':
		return glob(pattern[1:], s) || len(s) > 0 && glob(pattern, s[1:])
	case pattern[0] == '\\' && len(pattern) > 1:
		pattern = pattern[1:]
	}
	return len(s) > 0 && s[0] == pattern[0] && glob(pattern[1:], s[1:])
}

// A pattern matches every key of its template, and nothing outside the
// template's literal frame, whatever the frame holds.
func TestPropertyPatternFrame(t *testing.T) {
	frame := rapid.StringMatching(`[a*?\[\]\\^:-]{1,6}`)
	rapid.Check(t, func(r *rapid.T) {
		head, tail := frame.Draw(r, "head"), frame.Draw(r, "tail")
		tmpl, _, err := parseTemplate(head + "{v}" + tail)
		require.NoError(r, err)
		pattern, literal := tmpl.pattern()
		require.True(r, literal)
		value := rapid.StringN(0, 20, 40).Draw(r, "value")
		require.True(r, glob([]byte(pattern), []byte(head+value+tail)))
		other := frame.Draw(r, "other")
		if other != head && len(other) == len(head) {
			require.False(r, glob([]byte(pattern), []byte(other+value+tail)))
		}
	})
}

func TestPropertyTruncateIgnoresRows(t *testing.T) {
	s := mustParse(t, `{rules: [{name: x, table: public.t, keys: ["a:{a}"], sinks: [cache]}]}`)
	rel := relation(cdc.IdentityFull, "*a")
	plan := s.Bind(rel)
	rapid.Check(t, func(r *rapid.T) {
		var row, all collector
		plan.Eval(&cdc.Change{Op: cdc.Insert, Rel: rel, New: texts([]string{hostile().Draw(r, "a")})}, &row)
		plan.Eval(&cdc.Change{Op: cdc.Truncate, Rel: rel}, &all)
		require.Equal(r, [][]byte{[]byte("a:*")}, all.patterns)
		require.Empty(r, row.patterns, "no row makes a pattern")
	})
}

func TestPropertyTemplateParserNeverPanics(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		text := rapid.StringMatching(`[a{}'"\\. \[\]é]{0,20}`).Draw(r, "text")
		tmpl, at, err := parseTemplate(text)
		if err != nil {
			require.True(r, at >= 0 && at <= len(text))
			return
		}
		require.NotNil(r, tmpl)
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		"rules: [{name: a, table: b.c, keys: ['k:{id}'], when: 'changed(id) && x.exists(y, y == id)'}]",
		"rules:\n  - name: a\n    message: b\n    unknown: {keys: []}\n", "defaults: {sinks: [cache]}", "rules: [{}, ~, 5]",
		"vars: {l: [a, b], n: 5}\nrules: [{name: a, table: b.c, keys: ['{lower(id)}{vars.l}', '{x.a[0]}'], when: 'x.a > vars.n && id in vars.l', to: {edge: {tags: ['{x + []}']}}}]",
		"rules: [{name: a, table: 't_{t}.o', urls: ['https://h/{t}/{urlpath(id)}?{id}'], key_prefixes: ['a{t}:'], when: 't == id'}]",
	} {
		f.Add([]byte(s))
	}
	rel := relation(cdc.IdentityFull, "*id", "*x:json")
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := Parse("f", data, allOptions())
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		for _, table := range append(s.Tables(), Table{Schema: "t_a", Name: "o"}) {
			if !s.Matches(table) {
				continue
			}
			r := *rel
			r.Schema, r.Name = table.Schema, table.Name
			s.Bind(&r).Eval(&cdc.Change{Op: cdc.Insert, Rel: &r, New: row("7", "[1]")}, &counter{})
			s.Bind(&r).Eval(&cdc.Change{Op: cdc.Truncate, Rel: &r}, &counter{})
			_ = s.Explain(t.Context(), &cdc.Change{Op: cdc.Update, Rel: &r, New: row("7", `{"a": [1]}`)}, nil)
		}
		_ = s.Needs()
	})
}
