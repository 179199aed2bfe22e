package valkey

import (
	"bytes"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/valkey-io/valkey-go"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/history"
	"github.com/walpurge/walpurge/sinks/sinktest"
)

// leastPrivilege is what errors and check tell to grant for everything.
func leastPrivilege() []string {
	cfg := DefaultConfig()
	cfg.TagSets = []TagSet{{Key: "tag:{tag}"}, {Layout: "laravel"}}
	return append([]string{"-@all", "~*"}, cfg.commands(true)...)
}

// short keeps the tests of silence fast, and leaves a busy machine the time to answer.
var short = patience{dial: 1500 * time.Millisecond, reply: 1500 * time.Millisecond}

// form is one way to use the sink under the suite.
type form struct {
	kind   invalidation.Kind
	config Config // changes over the defaults: KeyPrefix, TagSets
	// entry is where the entry of a value lies, and index what Fill adds to it.
	entry func(value string) string
	index func(b valkey.Builder, value string) valkey.Completed
	// hash: the entry of a value is a field of a hash.
	hash bool
	// commands are what a purge is made of.
	commands []string
	// backend brings up a server and a proxy before it.
	backend func(t *testing.T) (srv *server, px *proxy, url string)
	// cluster: the backend is a cluster of one.
	cluster bool
	// reloads: the server can be made to load what it has saved.
	reloads bool
	// replicas: the server can be made a read-only replica, and how that is
	// reported.
	replicas bool
	readOnly sinks.Class
	moved    sinks.Class // how MOVED is reported
}

func forms() map[string]form {
	keys := form{
		kind: invalidation.Key, commands: []string{"UNLINK"}, backend: proxied, reloads: true, replicas: true, readOnly: sinks.Lane, moved: sinks.Lane,
		entry: func(v string) string { return v },
	}
	prefixed, clustered, watched, tagged, raised := keys, keys, keys, keys, keys
	prefixed.config.KeyPrefix = "a[p]*:"

	clustered.cluster, clustered.reloads, clustered.replicas, clustered.moved = true, false, false, sinks.Transient

	watched.backend, watched.readOnly, watched.config.SentinelMaster = behindSentinel, sinks.Transient, masterName

	tagged.kind, tagged.commands = invalidation.Tag, []string{"SSCAN", "SCARD", "RENAMENX", "UNLINK"}
	tagged.config.TagSets = []TagSet{{Key: "tag:{tag}"}}
	tagged.entry = func(v string) string { return "entry:" + v }
	tagged.index = func(b valkey.Builder, v string) valkey.Completed {
		return b.Sadd().Key("tag:" + v).Member("entry:" + v).Build()
	}

	// An entry that was stored under a generation is served until the counter has
	// another number.
	raised.kind, raised.commands = invalidation.Generation, []string{"EVALSHA", "EVAL"}

	hashed := keys
	hashed.kind, hashed.commands, hashed.hash, hashed.config.KeyPrefix = invalidation.Field, []string{"HDEL"}, true, "a[p]*:"
	clusterHashed := clustered
	clusterHashed.kind, clusterHashed.commands, clusterHashed.hash = invalidation.Field, []string{"HDEL"}, true
	return map[string]form{
		"keys": keys, "keys, prefix that looks like a glob": prefixed, "keys, cluster": clustered, "keys, sentinel": watched,
		"tags": tagged, "generations": raised, "fields": hashed, "fields, cluster": clusterHashed,
	}
}

func TestConformance(t *testing.T) {
	for name, f := range forms() {
		t.Run(name, func(t *testing.T) {
			if f.cluster {
				// It takes a second or two to start, so that one serves all demands.
				node := startCluster(t, 1)[0]
				f.backend = func(t *testing.T) (*server, *proxy, string) { return announced(t, node) }
			}
			cfg := f.apply(DefaultConfig())
			sinktest.Run(t, sinktest.Subject{
				Kinds:  cfg.Kinds(),
				Limits: cfg.Limits(),
				Kind:   f.kind,
				// Most of the time passes in waiting for a server that is silent.
				Parallel: true,
				Start:    func(t *testing.T, env sinktest.Env) sinktest.Rig { return startRig(t, env, f) },
			})
		})
	}
}

