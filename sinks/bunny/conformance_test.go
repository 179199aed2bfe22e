package bunny

import (
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
		rig, _ := startRig(t, env, cfg, invalidation.Tag)
		rig.Partial = func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
			return batchOf(invalidation.Tag, "product-1", "product 2", "product*", "", "product\u00fc5", "product,6"),
				map[int]sinks.Class{1: sinks.Item, 2: sinks.Item, 3: sinks.Item, 4: sinks.Item, 5: sinks.Item}
		}
		return rig
	}})
}

func TestConformanceOfURLs(t *testing.T) {
	cfg := DefaultConfig()
	sinktest.Run(t, sinktest.Subject{
		Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: invalidation.URL, Parallel: true,
		Value: func(n int) string { return "https://shop.example/conformance/" + strconv.Itoa(n) + "?a=b" },
		Start: func(t *testing.T, env sinktest.Env) sinktest.Rig {
			rig, _ := startRig(t, env, cfg, invalidation.URL)
			rig.Partial = func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
				return batchOf(invalidation.URL, "https://shop.example/1", "shop.example/2", "https://shop.example/a/../3", "https://shop.example/*", "https://shop.example/folder/"),
					map[int]sinks.Class{1: sinks.Item, 2: sinks.Item, 3: sinks.Item, 4: sinks.Item}
			}
			return rig
		},
	})
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
	f := answerFault(s, name, sinks.Throttled, 429, `{"Message":"Too many requests"}`, header...)
	f.After = after
	return f
}

func startRig(t *testing.T, env sinktest.Env, cfg Config, kind invalidation.Kind) (sinktest.Rig, *service) {
	s := startService(t, env.Secret)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(env.Secret+"\n"), 0o600))
	elsewhere := startService(t, env.Secret)
	t.Cleanup(func() {
		bodies, queries := elsewhere.seen()
		require.Empty(t, bodies, "a redirect was followed")
		require.Empty(t, queries, "a redirect was followed")
	})
	const page = "<!DOCTYPE html><html><title>error</title></html>"
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	at := func(name string, class sinks.Class, status int, body string) sinktest.Fault {
		return answerFault(s, name, class, status, body)
	}
	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			sink := openSink(t, cfg, s.URL, file, env.Logger)
			return sink, sink.Close
		},
		Fill: func(_ *testing.T, values []string) { s.fill(values...) },
		Held: func(_ *testing.T, value string) bool { return s.has(value) },
		Faults: []sinktest.Fault{
			{Name: "reset", Class: sinks.Transient, Arm: func(*testing.T) { s.set(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) }},
			{Name: "silent", Class: sinks.Transient, Arm: func(*testing.T) { s.set(hang) }},
			at("key refused", sinks.Lane, 401, `{"Message":"denied for `+env.Secret+`"}`),
			at("no right", sinks.Lane, 403, `{}`),
			at("unknown zone", sinks.Lane, 404, `{"ErrorKey":"pullzone.not_found"}`),
			at("not found by a page", sinks.Transient, 404, page),
			at("bad request", sinks.Item, 400, `{"Message":"conformance-0 `+env.Secret+`"}`),
			at("bad request by a page", sinks.Transient, 400, page),
			at("too large", sinks.Item, 413, `{}`),
			at("no such method", sinks.Lane, 405, ``),
			answerFault(s, "redirect", sinks.Lane, 307, "", "Location", elsewhere.URL+"/pullzone/"+zoneID+"/purgeCache"),
			at("out of order", sinks.Transient, 500, `{}`),
			at("a page that says success", sinks.Transient, 200, page),
			at("half an answer", sinks.Transient, 200, `{"a":`),
			at("accepted for later", sinks.Transient, 202, ``),
			at("too much", sinks.Transient, 200, `{"x":"`+strings.Repeat("x", 2*httpsink.MaxBody)+`"}`),
			throttled(s, "throttled", 30*time.Second, "Retry-After", "30"),
			throttled(s, "throttled without a time", 0),
			throttled(s, "throttled for ever", time.Hour, "Retry-After", "99999999999999"),
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
			refused, path := invalidation.Invalidation{Kind: invalidation.URL, Value: "https://shop.example/refused"}, "/purge"
			if kind == invalidation.URL {
				refused, path = invalidation.Invalidation{Kind: invalidation.Tag, Value: "refused"}, "/pullzone/"+zoneID+"/purgeCache"
			}
			s.set(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == path {
					refuse(w, 403, "forbidden", "no right")
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
	cfg.PullZoneID, cfg.APITokenFile, cfg.BaseURL = zoneID, tokenFile, base
	s, err := New(cfg, logger)
	require.NoError(t, err)
	s.Timeout = 1500 * time.Millisecond // short: a silent server is a fault that the suite provokes
	t.Cleanup(s.Close)
	return s
}
