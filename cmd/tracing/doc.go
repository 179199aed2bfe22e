// Package tracing makes OpenTelemetry traces of sampled transactions: one for each,
// from its commit to its purge at every sink.
//
// It is off unless the standard environment variables name an endpoint for OTLP, and
// then obeys them: exporter, sampler, resource. What a span holds is where and when,
// never a value of a row, a key or a tag.
package tracing