func (f form) apply(c Config) Config {
	c.KeyPrefix, c.TagSets, c.SentinelMaster = f.config.KeyPrefix, f.config.TagSets, f.config.SentinelMaster
	return c
}

func proxied(t *testing.T) (*server, *proxy, string) {
	srv := startServer(t, "--enable-debug-command", "yes")
	px := startProxy(t, srv.addr)
	return srv, px, "valkey://" + px.addr()
}

// announced is a cluster of one that says it is where the proxy is.
func announced(t *testing.T, node *server) (*server, *proxy, string) {
	px := startProxy(t, node.addr)
	_, port, _ := net.SplitHostPort(px.addr())
	do(t, node.admin, "FLUSHALL")
	do(t, node.admin, "CONFIG", "SET", "cluster-announce-port", port)
	return node, px, "valkey://" + px.addr()
}

func behindSentinel(t *testing.T) (*server, *proxy, string) {
	srv := startServer(t, "--enable-debug-command", "yes")
	px := startProxy(t, srv.addr)
	watch := startProxy(t, startSentinel(t, srv.addr).addr)
	watch.set(script{replies: sentinelSays(px.addr())})
	return srv, px, "valkey://" + watch.addr()
}

func startRig(t *testing.T, env sinktest.Env, f form) sinktest.Rig {
	srv, px, url := f.backend(t)
	prefix := f.config.KeyPrefix
	file := filepath.Join(t.TempDir(), "password")
	setUser := func(t *testing.T, more ...string) {
		do(t, srv.admin, append(append([]string{"ACL", "SETUSER", "walpurge", "reset", "on", ">" + env.Secret}, leastPrivilege()...), more...)...)
	}
	setUser(t)
	require.NoError(t, os.WriteFile(file, []byte(env.Secret+"\n"), 0o600))
	scripted := func(name, reply string, class sinks.Class) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) { px.instead(f.commands, reply) }}
	}
	var denied []string
	for _, c := range f.commands {
		denied = append(denied, "-"+strings.ToLower(c))
	}

	rig := sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			s := openSink(t, url, env.Logger, func(c *Config) {
				*c = f.apply(*c)
				c.Username, c.PasswordFile = "walpurge", file
			})
			return s, s.Close
		},
		Fill: func(t *testing.T, values []string) {
			var cmds valkey.Commands
			for _, v := range values {
				if f.hash {
					key, field := invalidation.SplitField(v)
					cmds = append(cmds, srv.admin.B().Hset().Key(prefix+key).FieldValue().FieldValue(field, "1").Build())
					continue
				}
				cmds = append(cmds, srv.admin.B().Set().Key(prefix+f.entry(v)).Value("1").Build())
				if f.index != nil {
					cmds = append(cmds, f.index(srv.admin.B(), v))
				}
			}
			for _, r := range srv.admin.DoMulti(t.Context(), cmds...) {
				require.NoError(t, r.Error())
			}
		},
		Rest: untilRested,
		Held: func(t *testing.T, value string) bool {
			if f.hash {
				key, field := invalidation.SplitField(value)
				held, err := srv.admin.Do(t.Context(), srv.admin.B().Hexists().Key(prefix+key).Field(field).Build()).AsBool()
				require.NoError(t, err)
				return held
			}
			got, err := srv.admin.Do(t.Context(), srv.admin.B().Get().Key(prefix+f.entry(value)).Build()).ToString()
			if valkey.IsValkeyNil(err) {
				return false
			}
			require.NoError(t, err)
			return got == "1"
		},
		Faults: []sinktest.Fault{
			{Name: "down", Arm: func(*testing.T) { px.set(script{refuse: true}) }},
			{Name: "silent", Arm: func(*testing.T) { px.set(script{silent: make(chan struct{})}) }},
			scripted("loading", "-LOADING Redis is loading the dataset in memory\r\n", sinks.Transient),
			scripted("out of memory", "-OOM command not allowed when used memory > 'maxmemory'.\r\n", sinks.Transient),
			scripted("cluster down", "-CLUSTERDOWN The cluster is down\r\n", sinks.Transient),
			scripted("an unknown error", "-ERR "+env.Secret+" conformance-0\r\n", sinks.Transient),
			scripted("no count", "+OK\r\n", sinks.Transient),
			scripted("null", "_\r\n", sinks.Transient),
			scripted("not the protocol", "HTTP/1.1 400 Bad Request\r\n\r\n", sinks.Transient),
			scripted("no authentication", "-NOAUTH Authentication required.\r\n", sinks.Lane),
			scripted("another node's key", "-MOVED 1 127.0.0.1:1\r\n", f.moved),
			scripted("cannot save", "-MISCONF Errors writing to the AOF file\r\n", sinks.Lane),
			scripted("unknown command", "-ERR unknown command 'UNLINK', with args beginning with: 'conformance-0' '"+env.Secret+"'\r\n", sinks.Lane),
			{
				Name: "no permission", Class: sinks.Lane,
				Arm: func(t *testing.T) { setUser(t, denied...) },
			},
		},
		Heal: func(t *testing.T) {
			px.set(script{})
			setUser(t)
			do(t, srv.admin, "CONFIG", "SET", "maxmemory", "0")
			if f.replicas {
				do(t, srv.admin, "REPLICAOF", "NO", "ONE")
			}
		},
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			px.set(script{silent: arrived})
			return arrived
		},
		Partial: func(t *testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
			setUser(t, "resetkeys", "~*allowed-*")
			return ofKind(f.kind, "allowed-one", "forbidden-one", "allowed-two", "allowed-three", "forbidden-two"),
				map[int]sinks.Class{1: sinks.Lane, 4: sinks.Lane}
		},
		RefuseKind: func(t *testing.T) (invalidation.Invalidation, sinks.Class) {
			if f.kind == invalidation.Generation {
				setUser(t, "-unlink")
				return invalidation.Invalidation{Kind: invalidation.Key, Value: "refused"}, sinks.Lane
			}
			// What is full takes deletes, and no write.
			do(t, srv.admin, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
			return invalidation.Invalidation{Kind: invalidation.Generation, Value: "refused"}, sinks.Transient
		},
		Rotate: func(t *testing.T, secret string) {
			do(t, srv.admin, "ACL", "SETUSER", "walpurge", "resetpass", ">"+secret)
			require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
			do(t, srv.admin, "CLIENT", "KILL", "USER", "walpurge")
		},
	}
	if f.reloads {
		rig.Snapshot = func(t *testing.T) func(t *testing.T) {
			do(t, srv.admin, "SAVE")
			return func(t *testing.T) { do(t, srv.admin, "DEBUG", "RELOAD", "NOSAVE") }
		}
		rig.Nodes = func(t *testing.T, sink sinks.Sink) []history.Node {
			nodes, err := sink.(*Sink).Nodes(t.Context())
			require.NoError(t, err)
			return nodes
		}
	}
	if f.replicas {
		rig.Faults = append(rig.Faults, sinktest.Fault{
			Name: "read-only replica", Class: f.readOnly,
			Arm: func(t *testing.T) { do(t, srv.admin, "REPLICAOF", "127.0.0.1", "1") },
		})
	}
	return rig
}

// untilRested waits for what Close says may outlive it for a second: the client
// of a cluster sleeping before it would have read the slot table again.
func untilRested(t *testing.T) {
	stacks := make([]byte, 1<<20)
	require.Eventually(t, func() bool {
		return !bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("DelayDo"))
	}, 20*time.Second, 10*time.Millisecond)
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
