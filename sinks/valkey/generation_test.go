package valkey

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
)

func ofKind(k invalidation.Kind, values ...string) []invalidation.Invalidation {
	var batch []invalidation.Invalidation
	for _, v := range values {
		batch = append(batch, invalidation.Invalidation{Kind: k, Value: v})
	}
	return batch
}

func counter(t *testing.T, c valkey.Client, key string) int64 {
	t.Helper()
	n, err := do(t, c, "GET", key).AsInt64()
	require.NoError(t, err)
	return n
}

func TestGenerations(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, func(c *Config) { c.KeyPrefix = "app:" })
	raise := func() { require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Generation, "gen:a"))) }

	before := time.Now().Add(-time.Minute).UnixMilli()
	raise()
	first := counter(t, srv.admin, "app:gen:a")
	require.Greater(t, first, before, "milliseconds since 1970")
	raise()
	require.Greater(t, counter(t, srv.admin, "app:gen:a"), first, "each raise gives another number")

	future := strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10)
	do(t, srv.admin, "SET", "app:gen:a", future)
	raise()
	require.Equal(t, future, strconv.FormatInt(counter(t, srv.admin, "app:gen:a")-1, 10), "never backwards")

	do(t, srv.admin, "SET", "app:gen:a", "1", "EX", "1000")
	raise()
	left, err := do(t, srv.admin, "TTL", "app:gen:a").AsInt64()
	require.NoError(t, err)
	require.Greater(t, left, int64(900), "the application's time to live stays")

	do(t, srv.admin, "SCRIPT", "FLUSH")
	last := counter(t, srv.admin, "app:gen:a")
	raise()
	require.Greater(t, counter(t, srv.admin, "app:gen:a"), last, "a server that has forgotten the script")
}

// A counter that was evicted comes back to a number that it never had.
func TestEvictedGenerationRevivesNothing(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, nil)
	seen := map[int64]bool{}
	for range 20 {
		require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Generation, "g", "g", "g")))
		n := counter(t, srv.admin, "g")
		require.False(t, seen[n], "the number %d was there before", n)
		seen[n] = true
		do(t, srv.admin, "DEL", "g")
		// Three raises in one millisecond run ahead of the clock by two: it
		// catches up before anybody could have used the number again.
		require.Eventually(t, func() bool { return serverMillis(t, srv.admin) > n }, 30*time.Second, time.Millisecond)
	}
}

func serverMillis(t *testing.T, c valkey.Client) int64 {
	now, err := do(t, c, "TIME").AsStrSlice()
	require.NoError(t, err)
	seconds, err := strconv.ParseInt(now[0], 10, 64)
	require.NoError(t, err)
	micros, err := strconv.ParseInt(now[1], 10, 64)
	require.NoError(t, err)
	return seconds*1000 + micros/1000
}

// What is no counter is refused at its place and left as it is.
func TestNoCounter(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, nil)
	for _, value := range []string{"", "abc", "-5", "1.5", " 1", "0x10", "1e3", "9007199254740991", "99999999999999999", "9999999999999999999999"} {
		do(t, srv.admin, "SET", "bad", value)
		err := s.Purge(t.Context(), ofKind(invalidation.Generation, "good", "bad", "other"))
		var be *sinks.BatchError
		require.True(t, errors.As(err, &be), "%q: %v", value, err)
		require.Len(t, be.Failed, 1)
		class, _ := sinks.ClassOf(be.Failed[1])
		require.Equal(t, sinks.Item, class)
		require.ErrorContains(t, be.Failed[1], "whole number below 2^53")
		got, err := do(t, srv.admin, "GET", "bad").ToString()
		require.NoError(t, err)
		require.Equal(t, value, got)
	}
	do(t, srv.admin, "DEL", "bad")
	do(t, srv.admin, "LPUSH", "bad", "x")
	var be *sinks.BatchError
	require.True(t, errors.As(s.Purge(t.Context(), ofKind(invalidation.Generation, "bad", "good")), &be))
	require.ErrorIs(t, be.Failed[0], errNoCounter, "another type")

	do(t, srv.admin, "SET", "good", "9007199254740989")
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Generation, "good")))
	require.Equal(t, int64(9007199254740990), counter(t, srv.admin, "good"), "as far as doubles count")
}

// Raises from several places at once give each a number of its own.
func TestRaisesAreAtomic(t *testing.T) {
	srv := startServer(t)
	s := openSink(t, "valkey://"+srv.addr, nil, nil)
	do(t, srv.admin, "SET", "g", strconv.FormatInt(time.Now().Add(time.Hour).UnixMilli(), 10))
	begin := counter(t, srv.admin, "g")
	sha, err := do(t, srv.admin, "SCRIPT", "LOAD", raiseScript).ToString()
	require.NoError(t, err)
	require.Equal(t, s.raiseSHA, sha)
	done := make(chan error, 200)
	for range cap(done) {
		go func() {
			done <- srv.admin.Do(context.Background(), srv.admin.B().Evalsha().Sha1(sha).Numkeys(1).Key("g").Build()).Error()
		}()
	}
	for range cap(done) {
		require.NoError(t, <-done)
	}
	require.Equal(t, begin+200, counter(t, srv.admin, "g"))
}

func TestGenerationsInACluster(t *testing.T) {
	t.Parallel()
	nodes := startCluster(t, 3)
	admin := clusterAdmin(t, nodes[0])
	s := openSink(t, "valkey://"+nodes[0].addr, nil, nil)
	var names []string
	for i := range 1500 {
		names = append(names, fmt.Sprintf("gen:%d", i))
	}
	require.NoError(t, s.Purge(t.Context(), ofKind(invalidation.Generation, names...)))
	for _, name := range []string{names[0], names[700], names[1499]} {
		n, err := admin.Do(t.Context(), admin.B().Get().Key(name).Build()).AsInt64()
		require.NoError(t, err)
		require.Positive(t, n)
	}
	require.Len(t, heldAnywhere(t, nodes), 1500)
}
