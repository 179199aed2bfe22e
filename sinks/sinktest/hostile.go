package sinktest

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/sinks"
)

// hostileValues are what columns hold when somebody wants a purge to do more
// than its rule intends, or to break what carries it.
func hostileValues() []string {
	return []string{
		"",
		" ",
		"*",
		"?",
		"conformance-*",
		"[a-z]",
		`\`,
		"{}",
		"{tag}x",
		"a,b",
		"a b",
		"line\nbreak",
		"x\r\nFLUSHALL\r\n",
		"x\r\n*1\r\n$8\r\nFLUSHALL\r\n",
		"x\r\nHost: elsewhere\r\n\r\n",
		`"],"purge_everything":true,"tags":["`,
		`x"}`,
		"../../../zones",
		"https://user:password@host/?q=1#f",
		"%2e%2e%00",
		"nul\x00nul",
		"\xff\xfe\x80",
		"ümläut-日本",
		"<script>&amp;",
		strings.Repeat("k", 1024),
		strings.Repeat("k", 1025),
		strings.Repeat("k", 64<<10),
	}
}

// canary is the entry that no hostile value names.
const canary = "canary-that-is-not-named"

func (s Subject) hostile(t *testing.T) {
	w := s.start(t)
	for _, v := range hostileValues() {
		w.judge(t, []string{s.value(0), v, s.value(1)})
	}
	all := hostileValues()
	for len(all) > 0 {
		n := min(len(all), s.Limits.Items)
		w.judge(t, all[:n])
		all = all[n:]
	}
}

func (s Subject) anyBytes(t *testing.T) {
	w := s.start(t)
	value := rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 40), func(b []byte) string { return string(b) })
	rapid.Check(t, func(rt *rapid.T) {
		w.judge(t, rapid.SliceOfNDistinct(value, 1, min(8, s.Limits.Items), strings.ToLower).Draw(rt, "values"))
	})
}

// judge purges values and demands that each was carried out to the letter or
// refused at its place as its own fault, and that nothing else was touched.
func (w *watch) judge(t *testing.T, values []string) {
	t.Helper()
	w.Fill(t, append([]string{canary}, values...))
	err := w.purge(t, t.Context(), w.batch(values))
	require.True(t, w.Held(t, canary), "%q purged an entry that was not named", values)

	failed := map[int]error{}
	if err != nil {
		var be *sinks.BatchError
		require.True(t, errors.As(err, &be), "%q: values that cannot be taken are named by place, the others done: %v", values, err)
		failed = be.Failed
	}
	for i, v := range values {
		if ferr := failed[i]; ferr != nil {
			class, _ := sinks.ClassOf(ferr)
			require.Equal(t, sinks.Item, class, "%q is refused as its own fault", v)
			continue
		}
		require.False(t, w.Held(t, v), "%q was reported as purged and is still held", v)
	}
}
