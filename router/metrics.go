package router

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cdc"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Metrics are the router's counters. Labels are names from the configuration,
// never data.
type Metrics struct {
	changes       *prometheus.CounterVec
	matches       *prometheus.CounterVec
	errors        *prometheus.CounterVec
	unknown       *prometheus.CounterVec
	perRule       *prometheus.CounterVec
	invalidations *prometheus.CounterVec
	gaps          *prometheus.CounterVec
	tableGaps     *prometheus.CounterVec
	lookups       prometheus.Histogram
	collapsed     *prometheus.CounterVec
	streamed      *prometheus.CounterVec
}

// What becomes of transactions that are read before they end.
const (
	committed  = "committed"
	rolledBack = "rolled_back"
	coarsened  = "coarsened"
)

// NewMetrics registers the router's metrics.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		v := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "walpurge", Name: name, Help: help}, labels)
		reg.MustRegister(v)
		return v
	}
	m := &Metrics{
		changes:       vec("changes_total", "Row changes read of tables that rules watch.", "table", "op"),
		matches:       vec("rule_matches_total", "Changes that a rule matched.", "rule"),
		errors:        vec("rule_errors_total", "Changes for which a rule's condition or value failed, and messages with something that cannot be purged.", "rule"),
		unknown:       vec("rule_unknown_total", "Changes for which a rule could not build a value, or one was too long for a sink.", "rule"),
		perRule:       vec("rule_invalidations_total", "Values that a rule invalidated at a sink, before deduplication.", "rule", "sink"),
		invalidations: vec("invalidations_total", "Values invalidated at a sink, before deduplication.", "sink", "kind"),
		gaps:          vec("gaps_total", "Breaks in the line after which sinks were flushed; reason table: only what rules derive from some tables.", "reason"),
		tableGaps:     vec("table_gaps_total", "Gaps of reason table by their cause: what happened to the tables without row events.", "cause"),
		collapsed:     vec("collapsed_total", "Values that coarser ones were purged instead of.", "rule", "sink"),
		streamed:      vec("streamed_transactions_total", "Large transactions read before they ended; coarsened: everything was purged that rules derive from their tables.", "outcome"),
	}
	m.lookups = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: "walpurge", Name: "lookup_seconds", Help: "How long the reader waited for the answers to one batch of lookups.",
		Buckets: prometheus.ExponentialBuckets(0.0005, 4, 9),
	})
	reg.MustRegister(m.lookups)
	for _, reason := range cdc.GapReasons() {
		m.gaps.WithLabelValues(string(reason))
	}
	for _, cause := range cdc.TableCauses() {
		m.tableGaps.WithLabelValues(string(cause))
	}
	for _, outcome := range []string{committed, rolledBack, coarsened} {
		m.streamed.WithLabelValues(outcome)
	}
	return m
}

// Collapsed counts values of a rule that coarser ones were purged instead of, in
// a transaction or in a lane's backlog.
func (m *Metrics) Collapsed(rule, sink string, values int) {
	m.collapsed.WithLabelValues(rule, sink).Add(float64(values))
}

// Gap counts a gap.
func (m *Metrics) Gap(reason cdc.GapReason) { m.gaps.WithLabelValues(string(reason)).Inc() }

func (m *Metrics) tableGap(causes []cdc.TableCause) {
	m.Gap(cdc.GapTable)
	for _, cause := range causes {
		m.tableGaps.WithLabelValues(string(cause)).Inc()
	}
}

// opCounters count the changes of one table by operation.
type opCounters [cdc.Truncate + 1]prometheus.Counter

// counters are the metrics of one set of rules, looked up once.
type counters struct {
	m             *Metrics
	tables        map[string]*opCounters // by the name that rules give the table
	verdicts      [][]prometheus.Counter // rule, verdict
	perRule       [][]prometheus.Counter // rule, sink
	invalidations [][]prometheus.Counter // sink, kind
}

func (m *Metrics) counters(set *rules.Set, sinks []string) *counters {
	c := &counters{m: m, tables: make(map[string]*opCounters)}
	names := set.Patterns()
	for _, t := range set.Tables() {
		names = append(names, t.String())
	}
	for _, name := range names {
		ops := new(opCounters)
		for op := cdc.Insert; op <= cdc.Truncate; op++ {
			ops[op] = m.changes.WithLabelValues(name, op.String())
		}
		c.tables[name] = ops
	}
	for _, r := range set.Rules() {
		unknown := m.unknown.WithLabelValues(r.Name)
		c.verdicts = append(c.verdicts, []prometheus.Counter{
			rules.Matched: m.matches.WithLabelValues(r.Name), rules.UnknownCondition: unknown,
			rules.UnknownValue: unknown, rules.Failed: m.errors.WithLabelValues(r.Name),
		})
		row := make([]prometheus.Counter, len(sinks))
		for i, sink := range sinks {
			row[i] = m.perRule.WithLabelValues(r.Name, sink)
			m.collapsed.WithLabelValues(r.Name, sink) // 0 is something to say
		}
		c.perRule = append(c.perRule, row)
	}
	for _, sink := range sinks {
		row := make([]prometheus.Counter, invalidation.NumKinds)
		for k := range row {
			row[k] = m.invalidations.WithLabelValues(sink, invalidation.Kind(k).String())
		}
		c.invalidations = append(c.invalidations, row)
	}
	return c
}

func (c *counters) verdict(rule int, v rules.Verdict) { c.verdicts[rule][v].Inc() }

func (c *counters) invalidation(rule, sink int, k invalidation.Kind) {
	c.perRule[rule][sink].Inc()
	c.invalidations[sink][k].Inc()
}
