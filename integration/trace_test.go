package integration

import (
	"encoding/hex"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes traces by OTLP over HTTP.
type collector struct {
	*httptest.Server
	mu    sync.Mutex
	spans []*tracepb.Span
}

func startCollector(t *testing.T) *collector {
	c := &collector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var data tracepb.TracesData
		if err != nil || r.URL.Path != "/v1/traces" || r.Header.Get("Content-Type") != "application/x-protobuf" || proto.Unmarshal(body, &data) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, r := range data.ResourceSpans {
			for _, s := range r.ScopeSpans {
				c.spans = append(c.spans, s.Spans...)
			}
		}
	}))
	t.Cleanup(c.Close)
	return c
}

// trace names the spans of a trace, each with its sink.
func (c *collector) trace(id string) (names []string, text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var all strings.Builder
	for _, s := range c.spans {
		if hex.EncodeToString(s.TraceId) != id {
			continue
		}
		name := s.Name
		for _, a := range s.Attributes {
			all.WriteString(a.String())
			if a.Key == "walpurge.sink" {
				name += " " + a.Value.GetStringValue()
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return names, all.String()
}

// TestTraces follows one transaction from its commit to its purges, over the stream, and
// finds its trace by the exemplar of the latency.
func TestTraces(t *testing.T) {
	t.Parallel()
	c := startCollector(t)
	r := newRig(t, rigOptions{})
	d := r.start("OTEL_EXPORTER_OTLP_ENDPOINT="+c.URL, "OTEL_BSP_SCHEDULE_DELAY=100")
	d.wait(r.lsn(), 20*time.Second)
	r.exec("INSERT INTO products (id, slug) VALUES (1, 'secret-slug')")
	d.wait(r.lsn(), 20*time.Second)

	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+d.addr+"/metrics", nil)
	require.NoError(t, err)
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	found := regexp.MustCompile(`walpurge_purge_latency_seconds_bucket\{[^}]*sink="edge"[^}]*\} \d+ # \{trace_id="([0-9a-f]{32})"\}`).FindSubmatch(text)
	require.NotNil(t, found, "the latency has an exemplar")
	id := string(found[1])
	want := []string{"gates cache", "gates edge", "publish cache", "publish edge", "purge cache", "purge edge", "transaction"}
	eventually(t, 20*time.Second, func() bool { names, _ := c.trace(id); return slices.Equal(want, names) }, "the whole way is in one trace")
	_, attributes := c.trace(id)
	require.NotContains(t, attributes, "secret-slug")
	require.Contains(t, attributes, "walpurge.lsn")
}
