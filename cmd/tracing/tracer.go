package tracing

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/walpurge/walpurge/cdc"
)

// Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
	pipeline attribute.KeyValue
}

// On reports whether the environment asks for traces: an endpoint for OTLP, and
// neither OTEL_SDK_DISABLED=true nor OTEL_TRACES_EXPORTER=none.
func On(lookup func(string) (string, bool)) bool {
	get := func(name string) string { v, _ := lookup(name); return v }
	if get("OTEL_SDK_DISABLED") == "true" || get("OTEL_TRACES_EXPORTER") == "none" {
		return false
	}
	return get("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
}

// New returns a tracer that exports in the background, as the environment says. Close
// it to send the rest.
func New(ctx context.Context, pipeline, version string, lookup func(string) (string, bool), log *slog.Logger) (*Tracer, error) {
	c, err := newClient(lookup, log)
	if err != nil {
		return nil, err
	}
	exporter, err := otlptrace.New(ctx, c)
	if err != nil {
		return nil, fmt.Errorf("OpenTelemetry: %w", err)
	}
	// What the environment says of the resource goes over this.
	about, err := resource.New(ctx,
		resource.WithAttributes(attribute.String("service.name", "walpurge"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, errors.Join(fmt.Errorf("OpenTelemetry: %w", err), exporter.Shutdown(ctx))
	}
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter), sdktrace.WithResource(about))
	return &Tracer{provider: provider, tracer: provider.Tracer("walpurge"), pipeline: attribute.String("walpurge.pipeline", pipeline)}, nil
}

// Close sends what is left, for as long as the context lives.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

var w3c propagation.TraceContext

// Received begins the trace of a transaction that was read whole: its first span
// lasts from the commit until now. It returns what later spans belong to, empty if
// the transaction is not sampled.
func (t *Tracer) Received(tx *cdc.Txn) string {
	ctx, span := t.tracer.Start(context.Background(), "transaction", trace.WithTimestamp(tx.Time), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(t.pipeline, attribute.String("walpurge.xid", strconv.FormatUint(tx.XID, 10)), attribute.String("walpurge.lsn", tx.End.String())))
	if !span.SpanContext().IsSampled() {
		return ""
	}
	span.End()
	carrier := propagation.MapCarrier{}
	w3c.Inject(ctx, carrier)
	return carrier["traceparent"]
}

// Span adds a span to a trace.
func (t *Tracer) Span(parent, name, sink string, began, ended time.Time) {
	ctx := w3c.Extract(context.Background(), propagation.MapCarrier{"traceparent": parent})
	_, span := t.tracer.Start(ctx, name, trace.WithTimestamp(began), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(t.pipeline, attribute.String("walpurge.sink", sink)))
	span.End(trace.WithTimestamp(ended))
}
