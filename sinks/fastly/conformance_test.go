package fastly

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/httpsink"
	"github.com/walpurge/walpurge/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	cfg := DefaultConfig()
	sinktest.Run(t, sinktest.Subject{Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: invalidation.Tag, Parallel: true, Start: func(t *testing.T, env sinktest.Env) sinktest.Rig {
		rig, s := startRig(t, env, cfg, invalidation.Tag)
		rig.Faults = append(rig.Faults, tagFaults(s, env.Secret)...)
		rig.Partial = func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
			return batchOf(invalidation.Tag, "product-1", "product 2", "product,3", "", "product\u00fc5"), map[int]sinks.Class{1: sinks.Item, 3: sinks.Item, 4: sinks.Item}
		}
		return rig
	}})
}

func TestConformanceOfURLs(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Soft = true
	limits := cfg.Limits()
	limits.Items = limits.ItemsOf(invalidation.URL)
	sinktest.Run(t, sinktest.Subject{
		Kinds: cfg.Kinds(), Limits: limits, Kind: invalidation.URL, Parallel: true,
		Value: func(n int) string { return "https://shop.example/conformance/" + strconv.Itoa(n) + "?a=b" },
		Start: func(t *testing.T, env sinktest.Env) sinktest.Rig {
			rig, s := startRig(t, env, cfg, invalidation.URL)
			// The cache knows URLs without their scheme.
			rig.Fill = func(_ *testing.T, values []string) {
				for _, v := range values {
					s.fill(bare(v))
				}
			}
			rig.Held = func(_ *testing.T, v string) bool { return s.fresh(bare(v)) }
			rig.Partial = func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
				s.mu.Lock()
				s.hosts = []string{"shop.example"}
				s.mu.Unlock()
				return batchOf(invalidation.URL, "https://shop.example/1", "shop.example/2", "https://shop.example/a/../3", "https://elsewhere.example/4", "http://shop.example/5"),
					map[int]sinks.Class{1: sinks.Item, 2: sinks.Item, 3: sinks.Item}
			}
			return rig
		},
	})
}

func bare(v string) string {
	if _, rest, found := strings.Cut(v, "://"); found {
		return rest
	}
	return v
}

func batchOf(kind invalidation.Kind, vv ...string) []invalidation.Invalidation {
	var out []invalidation.Invalidation
	for _, v := range vv {
		out = append(out, invalidation.Invalidation{Kind: kind, Value: v})
	}
	return out
}

func answerFault(s *service, name string, class sinks.Class, status int, body string, header ...string) sinktest.Fault {
	return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) {
		s.set(func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}}
}

func throttled(s *service, name string, after time.Duration, header ...string) sinktest.Fault {
	f := answerFault(s, name, sinks.Throttled, 429, `{"msg":"Too many requests"}`, header...)
	f.After = after
	return f
}

// tagFaults are those whose class depends on the kind, and the odd answers.
func tagFaults(s *service, secret string) []sinktest.Fault {
	const page = "<!DOCTYPE html><html><title>error</title></html>"
	const accepted = `{"conformance-0":"108-1391560174-974124"}`
	at := func(name string, class sinks.Class, status int, body string) sinktest.Fault {
		return answerFault(s, name, class, status, body)
	}
	return []sinktest.Fault{
		at("unknown service", sinks.Lane, 404, `{"msg":"Record not found","detail":"Cannot load service"}`),
		at("not found by a page", sinks.Transient, 404, page),
		at("bad request", sinks.Item, 400, `{"msg":"Bad request","detail":"conformance-0 `+secret+`"}`),
		at("bad request by a page", sinks.Transient, 400, page),
		at("too large", sinks.Item, 413, `{}`),
		at("no such method", sinks.Lane, 405, `{"msg":"Method not allowed"}`),
		at("redirect that says success", sinks.Lane, 301, accepted),
		at("bad gateway", sinks.Transient, 502, page),
		at("out of order and says success", sinks.Transient, 503, accepted),
		at("a page", sinks.Transient, 200, page),
		at("nothing", sinks.Transient, 200, ""),
		at("null", sinks.Transient, 200, "null"),
		at("an empty object", sinks.Transient, 200, "{}"),
		at("an array", sinks.Transient, 200, "[]"),
		at("half an answer", sinks.Transient, 200, accepted[:10]),
		at("too much", sinks.Transient, 200, `{"x":"`+string(bytes.Repeat([]byte("x"), 2*httpsink.MaxBody))+`"}`),
		throttled(s, "throttled for ever", time.Hour, "Retry-After", "99999999999999"),
		throttled(s, "throttled with nonsense", 0, "Fastly-RateLimit-Reset", "soon"),
		throttled(s, "throttled until the past", 0, "Fastly-RateLimit-Reset", "1452032384"),
		throttled(s, "throttled until the end of time", time.Hour, "Fastly-RateLimit-Reset", "1000000000000"),
	}
}

