//go:build full

package valkey

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/sinktest"
)

// products are the servers of the matrix, by what `--version` says of them.
func products(t *testing.T) map[string]string {
	redis := "/var/cache/walpurge/redis/usr/bin/redis-server"
	_, err := os.Stat(redis)
	require.NoError(t, err, "deploy/dev/deps.sh full")
	valkey, err := exec.LookPath("valkey-server")
	require.NoError(t, err, "deploy/dev/deps.sh core")
	return map[string]string{"Valkey 8": valkey, "Redis 7": redis}
}

// use makes a product the one that this package's tests start.
func use(t *testing.T, product, binary string) {
	dir := t.TempDir()
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "valkey-server")))
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	out, err := exec.Command(filepath.Join(dir, "valkey-server"), "--version").Output()
	require.NoError(t, err)
	name, version, _ := strings.Cut(product, " ")
	require.Contains(t, string(out), name)
	require.Contains(t, string(out), "v="+version+".")
}

// Every form of a Valkey sink against every product: alone, behind sentinels with a password of their own, as a
// cluster, and with TLS by a private authority.
func TestSinkMatrix(t *testing.T) {
	for product, binary := range products(t) {
		t.Run(product, func(t *testing.T) {
			use(t, product, binary)
			t.Run("standalone", func(t *testing.T) { conform(t, "keys", "tags", "generations", "fields") })
			t.Run("cluster", func(t *testing.T) { conform(t, "keys, cluster", "fields, cluster") })
			t.Run("sentinel with its own password", matrixSentinel)
			t.Run("TLS with a private CA", matrixTLS)
		})
	}
}

// conform runs the conformance suite on forms.
func conform(t *testing.T, names ...string) {
	all := forms()
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			f, known := all[name]
			require.True(t, known)
			if f.cluster {
				node := startCluster(t, 1)[0]
				f.backend = func(t *testing.T) (*server, *proxy, string) { return announced(t, node) }
			}
			cfg := f.apply(DefaultConfig())
			sinktest.Run(t, sinktest.Subject{Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: f.kind,
				Start: func(t *testing.T, env sinktest.Env) sinktest.Rig { return startRig(t, env, f) }})
		})
	}
}

// matrixSentinel purges behind a sentinel whose password is not that of its servers, before and after a
// failover.
func matrixSentinel(t *testing.T) {
	primary := startServer(t, "--requirepass", "of-servers", "--masterauth", "of-servers")
	replica := startServer(t, "--requirepass", "of-servers", "--masterauth", "of-servers", "--replicaof", strings.Replace(primary.addr, ":", " ", 1))
	require.Eventually(t, func() bool {
		info, err := do(t, replica.admin, "INFO", "replication").ToString()
		return err == nil && strings.Contains(info, "master_link_status:up")
	}, 30*time.Second, 20*time.Millisecond)
	watch := startSentinel(t, primary.addr, "requirepass of-sentinels", "sentinel auth-pass "+masterName+" of-servers")
	require.Eventually(t, func() bool {
		replicas, err := do(t, watch.admin, "SENTINEL", "REPLICAS", masterName).ToArray()
		return err == nil && len(replicas) == 1
	}, 30*time.Second, 20*time.Millisecond)
	files := map[string]string{}
	for _, of := range []string{"of-servers", "of-sentinels", "wrong"} {
		files[of] = filepath.Join(t.TempDir(), of)
		require.NoError(t, os.WriteFile(files[of], []byte(of+"\n"), 0o600))
	}
	open := func(sentinels string) *Sink {
		return openSentinel(t, "valkey://"+watch.addr, func(c *Config) {
			c.PasswordFile, c.SentinelPasswordFile = files["of-servers"], files[sentinels]
		})
	}
	require.ErrorContains(t, open("wrong").Check(t.Context()), "the sentinel refused the user name or the password")
	s := open("of-sentinels")
	require.NoError(t, s.Check(t.Context()))
	purgesAllKinds(t, s, primary)
	primary.kill()
	require.Eventually(t, func() bool { return s.Purge(t.Context(), keysOf("after")) == nil }, 30*time.Second, 20*time.Millisecond)
	purgesAllKinds(t, s, replica)
}

// matrixTLS purges at a server that wants certificates of clients, with an authority that only the
// configuration knows.
func matrixTLS(t *testing.T) {
	ours, others := newAuthority(t), newAuthority(t)
	srv, addr := startTLS(t, ours)
	cert, key := ours.issue(t, "client.test")
	open := func(ca string) *Sink {
		return openSink(t, "valkeys://"+addr, nil, func(c *Config) {
			c.TLS = TLSConfig{CAFile: ca, CertFile: cert, KeyFile: key}
		})
	}
	err := open(others.file).Check(t.Context())
	require.ErrorContains(t, err, "tls.ca_file")
	class, _ := sinks.ClassOf(err)
	require.Equal(t, sinks.Lane, class)
	s := open(ours.file)
	require.NoError(t, s.Check(t.Context()))
	purgesAllKinds(t, s, srv)
}

// purgesAllKinds purges one value of each kind that needs no configuration, and a pattern.
func purgesAllKinds(t *testing.T, s *Sink, srv *server) {
	t.Helper()
	fill(t, srv.admin, "a", "flush:1", "other")
	do(t, srv.admin, "HSET", "hash", "f", "1", "g", "1")
	do(t, srv.admin, "SET", "generation", "7")
	batch := append(keysOf("a"),
		invalidation.Invalidation{Kind: invalidation.Field, Value: invalidation.JoinField("hash", "f")},
		invalidation.Invalidation{Kind: invalidation.Generation, Value: "generation"},
		invalidation.Invalidation{Kind: invalidation.KeyPattern, Value: "flush:*"})
	require.NoError(t, s.Purge(t.Context(), batch))
	require.False(t, held(t, srv.admin, "a"))
	require.False(t, held(t, srv.admin, "flush:1"))
	require.True(t, held(t, srv.admin, "other"))
	fields, err := do(t, srv.admin, "HKEYS", "hash").AsStrSlice()
	require.NoError(t, err)
	require.Equal(t, []string{"g"}, fields)
	generation, err := do(t, srv.admin, "GET", "generation").ToString()
	require.NoError(t, err)
	require.NotEqual(t, "7", generation)
	nodes, err := s.Nodes(t.Context())
	require.NoError(t, err)
	require.NotEmpty(t, nodes)
}
