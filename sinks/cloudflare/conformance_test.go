package cloudflare

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
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
		return startRig(t, env, invalidation.Tag)
	}})
}

// The same demands hold for URLs. Prefixes are not exact, and have tests of their
// own.
func TestConformanceOfURLs(t *testing.T) {
	cfg := DefaultConfig()
	sinktest.Run(t, sinktest.Subject{
		Kinds: cfg.Kinds(), Limits: cfg.Limits(), Kind: invalidation.URL, Parallel: true,
		Value: func(n int) string { return "https://shop.example/conformance/" + strconv.Itoa(n) },
		Start: func(t *testing.T, env sinktest.Env) sinktest.Rig {
			rig := startRig(t, env, invalidation.URL)
			// What an answer means does not depend on the kind, and one silence is enough to
			// wait for.
			rig.Faults = rig.Faults[:2]
			rig.Partial = func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
				var batch []invalidation.Invalidation
				for _, v := range []string{"https://shop.example/1", "shop.example/2", "https://shop.example/*", "https://shop.example/a b", "https://shop.example/5?q=1"} {
					batch = append(batch, invalidation.Invalidation{Kind: invalidation.URL, Value: v})
				}
				return batch, map[int]sinks.Class{1: sinks.Item, 2: sinks.Item, 3: sinks.Item}
			}
			return rig
		},
	})
}