func startRig(t *testing.T, env sinktest.Env, cfg Config, kind invalidation.Kind) (sinktest.Rig, *service) {
	s := startService(t, env.Secret)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(env.Secret+"\n"), 0o600))
	elsewhere := startService(t, env.Secret)
	t.Cleanup(func() {
		requests, _ := elsewhere.seen()
		require.Empty(t, requests, "a redirect was followed")
	})
	hang := func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	fault := func(name string, h http.HandlerFunc) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: sinks.Transient, Arm: func(*testing.T) { s.set(h) }}
	}
	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			sink := openSink(t, cfg, s.URL, file, env.Logger)
			return sink, sink.Close
		},
		Fill: func(_ *testing.T, values []string) { s.fill(values...) },
		Held: func(_ *testing.T, value string) bool { return s.fresh(value) },
		Faults: []sinktest.Fault{
			fault("reset", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			fault("silent", hang),
			fault("silent after half an answer", func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.WriteString(w, `{"stat`)
				_ = http.NewResponseController(w).Flush()
				hang(w, r)
			}),
			answerFault(s, "token refused", sinks.Lane, 401, `{"msg":"Provided credentials are missing or invalid","detail":"`+env.Secret+`"}`),
			answerFault(s, "no right", sinks.Lane, 403, `{"msg":"You are not authorized to perform this action"}`),
			answerFault(s, "redirect", sinks.Lane, 307, "", "Location", elsewhere.URL+"/service/"+serviceID+"/purge"),
			answerFault(s, "out of order", sinks.Transient, 500, `{"msg":"Internal error"}`),
			throttled(s, "throttled", 30*time.Second, "Retry-After", "30"),
			throttled(s, "throttled without a time", 0),
		},
		Heal: func(*testing.T) { s.set(nil) },
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			var once sync.Once
			s.set(func(w http.ResponseWriter, r *http.Request) {
				once.Do(func() { close(arrived) })
				hang(w, r)
			})
			return arrived
		},
		RefuseKind: func(*testing.T) (invalidation.Invalidation, sinks.Class) {
			refused, path := invalidation.Invalidation{Kind: invalidation.URL, Value: "https://shop.example/refused"}, "/purge/"
			if kind == invalidation.URL {
				refused, path = invalidation.Invalidation{Kind: invalidation.Tag, Value: "refused"}, "/service/"
			}
			s.set(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasPrefix(r.URL.EscapedPath(), path) {
					refuse(w, 403, "You are not authorized to perform this action", "")
					return
				}
				s.answer(w, r)
			})
			return refused, sinks.Lane
		},
		Rotate: func(t *testing.T, secret string) {
			s.mu.Lock()
			s.token = secret
			s.mu.Unlock()
			require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
		},
	}, s
}

func openSink(t testing.TB, cfg Config, base, tokenFile string, logger *slog.Logger) *Sink {
	t.Helper()
	cfg.ServiceID, cfg.APITokenFile, cfg.BaseURL = serviceID, tokenFile, base
	s, err := New(cfg, logger)
	require.NoError(t, err)
	s.Timeout = 1500 * time.Millisecond // short: a silent server is a fault that the suite provokes
	t.Cleanup(s.Close)
	return s
}
