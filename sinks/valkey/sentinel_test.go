package valkey

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
)

const masterName = "shop"

// startSentinel starts a sentinel that watches a primary alone: a quorum of one
// is enough to fail over.
func startSentinel(t *testing.T, primary string, more ...string) *server {
	host, port, err := net.SplitHostPort(primary)
	require.NoError(t, err)
	lines := append([]string{
		fmt.Sprintf("sentinel monitor %s %s %s 1", masterName, host, port),
		"sentinel down-after-milliseconds " + masterName + " 300",
		"sentinel failover-timeout " + masterName + " 3000",
	}, more...)
	file := filepath.Join(t.TempDir(), "sentinel.conf")
	require.NoError(t, os.WriteFile(file, []byte(strings.Join(lines, "\n")+"\n"), 0o600))
	return startAs(t, []string{file, "--sentinel"}, nil)
}

func openSentinel(t *testing.T, url string, change func(*Config)) *Sink {
	s := openSink(t, url, nil, func(c *Config) {
		c.SentinelMaster = masterName
		if change != nil {
			change(c)
		}
	})
	s.patience.ask = 0
	return s
}

// The primary is killed; purges go on at the replica that takes its place, on
// one sentinel of two.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	primary := startServer(t)
	host, port, _ := net.SplitHostPort(primary.addr)
	replica := startServer(t, "--replicaof", host+" "+port)
	require.Eventually(t, func() bool {
		info, err := do(t, replica.admin, "INFO", "replication").ToString()
		require.NoError(t, err)
		return strings.Contains(info, "master_link_status:up")
	}, 30*time.Second, 20*time.Millisecond)
	watch := startSentinel(t, primary.addr)
	require.Eventually(t, func() bool {
		replicas, err := do(t, watch.admin, "SENTINEL", "REPLICAS", masterName).ToArray()
		return err == nil && len(replicas) == 1
	}, 30*time.Second, 20*time.Millisecond)

	s := openSentinel(t, "valkey://127.0.0.1:1,"+watch.addr, nil)
	fill(t, primary.admin, "a")
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, primary.admin, "a"))
	require.NoError(t, s.Check(t.Context()))

	primary.kill()
	require.Eventually(t, func() bool {
		return s.Purge(t.Context(), append(keysOf("b"), ofKind(rules.Generation, "g")...)) == nil
	}, 60*time.Second, 50*time.Millisecond)
	// A sentinel that promotes a server ends its clients' connections.
	promoted := adminOf(t, replica.addr, "")
	fill(t, promoted, "b")
	require.NoError(t, s.Purge(t.Context(), keysOf("b")))
	require.False(t, held(t, promoted, "b"))
	require.True(t, held(t, promoted, "g"))
}

// A primary that is demoted and goes on answering is left, and one that says
// READONLY is no reason to wait for a human.
func TestSentinelSwitch(t *testing.T) {
	a, b := startServer(t), startServer(t)
	watch := startSentinel(t, a.addr)
	px := startProxy(t, watch.addr)
	s := openSentinel(t, "valkey://"+px.addr(), nil)
	fill(t, a.admin, "k")
	require.NoError(t, s.Purge(t.Context(), keysOf("k")))
	require.False(t, held(t, a.admin, "k"))

	px.set(script{replies: sentinelSays(b.addr)})
	fill(t, a.admin, "k")
	fill(t, b.admin, "k")
	require.NoError(t, s.Purge(t.Context(), keysOf("k")))
	require.True(t, held(t, a.admin, "k"))
	require.False(t, held(t, b.admin, "k"))

	// No sentinel answers: the last answer stands.
	px.set(script{refuse: true})
	fill(t, b.admin, "k")
	require.NoError(t, s.Purge(t.Context(), keysOf("k")))
	require.False(t, held(t, b.admin, "k"))

	px.set(script{replies: sentinelSays(b.addr)})
	do(t, b.admin, "REPLICAOF", "127.0.0.1", "1")
	err := s.Purge(t.Context(), keysOf("k"))
	require.ErrorContains(t, err, "READONLY")
	requireTransient(t, err)
	err = s.Purge(t.Context(), keysOf("k"))
	require.ErrorContains(t, err, "a failover is under way")
	requireTransient(t, err)
}

// sentinelSays names a primary in place of the sentinel.
func sentinelSays(addr string) func([]string) string {
	host, port, _ := net.SplitHostPort(addr)
	return func(args []string) string {
		if len(args) == 3 && strings.EqualFold(args[1], "GET-MASTER-ADDR-BY-NAME") {
			return fmt.Sprintf("*2\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(host), host, len(port), port)
		}
		return ""
	}
}

func TestSentinelMistakes(t *testing.T) {
	srv := startServer(t)
	watch := startSentinel(t, srv.addr)
	requireLane(t, openSink(t, "valkey://"+watch.addr, nil, nil).Purge(t.Context(), keysOf("a")), "set sentinel_master")
	other := openSentinel(t, "valkey://"+watch.addr, func(c *Config) { c.SentinelMaster = "nobody" })
	requireLane(t, other.Purge(t.Context(), keysOf("a")), `the sentinels know no primary "nobody"`)
	requireTransient(t, openSentinel(t, "valkey://127.0.0.1:1", nil).Purge(t.Context(), keysOf("a")))
	requireLane(t, openSentinel(t, "valkey://"+srv.addr, nil).Purge(t.Context(), keysOf("a")), "url names a server that is no sentinel")
}

// A sentinel that wants a password gets that of the servers.
func TestSentinelWithAPassword(t *testing.T) {
	srv := startServer(t, "--requirepass", "hunter2")
	watch := startSentinel(t, srv.addr, "requirepass hunter2")
	s := openSentinel(t, "valkey://:hunter2@"+watch.addr, nil)
	require.NoError(t, s.Purge(t.Context(), keysOf("a")))
	s = openSentinel(t, "valkey://"+watch.addr, nil)
	requireLane(t, s.Purge(t.Context(), keysOf("a")), "NOAUTH")
}
