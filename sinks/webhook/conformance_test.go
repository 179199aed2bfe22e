package webhook

import (
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/sinktest"
)

func TestConformance(t *testing.T) {
	cfg := DefaultConfig()
	sinktest.Run(t, sinktest.Subject{Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: invalidation.Tag, Start: startRig})
}

func open(t testing.TB, cfg Config, logger *slog.Logger) *Sink {
	t.Helper()
	s, err := New(cfg, logger)
	require.NoError(t, err)
	t.Cleanup(s.Close)
	return s
}

func startRig(t *testing.T, env sinktest.Env) sinktest.Rig {
	svc := startService(t, env.Secret)
	elsewhere := startService(t, env.Secret)
	t.Cleanup(func() {
		bodies, _ := elsewhere.seen()
		require.Empty(t, bodies, "a redirect was followed")
	})
	cfg := DefaultConfig()
	cfg.URL, cfg.HMACFile, cfg.Timeout = svc.URL+"/purge?token="+env.Secret, filepath.Join(t.TempDir(), "secret"), time.Second
	cfg.Headers = map[string]string{"authorization": "Bearer " + env.Secret}
	require.NoError(t, os.WriteFile(cfg.HMACFile, []byte(env.Secret+"\n"), 0o600))
	fault := func(name string, class sinks.Class, h http.HandlerFunc) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) { svc.set(h) }}
	}
	status := func(name string, class sinks.Class, code int) sinktest.Fault {
		return fault(name, class, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(code)
			_, _ = io.WriteString(w, "conformance-0 "+env.Secret)
		})
	}
	throttled := func(name, retryAfter string, after time.Duration) sinktest.Fault {
		f := fault(name, sinks.Throttled, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", retryAfter)
			w.WriteHeader(http.StatusTooManyRequests)
		})
		f.After = after
		return f
	}
	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			s := open(t, cfg, env.Logger)
			return s, s.Close
		},
		Fill: func(_ *testing.T, values []string) { svc.fill(values) },
		Held: func(_ *testing.T, v string) bool { return svc.holds(v) },
		Faults: []sinktest.Fault{
			fault("reset", sinks.Transient, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			fault("silent", sinks.Transient, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
			fault("half an answer", sinks.Transient, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = io.WriteString(w, "half")
				panic(http.ErrAbortHandler)
			}),
			status("no credentials", sinks.Lane, 401),
			status("forbidden", sinks.Lane, 403),
			status("not found", sinks.Lane, 404),
			status("no such method", sinks.Lane, 405),
			status("gone", sinks.Lane, 410),
			status("redirect", sinks.Lane, 307),
			status("bad request", sinks.Item, 400),
			status("too large", sinks.Item, 413),
			status("not processable", sinks.Item, 422),
			throttled("throttled", "30", 30*time.Second),
			throttled("throttled for ever", "99999999999999", time.Hour),
			throttled("throttled without a time", "", 0),
			status("timeout", sinks.Transient, 408),
			status("out of order", sinks.Transient, 500),
			status("bad gateway", sinks.Transient, 502),
			{Name: "no secret", Class: sinks.Lane, Arm: func(t *testing.T) { require.NoError(t, os.Rename(cfg.HMACFile, cfg.HMACFile+".away")) }},
		},
		Heal: func(*testing.T) {
			svc.set(nil)
			_ = os.Rename(cfg.HMACFile+".away", cfg.HMACFile)
		},
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			var once sync.Once
			svc.set(func(_ http.ResponseWriter, r *http.Request) {
				once.Do(func() { close(arrived) })
				<-r.Context().Done()
			})
			return arrived
		},
		RefuseKind: func(*testing.T) (invalidation.Invalidation, sinks.Class) {
			svc.set(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), "https://shop.example/refused") {
					w.WriteHeader(http.StatusForbidden)
					return
				}
				svc.purge(w, r, body)
			})
			return invalidation.Invalidation{Kind: invalidation.URL, Value: "https://shop.example/refused"}, sinks.Lane
		},
		Rotate: func(t *testing.T, secret string) {
			svc.mu.Lock()
			svc.secret = secret
			svc.mu.Unlock()
			require.NoError(t, os.WriteFile(cfg.HMACFile, []byte(secret), 0o600))
		},
	}
}

// With an expression, a service may refuse one value of many, and values that are
// not UTF-8 have no form.
func TestConformanceOfAnExpression(t *testing.T) {
	cfg := DefaultConfig()
	sinktest.Run(t, sinktest.Subject{Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: invalidation.Tag, Start: func(t *testing.T, env sinktest.Env) sinktest.Rig {
		svc := startService(t, "")
		cfg := cfg
		cfg.URL = svc.URL
		cfg.JSON = `{"v": 1, "everything": everything, "items": [{"rule": "x", "tags": tags}]}`
		return sinktest.Rig{
			Open: func(t *testing.T) (sinks.Sink, func()) {
				s := open(t, cfg, env.Logger)
				return s, s.Close
			},
			Fill:   func(_ *testing.T, values []string) { svc.fill(values) },
			Held:   func(_ *testing.T, v string) bool { return svc.holds(v) },
			Faults: []sinktest.Fault{{Name: "down", Class: sinks.Transient, Arm: func(*testing.T) { svc.set(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }) }}},
			Heal:   func(*testing.T) { svc.set(nil) },
			Partial: func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
				return []invalidation.Invalidation{
					{Kind: invalidation.Tag, Value: "product-1"}, {Kind: invalidation.Tag, Value: strings.Repeat("\xff", 9)}, {Kind: invalidation.Tag, Value: "product-3"},
				}, map[int]sinks.Class{1: sinks.Item}
			},
		}
	}})
}
