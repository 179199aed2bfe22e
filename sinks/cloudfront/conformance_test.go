package cloudfront

import (
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
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

func tagged() Config {
	cfg := DefaultConfig()
	cfg.DistributionID, cfg.Tags = distribution, true
	return cfg
}

func TestConformance(t *testing.T) {
	cfg := tagged()
	for _, s := range []sinktest.Subject{
		{Kind: invalidation.Tag},
		{Kind: invalidation.URL, Value: func(n int) string { return fmt.Sprintf("https://shop.example/p/%d?x=1", n) }},
	} {
		s.Kinds, s.Limits = cfg.Kinds(), cfg.Limits()
		s.Start = func(t *testing.T, env sinktest.Env) sinktest.Rig { return startRig(t, env, s.Kind) }
		t.Run(s.Kind.String(), func(t *testing.T) { sinktest.Run(t, s) })
	}
}

// isolate keeps what lies about on the machine for AWS's own tools out of tests,
// and gives the credentials' file.
func isolate(t *testing.T) string {
	dir := t.TempDir()
	for _, name := range []string{
		"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ROLE_ARN",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_CLOUDFRONT",
	} {
		t.Setenv(name, "")
	}
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	file := filepath.Join(dir, "credentials")
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", file)
	return file
}

func credentials(t *testing.T, file, secret string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte("[default]\naws_access_key_id = "+accessKey+"\naws_secret_access_key = "+secret+"\n"), 0o600))
}

func open(t testing.TB, cfg Config, timeout time.Duration, logger *slog.Logger) *Sink {
	t.Helper()
	s, err := New(cfg, logger)
	require.NoError(t, err)
	s.Timeout = timeout
	t.Cleanup(s.Close)
	return s
}

// entry is where the stand-in has a value: its tag, or its path.
func entry(k invalidation.Kind, value string) string {
	if k == invalidation.Tag {
		return "#" + value
	}
	if u, err := url.Parse(value); err == nil && u.Host != "" {
		return u.RequestURI()
	}
	return "none " + value
}

