package warm

import (
	"errors"
	"strconv"
	"time"

	"context"

	"github.com/prometheus/client_golang/prometheus"
)

// What becomes of a page, as the metric names it.
const (
	resultWarmed   = "warmed"    // every request had a response for a visitor
	resultFailed   = "failed"    // a request had none
	resultTooOld   = "too_old"   // it waited for longer than max_age
	resultNoRoom   = "no_room"   // too many pages waited
	resultNotValid = "not_valid" // the value is not a URL
	resultNotHot   = "not_hot"   // the edge had no such page when it purged it
	resultRaced    = "raced"     // it was purged while it was fetched, so it was purged once more
	resultShadow   = "shadow"    // the sink is only watched
)

var results = []string{resultWarmed, resultFailed, resultTooOld, resultNoRoom, resultNotValid, resultNotHot, resultRaced, resultShadow}

// Metrics are those of all lanes of a pipeline.
type Metrics struct {
	pages    *prometheus.CounterVec
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	waiting  *prometheus.GaugeVec
}

// NewMetrics registers the metrics of lanes.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		pages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "walpurge", Name: "warm_pages_total", Help: "Pages that a warm sink was sent, by what became of them.",
		}, []string{"sink", "result"}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "walpurge", Name: "warm_requests_total", Help: "Requests of a warm sink, by the class of the response.",
		}, []string{"sink", "code"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "walpurge", Name: "warm_request_seconds", Help: "Duration of one request of a warm sink.",
			Buckets: []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}, NativeHistogramBucketFactor: 1.1,
			NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"sink"}),
		waiting: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "walpurge", Name: "warm_waiting", Help: "Pages that wait to be fetched by a warm sink.",
		}, []string{"sink"}),
	}
	reg.MustRegister(m.pages, m.requests, m.seconds, m.waiting)
	return m
}

// laneMetrics are those of one lane.
type laneMetrics struct {
	pages    map[string]prometheus.Counter
	requests map[string]prometheus.Counter
	seconds  prometheus.Observer
	waiting  prometheus.Gauge
}

const (
	codeError   = "error"
	codeTimeout = "timeout"
)

func (m *Metrics) lane(sink string) *laneMetrics {
	l := &laneMetrics{pages: map[string]prometheus.Counter{}, requests: map[string]prometheus.Counter{}, seconds: m.seconds.WithLabelValues(sink), waiting: m.waiting.WithLabelValues(sink)}
	// The first of a kind is then an increase.
	for _, r := range results {
		l.pages[r] = m.pages.WithLabelValues(sink, r)
	}
	for _, code := range []string{"1xx", "2xx", "3xx", "4xx", "5xx", codeError, codeTimeout} {
		l.requests[code] = m.requests.WithLabelValues(sink, code)
	}
	return l
}

func (l *laneMetrics) request(took time.Duration, a Answer, err error) {
	code := codeError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		code = codeTimeout
	case err == nil && a.Status >= 100 && a.Status < 600:
		code = strconv.Itoa(a.Status/100) + "xx"
	}
	l.requests[code].Inc()
	l.seconds.Observe(took.Seconds())
}
