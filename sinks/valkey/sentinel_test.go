package valkey

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
)

const masterName = "shop"

// startTLSSentinel starts one that takes TLS on a second port.
func startTLSSentinel(t *testing.T, a *authority, primary string, more ...string) (addr string) {
	cert, key := a.issue(t, "sentinel.test")
	port := strconv.Itoa(freePort(t))
	startSentinel(t, primary, append([]string{
		"tls-port " + port, "tls-cert-file " + cert, "tls-key-file " + key, "tls-ca-cert-file " + a.file, "tls-auth-clients no",
	}, more...)...)
	return net.JoinHostPort("127.0.0.1", port)
}

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
		return s.Purge(t.Context(), append(keysOf("b"), ofKind(invalidation.Generation, "g")...)) == nil
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
	other := openSentinel(t, "valkey://"+watch.addr, func(c *Config) { c.SentinelMaster = "unknown" })
	requireLane(t, other.Purge(t.Context(), keysOf("a")), `the sentinels know no primary "unknown"`)
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

// Sentinels have users of their own, and messages say which of the two refused.
func TestSentinelWithItsOwnUser(t *testing.T) {
	srv := startServer(t, "--requirepass", "of-servers")
	dir := t.TempDir()
	file := func(name, text string) string {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
		return filepath.Join(dir, name)
	}
	right, wrong := file("right", "of-sentinels\n"), file("wrong", "neither")
	withPassword := startSentinel(t, srv.addr, "requirepass of-sentinels", "sentinel auth-pass "+masterName+" of-servers")
	withUsers := startSentinel(t, srv.addr, "sentinel auth-pass "+masterName+" of-servers")
	do(t, withUsers.admin, "ACL", "SETUSER", "walpurge", "on", ">of-sentinels", "-@all", "+sentinel|get-master-addr-by-name")
	do(t, withUsers.admin, "ACL", "SETUSER", "nothing", "on", ">of-sentinels", "-@all")
	do(t, withUsers.admin, "ACL", "SETUSER", "open", "on", "nopass", "-@all", "+sentinel|get-master-addr-by-name")
	do(t, withUsers.admin, "ACL", "SETUSER", "default", "off")
	open := func(at *server, url, user, password string) *Sink {
		return openSentinel(t, url+at.addr, func(c *Config) { c.SentinelUsername, c.SentinelPasswordFile = user, password })
	}

	require.NoError(t, open(withPassword, "valkey://:of-servers@", "", right).Purge(t.Context(), keysOf("a")))
	require.NoError(t, open(withUsers, "valkey://:of-servers@", "walpurge", right).Check(t.Context()))
	require.NoError(t, open(withUsers, "valkey://:of-servers@", "open", "").Purge(t.Context(), keysOf("a")))

	for says, s := range map[string]*Sink{
		"to the sentinel " + withPassword.addr + ": NOAUTH: the sentinel asks for a password; set sentinel_password_file":                                                       open(withPassword, "valkey://", "", ""),
		"to the sentinel " + withPassword.addr + ": WRONGPASS: the sentinel refused the user name or the password of the servers, which it gets because sentinel_password_file": open(withPassword, "valkey://:of-servers@", "", ""),
		"to the sentinel " + withPassword.addr + ": WRONGPASS: the sentinel refused the user name or the password; check sentinel_username and sentinel_password_file":          open(withPassword, "valkey://:of-servers@", "", wrong),
		"to the sentinel " + withUsers.addr + ": NOPERM: the sentinel's user lacks a permission; at the sentinel, run: ACL SETUSER nothing +sentinel|get-master-addr-by-name":   open(withUsers, "valkey://:of-servers@", "nothing", right),
		"sentinel_password_file: open":    open(withUsers, "valkey://:of-servers@", "walpurge", "/nowhere/password"),
		"sentinel_password_file is empty": open(withUsers, "valkey://:of-servers@", "walpurge", file("empty", "\n")),
		"to the server " + srv.addr + ", which the sentinels name: WRONGPASS: the server refused the user name or the password; check username and password_file": open(withPassword, "valkey://:neither@", "", right),
		"to the server " + srv.addr + ", which the sentinels name: NOAUTH":                                                                                        open(withPassword, "valkey://", "", right),
	} {
		err := s.Purge(t.Context(), keysOf("a"))
		requireLane(t, err, says)
		require.NotContains(t, err.Error(), "of-s")
	}
}