func startRig(t *testing.T, env sinktest.Env, kind invalidation.Kind) sinktest.Rig {
	e := startEdge(t, env.Secret)
	file := filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(file, []byte(env.Secret+"\n"), 0o600))
	elsewhere := startEdge(t, env.Secret)
	t.Cleanup(func() {
		requests, _ := elsewhere.seen()
		require.Empty(t, requests, "a redirect was followed")
	})
	fault := func(name string, class sinks.Class, h http.HandlerFunc) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) { e.set(h) }}
	}
	coded := func(name string, class sinks.Class, status int, code int64) sinktest.Fault {
		return fault(name, class, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Cf-Ray", "8c0ffee8c0ffee00-FRA")
			refuse(w, status, code, "conformance-0 "+env.Secret)
		})
	}
	raw := func(name string, class sinks.Class, status int, contentType, body string) sinktest.Fault {
		return fault(name, class, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.Header().Set("Location", elsewhere.URL+"/client/v4/zones/"+zoneID+"/purge_cache")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	throttled := func(name, retryAfter string, after time.Duration, status int, code int64) sinktest.Fault {
		f := fault(name, sinks.Throttled, func(w http.ResponseWriter, _ *http.Request) {
			if retryAfter != "" {
				w.Header().Set("Retry-After", retryAfter)
			}
			refuse(w, status, code, "Please wait and consider throttling your request speed")
		})
		f.After = after
		return f
	}
	const page = "<!DOCTYPE html><html><title>error</title></html>"
	const accepted = `{"success":true,"errors":[],"messages":[],"result":{"id":"x"}}`

	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			s := openSink(t, e.URL, file, env.Logger)
			return s, s.Close
		},
		Fill: func(_ *testing.T, values []string) { e.fill(values...) },
		Held: func(_ *testing.T, value string) bool { return e.holds(value) },
		Faults: []sinktest.Fault{
			fault("reset", sinks.Transient, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			fault("silent", sinks.Transient, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }),
			fault("silent after half an answer", sinks.Transient, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "application/json")
				_, _ = io.WriteString(w, accepted[:20])
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			}),
			fault("silent after the purge", sinks.Transient, func(_ http.ResponseWriter, r *http.Request) {
				e.purge(nopWriter{}, r)
				<-r.Context().Done()
			}),
			throttled("throttled", "30", 30*time.Second, 429, 971),
			throttled("throttled without a time", "", 0, 429, 971),
			throttled("throttled for a block", "300", 5*time.Minute, 429, 10000),
			throttled("throttled for ever", "99999999999999", time.Hour, 429, 971),
			throttled("throttled with nonsense", "-1s", 0, 429, 971),
			throttled("throttled in a 200", "7", 7*time.Second, 200, 971),
			throttled("throttled by another code", "", 0, 400, 10429),
			raw("throttled by a page", sinks.Throttled, 429, "text/html", page),
			coded("token refused", sinks.Lane, 403, 10000),
			coded("token refused in a 200", sinks.Lane, 200, 10000),
			coded("no token", sinks.Lane, 401, 9106),
			coded("malformed token", sinks.Lane, 400, 6003),
			raw("forbidden by a page", sinks.Lane, 403, "text/html", page),
			coded("unknown zone", sinks.Lane, 404, 7003),
			coded("unknown zone in a 400", sinks.Lane, 400, 7003),
			coded("plan too small", sinks.Lane, 400, 1107),
			coded("no such method", sinks.Lane, 405, 10405),
			coded("no kind", sinks.Item, 400, 1012),
			coded("no array", sinks.Item, 400, 1014),
			coded("no array in a 200", sinks.Item, 200, 1014),
			coded("a tag too long, in a 200", sinks.Item, 200, 1100),
			coded("a tag not printable, in a 200", sinks.Item, 200, 1315),
			coded("something failed, in a 200", sinks.Transient, 200, 1016),
			coded("request of another fault", sinks.Item, 400, 4242),
			raw("too large", sinks.Item, 413, "application/json", `{"success":false,"errors":[],"messages":[],"result":null}`),
			raw("bad request by a page", sinks.Transient, 400, "text/html", page),
			raw("redirect", sinks.Lane, 307, "text/html", page),
			raw("redirect that says success", sinks.Lane, 301, "application/json", accepted),
			coded("out of order", sinks.Transient, 500, 10000),
			raw("bad gateway", sinks.Transient, 502, "text/html", page),
			raw("out of order and says success", sinks.Transient, 503, "application/json", accepted),
			raw("no success", sinks.Transient, 200, "application/json", `{"success":false,"errors":[],"messages":[],"result":null}`),
			raw("no success for an unknown reason", sinks.Transient, 200, "application/json", `{"success":false,"errors":[{"code":1,"message":"x"}],"result":{"id":"x"}}`),
			raw("a page", sinks.Transient, 200, "text/html", page),
			raw("a page that says success", sinks.Transient, 200, "text/html", accepted),
			raw("nothing", sinks.Transient, 200, "application/json", ""),
			raw("null", sinks.Transient, 200, "application/json", "null"),
			raw("an empty object", sinks.Transient, 200, "application/json", "{}"),
			raw("an array", sinks.Transient, 200, "application/json", "[]"),
			raw("half an answer", sinks.Transient, 200, "application/json", accepted[:20]),
			raw("too much", sinks.Transient, 200, "application/json", `{"x":"`+string(bytes.Repeat([]byte("x"), 2*httpsink.MaxBody))+`",`+accepted[1:]),
		},
		Heal: func(*testing.T) { e.set(nil) },
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			var once sync.Once
			e.set(func(_ http.ResponseWriter, r *http.Request) {
				once.Do(func() { close(arrived) })
				<-r.Context().Done()
			})
			return arrived
		},
		Partial: func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
			var batch []invalidation.Invalidation
			for _, v := range []string{"product-1", "product,2", "product-3", "", "product 5"} {
				batch = append(batch, invalidation.Invalidation{Kind: invalidation.Tag, Value: v})
			}
			return batch, map[int]sinks.Class{1: sinks.Item, 3: sinks.Item, 4: sinks.Item}
		},
		RefuseKind: func(*testing.T) (invalidation.Invalidation, sinks.Class) {
			refused, key := invalidation.Invalidation{Kind: invalidation.URLPrefix, Value: "shop.example/refused/"}, `"prefixes"`
			if kind == invalidation.URL {
				refused, key = invalidation.Invalidation{Kind: invalidation.Tag, Value: "refused"}, `"tags"`
			}
			e.set(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if bytes.Contains(body, []byte(key)) {
					refuse(w, 400, 1107, "Only enterprise zones can purge by "+key)
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				e.purge(w, r)
			})
			return refused, sinks.Lane
		},
		Rotate: func(t *testing.T, secret string) {
			e.mu.Lock()
			e.token = secret
			e.mu.Unlock()
			require.NoError(t, os.WriteFile(file, []byte(secret), 0o600))
		},
	}
}

// nopWriter takes an answer that never reaches the client.
type nopWriter struct{}

func (nopWriter) Header() http.Header         { return http.Header{} }
func (nopWriter) Write(p []byte) (int, error) { return len(p), nil }
func (nopWriter) WriteHeader(int)             {}

func openSink(t testing.TB, base, tokenFile string, logger *slog.Logger) *Sink {
	t.Helper()
	cfg := DefaultConfig()
	cfg.ZoneID, cfg.APITokenFile, cfg.BaseURL = zoneID, tokenFile, base
	s, err := New(cfg, logger)
	require.NoError(t, err)
	s.Timeout = 1500 * time.Millisecond // short: a silent server is a fault that the suite provokes
	t.Cleanup(s.Close)
	return s
}
