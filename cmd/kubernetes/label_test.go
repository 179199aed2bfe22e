package kubernetes

import (
	"bytes"
	"context"
	"encoding/pem"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// apiServer answers as Kubernetes does to a service account that may patch one pod. It sends what it was asked to set.
func apiServer(t *testing.T) (cfg Config, labels chan string) {
	labels = make(chan string, 100)
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		switch {
		case r.Header.Get("Authorization") != "Bearer secret":
			http.Error(w, `{"message":"Unauthorized"}`, http.StatusUnauthorized)
		case r.Method != http.MethodPatch || r.URL.Path != "/api/v1/namespaces/web/pods/shop-walpurge-0":
			http.Error(w, `{"message":"pods \"shop-walpurge-1\" is forbidden"}`, http.StatusForbidden)
		case r.Header.Get("Content-Type") != "application/merge-patch+json":
			http.Error(w, "", http.StatusUnsupportedMediaType)
		default:
			labels <- string(body)
		}
	}))
	t.Cleanup(server.Close)
	dir := t.TempDir()
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for name, text := range map[string]string{"token": "secret\n", "ca.crt": string(ca), "namespace": "web"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return Config{Pod: "shop-walpurge-0", Server: strings.TrimPrefix(server.URL, "https://"), Dir: dir, Poll: time.Millisecond, Logger: slog.New(slog.DiscardHandler)}, labels
}

const on, off = `{"metadata":{"labels":{"walpurge.io/leader":"true"}}}`, `{"metadata":{"labels":{"walpurge.io/leader":null}}}`

func TestLabelFollowsTheLead(t *testing.T) {
	cfg, labels := apiServer(t)
	var leads atomic.Bool
	cfg.Leads = leads.Load
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { Run(ctx, cfg); close(ended) }()
	require.Equal(t, off, <-labels, "a label that an earlier process left is removed")
	leads.Store(true)
	require.Equal(t, on, <-labels)
	leads.Store(false)
	require.Equal(t, off, <-labels)
	leads.Store(true)
	require.Equal(t, on, <-labels)
	stop()
	<-ended
	require.Equal(t, off, <-labels, "a daemon that stops removes it")
}

func TestRefusalSaysWhatIsMissing(t *testing.T) {
	cfg, _ := apiServer(t)
	cfg.Pod = "shop-walpurge-1"
	require.ErrorContains(t, cfg.patch(t.Context(), true), `403 Forbidden: {"message":"pods \"shop-walpurge-1\" is forbidden"}; the pod's service account needs a Role`)
	var text bytes.Buffer
	cfg.Logger = slog.New(slog.NewTextHandler(&text, nil))
	ctx, stop := context.WithCancel(t.Context())
	asked := 0
	cfg.Leads = func() bool {
		if asked++; asked == 3 {
			stop()
		}
		return true
	}
	Run(ctx, cfg)
	require.Contains(t, text.String(), notLabelled.On)
	require.NotContains(t, text.String(), "secret")
}

func TestEnvironment(t *testing.T) {
	set := map[string]string{}
	lookup := func(name string) (string, bool) { v, ok := set[name]; return v, ok }
	var cfg Config
	require.NoError(t, cfg.Environment(lookup))
	Run(t.Context(), cfg) // returns at once
	set["WALPURGE_POD"] = "shop-walpurge-0"
	require.ErrorContains(t, cfg.Environment(lookup), "unset it outside of Kubernetes")
	set["KUBERNETES_SERVICE_HOST"], set["KUBERNETES_SERVICE_PORT"] = "fd00::1", "443"
	require.NoError(t, cfg.Environment(lookup))
	require.Equal(t, "[fd00::1]:443", cfg.Server)
}
