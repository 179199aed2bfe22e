package app

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walpurge/walpurge/cmd/status"
	"github.com/walpurge/walpurge/rules"
	"github.com/walpurge/walpurge/rules/invalidation"
)

// Hits are judged over an hour that slides, by sink, and for rules in force only.
func TestHitsOfAnHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		load := func(names ...string) *rules.Set {
			text := "rules:\n"
			for _, n := range names {
				text += "  - {name: " + n + ", table: public.t, keys: [\"" + n + ":{id}\"]}\n"
			}
			set, err := rules.Parse("rules.yaml", []byte(text), rules.Options{Sinks: []rules.SinkSpec{{Name: "cache", Takes: invalidation.Kinds(invalidation.Key)}}})
			require.NoError(t, err)
			return set
		}
		h := newHits(prometheus.NewRegistry())
		h.use(load("good", "bad"))
		cache := sinkObserver{hits: h, sink: "cache"}.Hits("keys")
		other := sinkObserver{hits: h, sink: "other"}.Hits("keys")
		suspects := func() (rules []string) {
			for _, s := range status.Suspicions(h.lastHour(time.Now())) {
				rules = append(rules, s.Sink+" "+s.Rule)
			}
			return rules
		}

		cache("good", 20, 80)
		cache("bad", 0, 600)
		other("bad", 0, 5000)
		cache("manual", 0, 5000)
		require.Empty(t, suspects())
		time.Sleep(40 * time.Minute)
		cache("good", 20, 80)
		cache("bad", 1, 399)
		require.Equal(t, []string{"cache bad"}, suspects())
		time.Sleep(30 * time.Minute)
		require.Empty(t, suspects(), "the first 600 are more than an hour old")
		cache("bad", 0, 600)
		require.Equal(t, []string{"cache bad"}, suspects())
		cache("bad", 10, 0)
		require.Empty(t, suspects(), "1 % existed")
		cache("bad", 0, 3000)
		require.Equal(t, []string{"cache bad"}, suspects())

		h.use(load("good"))
		require.Empty(t, suspects(), "the rule is gone")
		h.use(load("good", "bad"))
		require.Empty(t, suspects(), "a new rule of the name begins at 0")
		cache("bad", 0, 1000)
		require.Equal(t, []string{"cache bad"}, suspects())
		time.Sleep(2 * time.Hour)
		require.Empty(t, h.lastHour(time.Now()))
	})
}
