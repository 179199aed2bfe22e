package app

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walpurge/walpurge/cmd/config"
	"github.com/walpurge/walpurge/rules"
)

// hits count what sinks that can tell say about purged keys: a template that
// never meets a key is a wrong one.
type hits struct {
	vec       *prometheus.CounterVec
	published *prometheus.CounterVec
	rules     atomic.Pointer[map[string]ruleHits]
}

type ruleHits struct{ existed, absent prometheus.Counter }

func newHits(reg prometheus.Registerer) *hits {
	h := &hits{vec: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: "walpurge", Name: "purge_hits_total", Help: "Purged keys that existed, and that did not, where the sink can tell.",
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
	h.rules.Store(&of)
}

// count adds to a rule's counters. What is of no rule in force (a manual purge,
// a message of an application, a rule that a reload took away) has none: labels
// are never made of data.
func (h *hits) count(rule string, existed, absent int) {
	if of, found := (*h.rules.Load())[rule]; found {
		of.existed.Add(float64(existed))
		of.absent.Add(float64(absent))
	}
}

// counting is the sink with its hits counted, if it is of a kind that can tell.
func (h *hits) counting(s config.Sink) config.Sink {
	if s.Valkey != nil {
		v := *s.Valkey
		v.Hits = h.count
		if v.Publish.Channel != "" {
			ok, lost := h.published.WithLabelValues(s.Name, "ok"), h.published.WithLabelValues(s.Name, "lost")
			v.Published = func(took bool) {
				if took {
					ok.Inc()
				} else {
					lost.Inc()
				}
			}
		}
		s.Valkey = &v
	}
	return s
}
