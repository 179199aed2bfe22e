package varnish

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/sinktest"
)

func openSink(t testing.TB, cfg Config, logger *slog.Logger) *Sink {
	t.Helper()
	s, err := New(cfg, logger)
	require.NoError(t, err)
	s.Timeout = time.Second // short: a silent server is a fault that the suite provokes
	t.Cleanup(s.Close)
	return s
}

func withNodes(nodes ...string) Config {
	cfg := DefaultConfig()
	for _, n := range nodes {
		cfg.Nodes = append(cfg.Nodes, "http://"+n)
	}
	return cfg
}

// Everything that wants the documented VCL shares two servers: each takes its
// time to compile it.
func TestOnRealServers(t *testing.T) {
	vcl := documented(t) + testVCL
	a, b := startVarnish(t, vcl), startVarnish(t, vcl)
	t.Run("conformance", func(t *testing.T) { conformance(t, a, b) })
	t.Run("what the documents show", func(t *testing.T) { purges(t, a) })
	t.Run("a dead node holds no other back", func(t *testing.T) { deadNode(t, a) })
	t.Run("a probe proves it and leaves nothing", func(t *testing.T) { probes(t, a, b) })
	t.Run("every variant of a URL is purged", func(t *testing.T) { variants(t, a) })
	t.Run("names are resolved at every call", func(t *testing.T) { names(t, b) })
}

// conformance is with two nodes, one of them behind a wire that can fail.
func conformance(t *testing.T, a, b *instance) {
	cfg := DefaultConfig()
	sinktest.Run(t, sinktest.Subject{
		Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: invalidation.Tag,
		Start: func(t *testing.T, env sinktest.Env) sinktest.Rig { return startRig(t, env, a, b) },
	})
}

func startRig(t *testing.T, env sinktest.Env, a, b *instance) sinktest.Rig {
	wire := startProxy(t, b.addr)
	cfg := withNodes(a.addr, wire.addr)
	answer := func(name string, class sinks.Class, head string) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) {
			wire.set(says("HTTP/1.1 " + head + "\r\nContent-Length: 0\r\n\r\n"))
		}}
	}
	const ours = "\r\nX-Varnish: 7"
	refused := func(name, head string) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: sinks.Item, Arm: func(*testing.T) { wire.set(refuses(head)) }}
	}
	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			s := openSink(t, cfg, env.Logger)
			return s, s.Close
		},
		Fill: func(t *testing.T, values []string) {
			for _, v := range values {
				a.fill(t, shop, pathOf(v))
				b.fill(t, shop, pathOf(v))
			}
		},
		Held: func(t *testing.T, v string) bool {
			return a.state(t, shop, pathOf(v)) != absent || b.state(t, shop, pathOf(v)) != absent
		},
		Faults: []sinktest.Fault{
			{Name: "down", Class: sinks.Transient, Arm: func(*testing.T) { wire.set(func(net.Conn, *http.Request) {}) }},
			{Name: "silent", Class: sinks.Transient, Arm: func(*testing.T) { wire.set(silent) }},
			{Name: "half an answer", Class: sinks.Transient, Arm: func(*testing.T) {
				wire.set(says("HTTP/1.1 200 OK\r\nWalpurge-Purged: 7\r\nContent-Length: 9\r\n\r\nhalf"))
			}},
			{Name: "not HTTP", Class: sinks.Transient, Arm: func(*testing.T) { wire.set(says("+PONG\r\n")) }},
			answer("not allowed", sinks.Lane, "405 Not allowed"+ours),
			answer("forbidden", sinks.Lane, "403 Forbidden"+ours),
			answer("the application answers", sinks.Lane, "200 OK"),
			answer("the VCL says nothing of tags", sinks.Lane, "200 OK"+ours),
			answer("the VCL counts nothing", sinks.Lane, "200 OK\r\nWalpurge-Purged: yes"),
			answer("everything is refused", sinks.Lane, "400 Bad Request"),
			answer("everything is too long", sinks.Lane, "431 Too Large"),
			answer("too many", sinks.Transient, "429 Too Many Requests"),
			answer("the application does not know it", sinks.Lane, "404 Not Found"),
			answer("not implemented", sinks.Lane, "501 Not Implemented"+ours),
			answer("redirect", sinks.Lane, "301 Moved\r\nLocation: http://"+a.addr+ours),
			answer("no content", sinks.Transient, "204 No Content"),
			answer("out of order", sinks.Transient, "503 Unavailable"+ours),
			refused("refused", "400 Bad Request"),
			refused("too long", "431 Too Large"),
		},
		Heal: func(*testing.T) { wire.set(nil) },
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			var once sync.Once
			wire.set(func(c net.Conn, r *http.Request) {
				once.Do(func() { close(arrived) })
				silent(c, r)
			})
			return arrived
		},
		RefuseKind: func(*testing.T) (invalidation.Invalidation, sinks.Class) {
			wire.forward(func(r *http.Request) string {
				if r.Header.Get("xkey") == "" {
					return "HTTP/1.1 405 Not allowed" + ours + "\r\nContent-Length: 0\r\n\r\n"
				}
				return ""
			})
			return invalidation.Invalidation{Kind: invalidation.URL, Value: "http://" + shop + "/refused"}, sinks.Lane
		},
		Partial: func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
			var batch []invalidation.Invalidation
			for _, v := range []string{"product-1", "product,2", "product-3", "", "product 5"} {
				batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: v})
			}
			return batch, map[int]sinks.Class{1: sinks.Item, 3: sinks.Item, 4: sinks.Item}
		},
	}
}
