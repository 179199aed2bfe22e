package delivery

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/rules/invalidation"
)

// Tracer adds spans to the trace of a transaction.
type Tracer interface {
	Span(parent, name, sink string, began, ended time.Time)
}

// span adds one to the trace of a batch, if it is traced.
func (l *Lane) span(b *invalidation.Batch, name string, began time.Time) {
	if l.cfg.Tracer == nil || b == nil || b.Stamp.Trace == "" {
		return
	}
	l.cfg.Tracer.Span(b.Stamp.Trace, name, l.cfg.Name, began, time.Now())
}

// latent observes how long a batch took from its commit, with its trace as an exemplar.
func (l *laneMetrics) latent(b *invalidation.Batch, now time.Time) {
	seconds := now.Sub(b.Stamp.FirstCommit).Seconds()
	// A traceparent is version, trace, span and flags, joined by dashes.
	parts := strings.Split(b.Stamp.Trace, "-")
	if with, can := l.latency.(prometheus.ExemplarObserver); can && len(parts) == 4 {
		with.ObserveWithExemplar(seconds, prometheus.Labels{"trace_id": parts[1]})
		return
	}
	l.latency.Observe(seconds)
}
