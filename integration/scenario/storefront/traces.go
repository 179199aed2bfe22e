package storefront

import (
	"cmp"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// collector takes traces by OTLP over HTTP, as the team's tracing does.
type collector struct {
	listener net.Listener
	server   *http.Server
	mu       sync.Mutex
	spans    map[string][]*tracepb.Span // by trace
}

func startCollector(ctx context.Context) (*collector, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c := &collector{listener: l, spans: map[string][]*tracepb.Span{}}
	c.server = &http.Server{Handler: c, ReadHeaderTimeout: 10 * time.Second}
	// It ends with close.
	go func() { _ = c.server.Serve(l) }()
	return c, nil
}

func (c *collector) url() string { return "http://" + c.listener.Addr().String() }

func (c *collector) close() error { return c.server.Close() }

// ServeHTTP takes spans.
func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var data tracepb.TracesData
	if err = errors.Join(err, proto.Unmarshal(body, &data)); err != nil || r.URL.Path != "/v1/traces" {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range data.ResourceSpans {
		for _, scope := range resource.ScopeSpans {
			for _, span := range scope.Spans {
				c.spans[string(span.TraceId)] = append(c.spans[string(span.TraceId)], span)
			}
		}
	}
}

// step is a span: what it is and at which sink, and when it began after the commit.
type step struct {
	name        string
	began, took time.Duration
}

// trace has its steps in order.
type trace struct {
	committed time.Time
	steps     []step
}

// first returns the first step of that name.
func (t trace) first(name string) step {
	return t.steps[slices.IndexFunc(t.steps, func(s step) bool { return s.name == name })]
}

// whole returns the traces that reach from a commit to the purges at both sinks.
func (c *collector) whole() (out []trace) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, spans := range c.spans {
		commit := slices.IndexFunc(spans, func(s *tracepb.Span) bool { return s.Name == "transaction" })
		if commit < 0 {
			continue
		}
		t := trace{committed: time.Unix(0, int64(spans[commit].StartTimeUnixNano))}
		for _, span := range spans {
			t.steps = append(t.steps, step{nameOf(span), time.Duration(span.StartTimeUnixNano - spans[commit].StartTimeUnixNano), time.Duration(span.EndTimeUnixNano - span.StartTimeUnixNano)})
		}
		slices.SortFunc(t.steps, func(a, b step) int { return cmp.Or(cmp.Compare(a.began, b.began), strings.Compare(a.name, b.name)) })
		has := func(name string) bool {
			return slices.ContainsFunc(t.steps, func(s step) bool { return s.name == name })
		}
		if has("purge cache") && has("purge edge") {
			out = append(out, t)
		}
	}
	return out
}

func nameOf(span *tracepb.Span) string {
	name := span.Name
	for _, a := range span.Attributes {
		if a.Key == "walpurge.sink" {
			name += " " + a.Value.GetStringValue()
		}
	}
	return name
}
