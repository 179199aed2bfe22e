package app

import (
	"maps"
	"sync"
	"time"

	"github.com/walpurge/walpurge/sinks/warm"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/rules"
)

// hits count what sinks that can tell say about purged keys, tags and values: a template that
// never meets one is a wrong one.
type hits struct {
	vec       *prometheus.CounterVec
	published *prometheus.CounterVec

	mu sync.Mutex
	// rules are the counters of the rules in force.
	rules map[string]ruleHits
	// recent are the counts of the last hour.
	recent map[sinkRule]*hourOfHits
}

type ruleHits struct{ existed, absent prometheus.Counter }

// sinkRule is a rule at a sink; values names what is purged there, in the plural.
type sinkRule struct{ sink, rule, values string }

// hourOfHits has a count for each of 60 minutes, by the minute modulo 60.
type hourOfHits [60]minuteOfHits

type minuteOfHits struct {
	minute          int64 // since 1970
	purged, existed uint64
}

func newHits(reg prometheus.Registerer) *hits {
	h := &hits{recent: make(map[sinkRule]*hourOfHits), vec: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "walpurge", Name: "purge_hits_total", Help: "Purged keys, tags and values that existed, and that did not, where the sink can tell.",
	}, []string{"rule", "result"}), published: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "walpurge", Name: "published_total", Help: "Messages about purges for the channel of the sink, which the server took or which are lost.",
	}, []string{"sink", "result"})}
	reg.MustRegister(h.vec, h.published)
	return h
}

// use makes the counters of the rules that are in force.
func (h *hits) use(set *rules.Set) {
	of := make(map[string]ruleHits)
	for _, r := range set.Rules() {
		of[r.Name] = ruleHits{h.vec.WithLabelValues(r.Name, "existed"), h.vec.WithLabelValues(r.Name, "absent")}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.rules = of
	maps.DeleteFunc(h.recent, func(k sinkRule, _ *hourOfHits) bool { _, found := of[k.rule]; return !found })
}

// count adds to a rule's counters. What is of no rule in force (a manual purge,
// a message of an application, a rule that a reload took away) has none: labels
// are never made of data.
func (h *hits) count(at sinkRule, existed, absent int, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	of, found := h.rules[at.rule]
	if !found {
		return
	}
	of.existed.Add(float64(existed))
	of.absent.Add(float64(absent))
	if h.recent[at] == nil {
		h.recent[at] = new(hourOfHits)
	}
	minute := now.Unix() / 60
	m := &h.recent[at][minute%60]
	if m.minute != minute {
		*m = minuteOfHits{minute: minute}
	}
	m.purged += uint64(existed + absent)
	m.existed += uint64(existed)
}

// lastHour sums up the minute that is running and the 59 before it.
func (h *hits) lastHour(now time.Time) (out []status.RuleHits) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for at, hour := range h.recent {
		sum := status.RuleHits{Sink: at.sink, Rule: at.rule, Values: at.values}
		for _, m := range hour {
			if now.Unix()/60-m.minute < 60 {
				sum.Purged += m.purged
				sum.Existed += m.existed
			}
		}
		if sum.Purged > 0 {
			out = append(out, sum)
		}
	}
	return out
}

// sinkObserver counts what one sink reports beside the results of its purges.
type sinkObserver struct {
	hits *hits
	sink string
	// pages remembers pages that the sink had; nil where no warm sink wants to know.
	pages *warm.Hot
}

// Hits implements sinks.Observer.
func (o sinkObserver) Hits(values string) func(rule string, existed, absent int) {
	return func(rule string, existed, absent int) {
		o.hits.count(sinkRule{o.sink, rule, values}, existed, absent, time.Now())
	}
}

// Published implements sinks.Observer. Both counters exist from then on.
func (o sinkObserver) Published() func(ok bool) {
	accepted, lost := o.hits.published.WithLabelValues(o.sink, "ok"), o.hits.published.WithLabelValues(o.sink, "lost")
	return func(ok bool) {
		if ok {
			accepted.Inc()
		} else {
			lost.Inc()
		}
	}
}

// Pages implements sinks.Observer.
func (o sinkObserver) Pages() func(url string, existed bool) {
	if o.pages == nil {
		return nil
	}
	return func(url string, existed bool) {
		if existed {
			o.pages.Had(o.sink, url)
		}
	}
}
