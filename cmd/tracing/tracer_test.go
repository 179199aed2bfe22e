package tracing

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walpurge/walpurge/cdc"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

func env(pairs ...string) func(string) (string, bool) {
	vars := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		vars[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestOffUnlessTheEnvironmentAsks(t *testing.T) {
	require.False(t, On(env()))
	require.True(t, On(env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318")))
	require.True(t, On(env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/v1/traces")))
	require.False(t, On(env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", "OTEL_SDK_DISABLED", "true")))
	require.False(t, On(env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318", "OTEL_TRACES_EXPORTER", "none")))
}

func TestEnvironment(t *testing.T) {
	c, err := newClient(env("OTEL_EXPORTER_OTLP_ENDPOINT", "https://c.example:4318/", "OTEL_EXPORTER_OTLP_HEADERS", "api-key=a%20b, x=y", "OTEL_EXPORTER_OTLP_TIMEOUT", "1500"), quiet)
	require.NoError(t, err)
	require.Equal(t, "https://c.example:4318/v1/traces", c.url)
	require.Equal(t, map[string]string{"api-key": "a b", "x": "y"}, c.headers)
	require.Equal(t, 1500*time.Millisecond, c.http.Timeout)
	c, err = newClient(env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:4318", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://traces:4318/here"), quiet)
	require.NoError(t, err)
	require.Equal(t, "http://traces:4318/here", c.url)

	empty := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for _, wrong := range [][]string{
		{"OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"},
		{"OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"},
		{"OTEL_EXPORTER_OTLP_HEADERS", "Bearer s3cret"},
		{"OTEL_EXPORTER_OTLP_TIMEOUT", "10s"},
		{"OTEL_EXPORTER_OTLP_CERTIFICATE", empty},
	} {
		_, err := newClient(env(append([]string{"OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318"}, wrong...)...), quiet)
		require.ErrorContains(t, err, "OpenTelemetry: ", wrong)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

// Who is not sampled costs no span; a collector that refuses stops nobody.
func TestSampling(t *testing.T) {
	calls := 0
	var said bytes.Buffer
	log := slog.New(slog.NewTextHandler(&said, nil))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		calls++
		w.WriteHeader(http.StatusForbidden)
	}))
	defer srv.Close()
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	lookup := env("OTEL_EXPORTER_OTLP_ENDPOINT", srv.URL)
	tracer, err := New(t.Context(), "shop", "1", lookup, log)
	require.NoError(t, err)
	require.Empty(t, tracer.Received(&cdc.Txn{Time: time.Now()}))
	require.NoError(t, tracer.Close(t.Context()))
	require.Zero(t, calls)

	t.Setenv("OTEL_TRACES_SAMPLER", "always_on")
	tracer, err = New(t.Context(), "shop", "1", lookup, log)
	require.NoError(t, err)
	parent := tracer.Received(&cdc.Txn{Time: time.Now()})
	require.Regexp(t, `^00-[0-9a-f]{32}-[0-9a-f]{16}-01$`, parent)
	tracer.Span(parent, "purge", "cache", time.Now(), time.Now())
	require.NoError(t, tracer.Close(t.Context()))
	require.Contains(t, said.String(), "the collector answers 403 Forbidden")
	require.Equal(t, 1, calls)
}