// Sentinels and servers take TLS or do without it independently.
func TestSentinelsAndServersDifferInTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	plain := startServer(t)
	srv, secure := startTLS(t, ours, "--tls-auth-clients", "no")
	open := func(url string, change func(*Config)) *Sink { return openSentinel(t, url, change) }

	// Sentinels without TLS before servers with it.
	watch := startSentinel(t, secure)
	fill(t, srv.admin, "a")
	require.NoError(t, open("valkeys://"+watch.addr, func(c *Config) { c.TLS.CAFile, c.SentinelTLS = ours.file, &SentinelTLS{} }).Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, srv.admin, "a"))
	// Sentinels with TLS before servers without it.
	tlsWatch := startTLSSentinel(t, ours, plain.addr)
	fill(t, plain.admin, "a")
	with := &SentinelTLS{Enabled: true, TLSConfig: TLSConfig{CAFile: ours.file}}
	require.NoError(t, open("valkey://"+tlsWatch, func(c *Config) { c.SentinelTLS = with }).Purge(t.Context(), keysOf("a")))
	require.False(t, held(t, plain.admin, "a"))
	// Both with TLS, of one authority.
	both := startTLSSentinel(t, ours, secure)
	require.NoError(t, open("valkeys://"+both, func(c *Config) { c.TLS.CAFile = ours.file }).Check(t.Context()))

	for says, s := range map[string]*Sink{
		"to the sentinel " + watch.addr + ": no answer to the TLS handshake": open("valkeys://"+watch.addr, func(c *Config) { c.TLS.CAFile = ours.file }),
		"sentinel_tls: false": open("valkeys://"+watch.addr, func(c *Config) { c.TLS.CAFile = ours.file }),
		"sentinel_tls: true":  open("valkey://"+tlsWatch, nil),
	} {
		err := s.Purge(t.Context(), keysOf("a"))
		requireTransient(t, err)
		require.ErrorContains(t, err, says)
		require.NotContains(t, err.Error(), "context")
	}
	requireLane(t, open("valkey://"+tlsWatch, func(c *Config) {
		c.SentinelTLS = &SentinelTLS{Enabled: true, TLSConfig: TLSConfig{CAFile: others.file}}
	}).Purge(t.Context(), keysOf("a")), "to the sentinel "+tlsWatch)
	requireLane(t, open("valkey://"+tlsWatch, func(c *Config) {
		c.SentinelTLS = &SentinelTLS{Enabled: true, TLSConfig: TLSConfig{CAFile: "/nowhere"}}
	}).Purge(t.Context(), keysOf("a")), "sentinel_tls.ca_file")
	requireLane(t, open("valkeys://"+watch.addr, func(c *Config) {
		c.TLS.CAFile, c.SentinelTLS = others.file, &SentinelTLS{}
	}).Purge(t.Context(), keysOf("a")), "to the server "+secure)
}

func TestSentinelKeysNeedSentinels(t *testing.T) {
	for says, change := range map[string]func(*Config){
		"sentinel_username: mode is auto":      func(c *Config) { c.SentinelUsername = "x" },
		"sentinel_password_file: mode is auto": func(c *Config) { c.SentinelPasswordFile = "x" },
		"sentinel_tls: mode is auto":           func(c *Config) { c.SentinelTLS = &SentinelTLS{} },
		"sentinel_tls.key_file is missing": func(c *Config) {
			c.SentinelMaster, c.SentinelTLS = "x", &SentinelTLS{Enabled: true, TLSConfig: TLSConfig{CertFile: "x"}}
		},
	} {
		c := DefaultConfig()
		c.URL = "valkey://a"
		change(&c)
		require.ErrorContains(t, c.Validate(), says)
	}
}
