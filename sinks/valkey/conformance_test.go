package valkey

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/sinktest"
)

// leastPrivilege is what errors and check tell to grant for everything but a cluster.
func leastPrivilege() []string {
	cfg := DefaultConfig()
	cfg.TagSets = []TagSet{{Key: "tag:{tag}"}, {Layout: "laravel"}}
	return append([]string{"-@all", "~*"}, cfg.commands(false)...)
}

// short keeps the tests of silence fast.
var short = patience{dial: 500 * time.Millisecond, reply: 500 * time.Millisecond}

func TestConformance(t *testing.T) {
	for name, prefix := range map[string]string{"no prefix": "", "prefix that looks like a glob": "a[p]*:"} {
		t.Run(name, func(t *testing.T) {
			cfg := DefaultConfig()
			sinktest.Run(t, sinktest.Subject{
				Kinds:  cfg.Kinds(),
				Limits: cfg.Limits(),
				Kind:   rules.Key,
				Start:  func(t *testing.T, env sinktest.Env) sinktest.Rig { return startRig(t, env, prefix) },
			})
		})
	}
}

func startRig(t *testing.T, env sinktest.Env, prefix string) sinktest.Rig {
	srv := startServer(t)
	px := startProxy(t, srv.addr)
	file := filepath.Join(t.TempDir(), "password")
	setUser := func(t *testing.T, more ...string) {
		do(t, srv.admin, append(append([]string{"ACL", "SETUSER", "walpurge", "reset", "on", ">" + env.Secret}, leastPrivilege()...), more...)...)
	}
	setUser(t)
	require.NoError(t, os.WriteFile(file, []byte(env.Secret+"\n"), 0o600))

	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			s := openSink(t, "valkey://"+px.addr(), env.Logger, func(c *Config) {
				c.Username, c.PasswordFile, c.KeyPrefix = "walpurge", file, prefix
			})
			return s, s.Close
		},
		Fill: func(t *testing.T, values []string) {
			keys := make([]string, len(values))
			for i, v := range values {
				keys[i] = prefix + v
			}
			fill(t, srv.admin, keys...)
		},
		Held: func(t *testing.T, value string) bool { return held(t, srv.admin, prefix+value) },
		Faults: []sinktest.Fault{
			{Name: "down", Arm: func(*testing.T) { px.set(script{refuse: true}) }},
			{Name: "silent", Arm: func(*testing.T) { px.set(script{silent: make(chan struct{})}) }},
			scripted(px, "loading", "-LOADING Redis is loading the dataset in memory\r\n", sinks.Transient),
			scripted(px, "out of memory", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", sinks.Transient),
			scripted(px, "cluster down", "-CLUSTERDOWN The cluster is down\r\n", sinks.Transient),
			scripted(px, "an error nobody knows", "-ERR "+env.Secret+" conformance-0\r\n", sinks.Transient),
			scripted(px, "no count", "+OK\r\n", sinks.Transient),
			scripted(px, "null", "_\r\n", sinks.Transient),
			scripted(px, "not the protocol", "HTTP/1.1 400 Bad Request\r\n\r\n", sinks.Transient),
			scripted(px, "no authentication", "-NOAUTH Authentication required.\r\n", sinks.Lane),
			scripted(px, "another node's key", "-MOVED 1 127.0.0.1:1\r\n", sinks.Lane),
			scripted(px, "cannot save", "-MISCONF Errors writing to the AOF file\r\n", sinks.Lane),
			scripted(px, "unknown command", "-ERR unknown command 'UNLINK', with args beginning with: 'conformance-0' '"+env.Secret+"'\r\n", sinks.Lane),
			{
				Name: "read-only replica", Class: sinks.Lane,
				Arm: func(t *testing.T) { do(t, srv.admin, "REPLICAOF", "127.0.0.1", "1") },
			},
			{
				Name: "no permission", Class: sinks.Lane,
				Arm: func(t *testing.T) { setUser(t, "-unlink") },
			},
		},
		Heal: func(t *testing.T) {
			px.set(script{})
			setUser(t)
			do(t, srv.admin, "REPLICAOF", "NO", "ONE")
		},
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			px.set(script{silent: arrived})
			return arrived
		},
		Partial: func(t *testing.T) ([]rules.Invalidation, map[int]sinks.Class) {
			setUser(t, "resetkeys", "~*allowed-*")
			var batch []rules.Invalidation
			for _, v := range []string{"allowed-one", "forbidden-one", "allowed-two", "allowed-three", "forbidden-two"} {
				batch = append(batch, rules.Invalidation{Kind: rules.Key, Value: v})
			}
			return batch, map[int]sinks.Class{1: sinks.Lane, 4: sinks.Lane}
		},
		Rotate: func(t *testing.T, secret string) {
			do(t, srv.admin, "ACL", "SETUSER", "walpurge", "resetpass", ">"+secret)
			require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
			do(t, srv.admin, "CLIENT", "KILL", "USER", "walpurge")
		},
	}
}

func scripted(px *proxy, name, reply string, class sinks.Class) sinktest.Fault {
	return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) { px.unlinks(reply) }}
}

func openSink(t testing.TB, url string, logger *slog.Logger, change func(*Config)) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.URL = url
	if change != nil {
		change(&cfg)
	}
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	s, err := newSink(cfg, short, logger)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}
