package delivery

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/rules/invalidation"
	"github.com/walpurge/walpurge/sinks"
	"github.com/walpurge/walpurge/sinks/delivery/machine"
)

// Metrics are those of all lanes of a pipeline.
type Metrics struct {
	latency   *prometheus.HistogramVec
	purges    *prometheus.CounterVec
	coalesced *prometheus.CounterVec
	requests  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	state     *prometheus.GaugeVec
	stuck     *prometheus.GaugeVec
	flushes   *prometheus.CounterVec
	parked    *prometheus.CounterVec
	waits     *prometheus.HistogramVec
	timeouts  *prometheus.CounterVec
}

// NewMetrics registers the metrics of lanes.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "walpurge", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		v := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "walpurge", Name: name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, labels)
		reg.MustRegister(v)
		return v
	}
	fast := []float64{.0005, .001, .002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}
	m := &Metrics{
		latency:   histogram("purge_latency_seconds", "Time from commit to acknowledged purge.", fast, "sink"),
		purges:    counter("purges_total", "Invalidations carried out or tried at a sink.", "sink", "result"),
		coalesced: counter("coalesced_total", "Invalidations that went together with an equal one.", "sink"),
		requests:  counter("sink_requests_total", "Calls of a sink by outcome.", "sink", "code"),
		seconds:   histogram("sink_request_seconds", "Duration of one call of a sink.", fast, "sink"),
		flushes:   counter("flushes_total", "Flushes of a sink.", "sink", "reason"),
		parked:    counter("parked_total", "Invalidations parked because a sink refuses them.", "sink"),
		waits:     histogram("gate_wait_seconds", "Time that purges waited for a gate.", fast, "sink", "gate"),
		timeouts:  counter("gate_timeouts_total", "Purges carried out early because a gate stayed closed.", "sink", "gate"),
		state: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "walpurge", Name: "sink_state", Help: "1 for the state that the lane is in.",
		}, []string{"sink", "state"}),
		stuck: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "walpurge", Name: "stuck", Help: "Values that wait because purges of their kind fail, while other kinds are purged.",
		}, []string{"sink", "kind"}),
	}
	reg.MustRegister(m.state, m.stuck)
	return m
}

// The outcomes of a call that are not the class of an error.
const (
	codeOK      = "ok"
	codePartial = "partial"
)

// laneMetrics are one lane's, looked up once.
type laneMetrics struct {
	m           *Metrics
	sink        string
	latency     prometheus.Observer
	coalesced   prometheus.Counter
	parkedTotal prometheus.Counter
	purged      prometheus.Counter
	failed      prometheus.Counter
	gates       []gateMetrics
}

type gateMetrics struct {
	waited   prometheus.Observer
	timeouts prometheus.Counter
}

func (m *Metrics) lane(sink string, gates []Gate) *laneMetrics {
	l := &laneMetrics{
		m: m, sink: sink,
		latency:     m.latency.WithLabelValues(sink),
		coalesced:   m.coalesced.WithLabelValues(sink),
		parkedTotal: m.parked.WithLabelValues(sink),
		purged:      m.purges.WithLabelValues(sink, "ok"),
		failed:      m.purges.WithLabelValues(sink, "failed"),
	}
	for _, g := range gates {
		l.gates = append(l.gates, gateMetrics{m.waits.WithLabelValues(sink, g.Name), m.timeouts.WithLabelValues(sink, g.Name)})
	}
	l.setStuck(nil)
	// The first of a kind is then an increase.
	for _, reason := range invalidation.FlushReasons() {
		m.flushes.WithLabelValues(sink, reason)
	}
	for _, code := range append([]string{codeOK, codePartial}, sinks.ClassNames()...) {
		m.requests.WithLabelValues(sink, code)
	}
	return l
}

func (l *laneMetrics) request(took time.Duration, items int, err error) {
	code, failed := codeOK, 0
	var batch *sinks.BatchError
	switch {
	case errors.As(err, &batch):
		code, failed = codePartial, min(items, len(batch.Failed))
	case err != nil:
		class, _ := sinks.ClassOf(err)
		code, failed = class.String(), items
	}
	l.failed.Add(float64(failed))
	l.purged.Add(float64(items - failed))
	l.m.requests.WithLabelValues(l.sink, code).Inc()
	l.m.seconds.WithLabelValues(l.sink).Observe(took.Seconds())
}

func (l *laneMetrics) flush(reason string) { l.m.flushes.WithLabelValues(l.sink, reason).Inc() }

func (l *laneMetrics) enter(s State) {
	for _, each := range states {
		v := 0.0
		if each == s {
			v = 1
		}
		l.m.state.WithLabelValues(l.sink, string(each)).Set(v)
	}
}

func (l *laneMetrics) setStuck(all []machine.Stuck) {
	var values [invalidation.NumKinds]int
	for _, s := range all {
		values[s.Kind] = s.Values
	}
	for kind, n := range values {
		l.m.stuck.WithLabelValues(l.sink, invalidation.Kind(kind).String()).Set(float64(n))
	}
}