func startRig(t *testing.T, env sinktest.Env, kind invalidation.Kind) sinktest.Rig {
	file := isolate(t)
	credentials(t, file, env.Secret)
	a := startAPI(t, env.Secret)
	elsewhere := startAPI(t, env.Secret)
	t.Cleanup(func() { require.Empty(t, elsewhere.seen(), "a redirect was followed") })
	cfg := tagged()
	cfg.BaseURL = a.URL
	fault := func(name string, class sinks.Class, h http.HandlerFunc) sinktest.Fault {
		return sinktest.Fault{Name: name, Class: class, Arm: func(*testing.T) { a.set(h) }}
	}
	coded := func(class sinks.Class, status int, code string) sinktest.Fault {
		return fault(fmt.Sprintf("%s in a %d", code, status), class, func(w http.ResponseWriter, _ *http.Request) {
			refuse(w, status, code, "conformance-0 https://shop.example/p/0?x=1 "+env.Secret)
		})
	}
	raw := func(name string, class sinks.Class, status int, body string) sinktest.Fault {
		return fault(name, class, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL+"/2020-05-31/distribution/"+distribution+"/invalidation")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		})
	}
	after := func(f sinktest.Fault, d time.Duration) sinktest.Fault {
		f.After = d
		return f
	}
	slow := []sinktest.Fault{fault("silent", sinks.Transient, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })}
	if kind != invalidation.Tag {
		slow = nil // once is enough to wait for
	}
	return sinktest.Rig{
		Open: func(t *testing.T) (sinks.Sink, func()) {
			s := open(t, cfg, 3*time.Second, env.Logger) // short: a silent API is a fault that the suite provokes
			return s, s.Close
		},
		Fill: func(_ *testing.T, values []string) {
			all := map[string]string{}
			for _, v := range values {
				all[v] = entry(kind, v)
			}
			a.fill(all)
		},
		Held: func(_ *testing.T, v string) bool { return a.holds(v) },
		Faults: append([]sinktest.Fault{
			fault("reset", sinks.Transient, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
			after(coded(sinks.Throttled, 400, "TooManyInvalidationsInProgress"), 10*time.Second),
			coded(sinks.Throttled, 400, "Throttling"),
			coded(sinks.Throttled, 503, "SlowDown"),
			after(fault("too many requests", sinks.Throttled, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Retry-After", "30")
				refuse(w, 429, "TooManyRequestsException", "x")
			}), 30*time.Second),
			coded(sinks.Lane, 404, "NoSuchDistribution"),
			coded(sinks.Lane, 403, "AccessDenied"),
			coded(sinks.Lane, 403, "ExpiredToken"),
			coded(sinks.Lane, 400, "ExpiredTokenException"),
			coded(sinks.Lane, 403, "InvalidClientTokenId"),
			coded(sinks.Lane, 403, "SignatureDoesNotMatch"),
			coded(sinks.Lane, 403, "RequestTimeTooSkewed"),
			coded(sinks.Lane, 400, "OptInRequired"),
			coded(sinks.Item, 400, "InvalidArgument"),
			coded(sinks.Item, 413, "BatchTooLarge"),
			coded(sinks.Transient, 400, "SomethingElse"),
			coded(sinks.Transient, 500, "AccessDenied"),
			coded(sinks.Transient, 503, "ServiceUnavailable"),
			raw("forbidden by a page", sinks.Lane, 403, "<html>"),
			raw("not found by a page", sinks.Lane, 404, "<html>"),
			raw("redirect", sinks.Lane, 307, ""),
			raw("bad gateway", sinks.Transient, 502, "<html>"),
			raw("bad request by a page", sinks.Transient, 400, "<html>"),
			raw("a page", sinks.Transient, 200, "<html></html>"),
			raw("nothing", sinks.Transient, 200, ""),
			raw("something else", sinks.Transient, 201, "<Distribution><Id>x</Id></Distribution>"),
			raw("half an answer", sinks.Transient, 201, "<Invalidation><Id>x</Id>"),
			{Name: "no credentials", Class: sinks.Lane, Arm: func(t *testing.T) {
				require.NoError(t, os.Rename(file, file+".away"))
				// Who has some already is told that they are no good.
				a.set(func(w http.ResponseWriter, _ *http.Request) { refuse(w, 403, "ExpiredToken", "x") })
			}},
		}, slow...),
		Heal: func(*testing.T) {
			a.set(nil)
			_ = os.Rename(file+".away", file)
		},
		Hang: func(*testing.T) <-chan struct{} {
			arrived := make(chan struct{})
			var once sync.Once
			a.set(func(_ http.ResponseWriter, r *http.Request) {
				once.Do(func() { close(arrived) })
				<-r.Context().Done()
			})
			return arrived
		},
		Partial: func(*testing.T) ([]invalidation.Invalidation, map[int]sinks.Class) {
			values := map[invalidation.Kind][]string{
				invalidation.Tag: {"product-1", "product,2", "product-3", "", strings.Repeat("x", 257)},
				invalidation.URL: {"https://shop.example/1", "https://shop.example/*", "https://shop.example/3", "", "https://shop.example/a b"},
			}
			var batch []invalidation.Invalidation
			for _, v := range values[kind] {
				batch = append(batch, invalidation.Invalidation{Kind: kind, Value: v})
			}
			return batch, map[int]sinks.Class{1: sinks.Item, 3: sinks.Item, 4: sinks.Item}
		},
		RefuseKind: func(*testing.T) (invalidation.Invalidation, sinks.Class) {
			refused, path := invalidation.Invalidation{Kind: invalidation.URL, Value: "https://shop.example/refused"}, "<Path>/"
			if kind == invalidation.URL {
				refused, path = invalidation.Invalidation{Kind: invalidation.Tag, Value: "refused"}, "<Path>#"
			}
			a.set(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), path) {
					refuse(w, 403, "AccessDenied", "x")
					return
				}
				r.Body = io.NopCloser(strings.NewReader(string(body)))
				a.invalidate(w, r)
			})
			return refused, sinks.Lane
		},
		Rotate: func(t *testing.T, secret string) {
			a.mu.Lock()
			a.secret = secret
			a.mu.Unlock()
			credentials(t, file, secret)
		},
	}
}
