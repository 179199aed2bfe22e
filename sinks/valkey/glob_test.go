package valkey

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// What we match with is what the server matches with, and at least that in a range
// that ends beyond ASCII.
func TestGlobsMatchAsTheServerDoes(t *testing.T) {
	srv := startServer(t)
	letters := rapid.SampledFrom([]byte{'a', 'b', 'c', '*', '*', '?', '[', ']', '\\', '^', '-', 0, 0xff})
	text := func(most int) *rapid.Generator[string] {
		return rapid.Map(rapid.SliceOfN(letters, 1, most), func(b []byte) string { return string(b) })
	}
	rapid.Check(t, func(rt *rapid.T) {
		keys := rapid.SliceOfNDistinct(text(5), 1, 20, rapid.ID[string]).Draw(rt, "keys")
		piece := rapid.OneOf(text(3), rapid.SampledFrom([]string{"[^a]", "[^ab]", "[a-c]", "[c-a]", "[^a-b]", "[]", "[^]", "[^", "[a-", "[a-]", "[\\]]", "[\\", "\\", "\\*", "[b"}))
		pattern := strings.Join(rapid.SliceOfN(piece, 1, 4).Draw(rt, "pattern"), "")
		do(t, srv.admin, "FLUSHALL")
		fill(t, srv.admin, keys...)
		theirs, err := do(t, srv.admin, "KEYS", pattern).AsStrSlice()
		require.NoError(rt, err)
		var ours []string
		g := newGlobs([]glob{newGlob(0, pattern), newGlob(1, "\x00never")})
		for _, key := range keys {
			if len(g.match(key)) > 0 {
				ours = append(ours, key)
			}
		}
		if strings.Contains(pattern, "\xff") {
			require.Subset(rt, ours, theirs, "%q", pattern)
			return
		}
		require.ElementsMatch(rt, theirs, ours, "%q", pattern)
	})
}

// Servers differ in whether a byte beyond ASCII comes before or after the letters.
func TestRangesBeyondASCIITakeEitherOrder(t *testing.T) {
	for _, key := range []string{"a", "b", "c", "\xff"} {
		require.True(t, matchGlob("[b-\xff]", key), "%q", key)
	}
	require.False(t, matchGlob("[b-c]", "\xff"))
	require.True(t, matchGlob("[^b-\xff]", "a"), "left out by one order only")
	require.False(t, matchGlob("[^b-\xff]", "b"))
	require.False(t, matchGlob("[^b-\xff]", "\xff"))
}

func TestGlobsFindPlaces(t *testing.T) {
	g := newGlobs([]glob{newGlob(0, "product:1:*"), newGlob(1, "product:*"), newGlob(2, `product:\**`), newGlob(3, "product:?:x"), newGlob(4, "product:1:*")})
	for key, want := range map[string][]int{
		"product:1:x": {1, 0, 4, 3}, "product:*": {1, 2}, "product:": {1}, "product": nil, "user:1": nil,
	} {
		require.ElementsMatch(t, want, g.match(key), key)
	}
	require.Equal(t, "product:*", g.ask(), "what all begin with")
	require.Equal(t, "product:?:x", newGlobs([]glob{newGlob(0, "product:?:x")}).ask())
	require.Equal(t, "*", newGlobs([]glob{newGlob(0, "a*"), newGlob(1, "b*")}).ask())
}

// A pattern that would take exponential time is decided at once.
func TestGlobsCannotHang(t *testing.T) {
	require.False(t, matchGlob(strings.Repeat("a*", 200)+"b", strings.Repeat("a", 5000)))
}

func TestKeyPrefixes(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.KeyPrefix, c.Scan.Enabled = "app:", true })
	fill(t, srv.admin, "app:product:1:a", "app:product:1:b", "app:product:12:a", "app:*:x", "app:q:x", "product:1:a", "app:user:1")
	require.NoError(t, s.Purge(t.Context(), append(ofKind(invalidation.KeyPrefix, "product:1:", "*:"), keysOf("user:1")...)))
	require.ElementsMatch(t, []string{"app:product:12:a", "app:q:x", "product:1:a"}, allKeys(t, srv.admin))

	requireItem(t, s.Purge(t.Context(), ofKind(invalidation.KeyPrefix, "")), "would purge everything")
	without := openSink(t, "valkey://"+srv.addr, nil, nil)
	requireItem(t, without.Purge(t.Context(), ofKind(invalidation.KeyPrefix, "a:")), "scan: {enabled: true}")
}

// However many prefixes and patterns a call has, the key space is walked once.
func TestOneWalkForAll(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Scan.Enabled = true })
	var keys []string
	for i := range 3000 {
		keys = append(keys, fmt.Sprintf("k:%d:", i))
	}
	fill(t, srv.admin, keys...)
	fill(t, srv.admin, "other")
	do(t, srv.admin, "CONFIG", "RESETSTAT")
	require.NoError(t, s.Purge(t.Context(), append(ofKind(invalidation.KeyPrefix, keys[:2000]...), pattern("k:2*"))))
	left := allKeys(t, srv.admin)
	require.Equal(t, []string{"other"}, left)
	require.LessOrEqual(t, calls(t, srv, "scan"), 8)
}

// calls is how often the server has run a command since RESETSTAT.
func calls(t *testing.T, srv *server, command string) int {
	info, err := do(t, srv.admin, "INFO", "commandstats").ToString()
	require.NoError(t, err)
	_, rest, ok := strings.Cut(info, "cmdstat_"+command+":calls=")
	if !ok {
		return 0
	}
	n := 0
	_, err = fmt.Sscanf(rest, "%d,", &n)
	require.NoError(t, err)
	return n
}
