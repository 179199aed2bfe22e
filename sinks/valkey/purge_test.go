package valkey

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"
	"pgregory.net/rapid"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func keysOf(keys ...string) []invalidation.Invalidation {
	var batch []invalidation.Invalidation
	for _, k := range keys {
		batch = append(batch, invalidation.Invalidation{Kind: invalidation.Key, Value: k})
	}
	return batch
}

func pattern(p string) invalidation.Invalidation {
	return invalidation.Invalidation{Kind: invalidation.KeyPattern, Value: p}
}

func allKeys(t *testing.T, admin valkey.Client) []string {
	keys, err := do(t, admin, "KEYS", "*").AsStrSlice()
	require.NoError(t, err)
	return keys
}

func TestPatternsUnderAPrefix(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.KeyPrefix = "app[1]*:" })
	fill(t, srv.admin, "app[1]*:product:1", "app[1]*:product:2", "app[1]*:user:1", "app1:product:1", "app[1]x:product:1", "product:1")

	require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{pattern("product:*")}))
	require.ElementsMatch(t, []string{"app[1]*:user:1", "app1:product:1", "app[1]x:product:1", "product:1"}, allKeys(t, srv.admin))

	require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.Everything}}))
	require.ElementsMatch(t, []string{"app1:product:1", "app[1]x:product:1", "product:1"}, allKeys(t, srv.admin))
}

func TestEverythingNeedsAPrefix(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, nil)
	fill(t, srv.admin, "a", "b")
	err := s.Purge(t.Context(), append(keysOf("a"), invalidation.Invalidation{Kind: invalidation.Everything}))
	var be *sinks.BatchError
	require.True(t, errors.As(err, &be))
	require.Len(t, be.Failed, 1)
	class, _ := sinks.ClassOf(be.Failed[1])
	require.Equal(t, sinks.Lane, class)
	require.ErrorContains(t, be.Failed[1], "flush.key_patterns")
	require.Equal(t, []string{"b"}, allKeys(t, srv.admin), "the server must keep what was not named")
}

// Whatever bytes a prefix has, a pattern under it must not reach beyond it.
func TestEscapedPrefixMatchesOnlyItself(t *testing.T) {
	srv := startServer(t)
	letters := rapid.SampledFrom([]byte{'a', 'b', '*', '?', '[', ']', '\\', '^', '-', '{', '}', 0, '\n', 0xff})
	text := rapid.Map(rapid.SliceOfN(letters, 1, 6), func(b []byte) string { return string(b) })
	rapid.Check(t, func(rt *rapid.T) {
		prefix, other := text.Draw(rt, "prefix"), text.Draw(rt, "other")
		s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.KeyPrefix = prefix })
		defer s.Close()
		do(t, srv.admin, "FLUSHALL")
		fill(t, srv.admin, prefix+"1", prefix+"2", other)
		require.NoError(rt, s.Purge(t.Context(), []invalidation.Invalidation{{Kind: invalidation.Everything}}))
		var want []string
		if !strings.HasPrefix(other, prefix) {
			want = []string{other}
		}
		require.ElementsMatch(rt, want, allKeys(t, srv.admin))
	})
}

func TestWalkKeepsItsPace(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Scan.KeysPerSecond = 2000 })
	var keys []string
	for i := range 1000 {
		keys = append(keys, fmt.Sprintf("k:%d", i))
	}
	fill(t, srv.admin, keys...)
	begun := time.Now()
	require.NoError(t, s.Purge(t.Context(), []invalidation.Invalidation{pattern("k:*")}))
	require.Empty(t, allKeys(t, srv.admin))
	require.GreaterOrEqual(t, time.Since(begun), 400*time.Millisecond, "1000 keys at 2000 a second, less the burst")
}

func TestWalkTimeIsKeysByPace(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.Scan.KeysPerSecond = 2 })
	took, err := s.WalkTime(t.Context())
	require.NoError(t, err)
	require.Zero(t, took)
	fill(t, srv.admin, "a", "b", "c")
	took, err = s.WalkTime(t.Context())
	require.NoError(t, err)
	require.Equal(t, 1500*time.Millisecond, took)
}

// One refused command of a pipeline fails its own keys, not those of the others.
func TestPartOfAPipeline(t *testing.T) {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	s := openSink(t, "valkey://"+px.addr(), nil, nil)
	var keys []string
	for i := range 1200 {
		keys = append(keys, fmt.Sprintf("k:%d", i))
	}
	for _, reply := range []string{"-LOADING Redis is loading\r\n", "-NOPERM User x has no permissions to run the 'unlink' command\r\n"} {
		fill(t, srv.admin, keys...)
		unlinks := 0
		px.set(script{replies: func(args []string) string {
			if args[0] == "UNLINK" {
				if unlinks++; unlinks >= 2 {
					return reply
				}
			}
			return ""
		}})
		err := s.Purge(t.Context(), keysOf(keys...))
		var be *sinks.BatchError
		require.True(t, errors.As(err, &be), "%v", err)
		require.Equal(t, 700, len(be.Failed))
		require.NoError(t, be.Failed[499])
		require.Error(t, be.Failed[500])
		require.Equal(t, 700, len(allKeys(t, srv.admin)))
		px.set(script{})
	}
}

func TestUnixSocketAndDatabase(t *testing.T) {
	srv := startServer(t)
	third, err := valkey.NewClient(valkey.ClientOption{InitAddress: []string{srv.addr}, SelectDB: 3, ForceSingleClient: true, DisableCache: true})
	require.NoError(t, err)
	defer third.Close()
	fill(t, third, "a")
	fill(t, srv.admin, "a")
	s := openSink(t, "unix://"+srv.socket+"?db=3", nil, nil)
	require.NoError(t, s.Check(t.Context()))
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, third, "a"))
	require.True(t, held(t, srv.admin, "a"))

	s = openSink(t, "valkey://"+srv.addr+"/99", nil, nil)
	err = s.Purge(t.Context(), keysOf("a"))
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Lane, class)
	require.ErrorContains(t, err, "no database of that number")
}

// A call on a server that has fallen silent ends once the sink's patience does, on a fresh
// connection as on an old one. What New gives ends within ten seconds.
func TestSilenceEndsWithinTenSeconds(t *testing.T) {
	t.Parallel()
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	cfg := DefaultConfig()
	cfg.URL = "valkey://" + px.addr()
	given, err := New(cfg, discard())
	require.NoError(t, err)
	defer given.Close()
	require.Less(t, given.patience.dial+given.patience.reply, 10*time.Second) // short: two constants
	fresh, err := newSink(cfg, short, discard())
	require.NoError(t, err)
	defer fresh.Close()
	old, err := newSink(cfg, short, discard())
	require.NoError(t, err)
	defer old.Close()
	require.NoError(t, old.Purge(t.Context(), keysOf("a")))
	px.set(script{silent: make(chan struct{})})

	ended := make(chan error, 2)
	for _, s := range []*Sink{fresh, old} {
		go func() { ended <- s.Purge(t.Context(), keysOf("a")) }()
	}
	for range 2 {
		select {
		case err := <-ended:
			requireTransient(t, err)
		case <-time.After(time.Minute):
			require.FailNow(t, "a call does not end")
		}
	}
}
